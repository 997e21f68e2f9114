//! Finding the result of a compile: its query's trail, the set that agrees with the world,
//! the result of the action that this set names.
//!
//! Starts no process and deletes nothing. A set agrees only as a whole; anything that cannot
//! be told is an error, never agreement (STO-08).

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use kache_cas::Digest;
use kache_cas::{AccessKind, ActionCache};

use super::error::LookupError;
use super::origin::{ResultOrigin, Uploads, result_of};
use super::outcome::{Difference, Found, Miss};
use super::quarantine::is_quarantined;
use super::trails::{learn, read_trail, read_uploaded_trail};
use crate::action::{CallEnv, Observation, ObservationSet, SETS_MAX, Task, Trail, names_digest};
use crate::inputs::{FileState, World};
use crate::roles::{Form, Role, RolePath};

/// The variables of a call.
pub type Env<'a> = &'a dyn CallEnv;

/// A set this far back is taken to the front when it is used, so that it is not dropped
/// next. Those before it stay where they are: a hit should not have to write.
const PROMOTED_FROM: usize = SETS_MAX / 2;

/// Looks for a result: by what was learnt here, and then, where uploads are trusted, by what
/// clients have uploaded.
pub fn find(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    actions: &dyn ActionCache,
    uploads: Uploads,
) -> Result<Found, LookupError> {
    let view = View::new(task, env, world);
    let own = read_trail(actions, &task.query, AccessKind::Use)?;
    let found = own.map(|trail| find_by(&trail, &view, actions, uploads)).transpose()?;
    let found = found.unwrap_or(Found::Miss(Miss::NewQuery));
    if uploads == Uploads::Ignored || matches!(found, Found::Hit { .. }) {
        return Ok(found);
    }
    if let Some(trail) = read_uploaded_trail(actions, &task.query)?
        && let hit @ Found::Hit { .. } = find_by(&trail, &view, actions, uploads)?
    {
        return Ok(hit);
    }
    Ok(found)
}

/// The result of the first set of a trail that agrees with the world.
fn find_by(
    trail: &Trail,
    view: &View<'_>,
    actions: &dyn ActionCache,
    uploads: Uploads,
) -> Result<Found, LookupError> {
    let mut nearest: Option<Vec<Difference>> = None;
    for (place, set) in trail.sets.iter().enumerate() {
        let most = nearest.as_ref().map_or(usize::MAX, Vec::len);
        let Some(differences) = view.differences(set, most)? else { continue };
        if !differences.is_empty() {
            nearest = Some(differences);
            continue;
        }
        let found = fetch(set, actions, uploads)?;
        let is_made_here = matches!(found, Found::Hit { origin: ResultOrigin::MadeHere, .. });
        if place >= PROMOTED_FROM && is_made_here {
            learn(actions, &view.task.query, set.clone())?;
        }
        return Ok(found);
    }
    Ok(Found::Miss(nearest.map_or(Miss::NewQuery, Miss::Changed)))
}

/// What the newest run of this query saw, as it is now. A call for which this differs compiles
/// something else.
pub fn outlook(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    actions: &dyn ActionCache,
) -> Result<Vec<Observation>, LookupError> {
    let Some(trail) = read_trail(actions, &task.query, AccessKind::Peek)? else { return Ok(Vec::new()) };
    let view = View::new(task, env, world);
    let newest = trail.sets.first().map(|set| &*set.observations).unwrap_or_default();
    newest.iter().filter_map(|before| view.observe_again(before).transpose()).collect()
}

/// Whether another call's outlook is this one's too.
pub fn shares_outlook(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    outlook: &[Observation],
) -> Result<bool, LookupError> {
    let view = View::new(task, env, world);
    for seen in outlook {
        if view.observe_again(seen)?.as_ref() != Some(seen) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fetch(set: &ObservationSet, actions: &dyn ActionCache, uploads: Uploads) -> Result<Found, LookupError> {
    let action = set.action;
    if let Some((stored, origin)) = result_of(actions, &action, uploads, AccessKind::Use)? {
        return Ok(Found::Hit { action, result: Box::new(stored.decode()?), origin });
    }
    Ok(Found::Miss(match is_quarantined(actions, &action)? {
        Some(_) => Miss::Quarantined(action),
        None => Miss::Evicted(action),
    }))
}

/// The world as one call sees it. What was looked at once is remembered: sets of one trail
/// mostly name the same files.
struct View<'a> {
    task: &'a Task,
    env: Env<'a>,
    world: &'a dyn World,
    files: RefCell<HashMap<RolePath, Option<FileState>>>,
    listings: RefCell<HashMap<RolePath, Option<Digest>>>,
}

impl<'a> View<'a> {
    fn new(task: &'a Task, env: Env<'a>, world: &'a dyn World) -> View<'a> {
        View { task, env, world, files: RefCell::default(), listings: RefCell::default() }
    }

    /// How the world differs from this set, or `None` when that is in `most` ways or more.
    fn differences(&self, set: &ObservationSet, most: usize) -> Result<Option<Vec<Difference>>, LookupError> {
        let mut differences = Vec::new();
        for before in &set.observations {
            let now = self.observe_again(before)?;
            if now.as_ref() == Some(before) {
                continue;
            }
            differences.push(Difference { before: before.clone(), now });
            if differences.len() >= most {
                return Ok(None);
            }
        }
        Ok(Some(differences))
    }

    /// The same observation, made now. `None` where it cannot be made here.
    fn observe_again(&self, before: &Observation) -> Result<Option<Observation>, LookupError> {
        Ok(match before {
            Observation::File { path, .. }
            | Observation::Absent { path }
            | Observation::Directory { path } => self.file(path)?,
            Observation::Listing { path, .. } => self.listing(path)?,
            Observation::Env { name, value } => Some(self.variable(name, value.as_deref())),
            Observation::Environment { .. } => {
                Some(Observation::Environment { digest: names_digest(self.env) })
            }
            Observation::Link { path, .. } => self.link(path)?,
            Observation::Root { role, up, is_real, .. } => self.root(*role, *up, *is_real),
            Observation::Presentation { .. } => {
                Some(Observation::Presentation { options: self.task.presentation.clone() })
            }
        })
    }

    /// Where a root, or the directory that lies so many levels above it, lies here.
    fn root(&self, role: Role, up: u8, is_real: bool) -> Option<Observation> {
        let dir = self.task.roots.dir_above(role, up)?;
        let path = if is_real { self.world.real(dir)? } else { dir.to_owned() };
        Some(Observation::Root { role, up, is_real, path: path.into_os_string().into_vec() })
    }

    fn file(&self, path: &RolePath) -> Result<Option<Observation>, LookupError> {
        let known = self.files.borrow().get(path).copied();
        let state = match known {
            Some(state) => state,
            None => {
                let state = self.first_state(path)?;
                self.files.borrow_mut().insert(path.clone(), state);
                state
            }
        };
        Ok(match state {
            Some(FileState::File { digest, .. }) => Some(Observation::File { path: path.clone(), digest }),
            Some(FileState::Absent) => Some(Observation::Absent { path: path.clone() }),
            Some(FileState::Directory) => Some(Observation::Directory { path: path.clone() }),
            None => None,
        })
    }

    fn listing(&self, path: &RolePath) -> Result<Option<Observation>, LookupError> {
        let known = self.listings.borrow().get(path).copied();
        let digest = match known {
            Some(digest) => digest,
            None => {
                let digest = match self.task.roots.locate(path) {
                    Some(place) => self.world.listing(&place)?,
                    None => None,
                };
                self.listings.borrow_mut().insert(path.clone(), digest);
                digest
            }
        };
        Ok(digest.map(|digest| Observation::Listing { path: path.clone(), digest }))
    }

    /// Looks at a place; where a path stands for several places, the first that is not absent counts.
    fn first_state(&self, path: &RolePath) -> Result<Option<FileState>, LookupError> {
        let Some(places) = self.task.roots.locate_all(path) else { return Ok(None) };
        for place in &places {
            let state = self.state(place)?;
            if state != Some(FileState::Absent) {
                return Ok(state);
            }
        }
        Ok(Some(FileState::Absent))
    }

    /// A link that leads nowhere is neither there nor absent: what it says is observed.
    fn state(&self, place: &Path) -> Result<Option<FileState>, LookupError> {
        let state = self.world.state(place)?;
        let is_nothing = state == FileState::Absent && self.world.link(place)?.is_some();
        Ok((!is_nothing).then_some(state))
    }

    fn link(&self, path: &RolePath) -> Result<Option<Observation>, LookupError> {
        let Some(place) = self.task.roots.locate(path) else { return Ok(None) };
        let text = self.world.link(&place)?;
        let text = text.and_then(|text| self.task.roots.generalise(&text, Form::Value));
        Ok(text.map(|text| Observation::Link { path: path.clone(), text }))
    }

    /// A variable's value as it would be noted now. Where a mere locator was noted, with
    /// stand-ins, a value that has become the same is one again (KEY-07).
    fn variable(&self, name: &str, before: Option<&[u8]>) -> Observation {
        let value = self.env.value(name);
        let general = |value: &Vec<u8>| self.task.roots.generalise(value, Form::Value);
        let value = value.map(|value| match (before, general(&value)) {
            (Some(before), Some(general)) if before == general => general,
            _ => value,
        });
        Observation::Env { name: name.to_owned(), value }
    }
}
