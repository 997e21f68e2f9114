//! Finds the result of a compile: reads the trail of its query, finds the observation set that still
//! holds, and reads the result of the action that this set leads to.
//!
//! This starts no process and deletes nothing. A set holds only if all of its observations do. An
//! observation that cannot be made, because a file cannot be read, is an error; it never counts as
//! equal (STO-08).

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use kache_cas::Digest;
use kache_cas::{AccessKind, ActionCache};

use super::error::LookupError;
use super::origin::{ResultOrigin, Uploads, result_of};
use super::outcome::{Difference, LookupMiss, LookupOutcome};
use super::quarantine::is_quarantined;
use super::trails::{learn, read_trail, read_uploaded_trail};
use crate::action::{
    CallEnv, Observable, Observation, ObservationSet, PathSet, PathSets, SETS_MAX, Task, Trail, names_digest,
};
use crate::inputs::{FileState, World};
use crate::roles::{Form, Role, RolePath};

/// The environment of a call.
pub type Env<'a> = &'a dyn CallEnv;

/// From this position on, a set that is used is moved to the front of its trail, so that it is not
/// dropped next. Sets before it stay where they are, so that most hits need not write.
const PROMOTED_FROM: usize = SETS_MAX / 2;

/// Looks up the result of a compile: first by the trail of this machine, and then, if uploads are
/// trusted, by an uploaded trail.
pub fn find(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    actions: &dyn ActionCache,
    uploads: Uploads,
) -> Result<LookupOutcome, LookupError> {
    let view = WorldView::new(task, env, world);
    let made_here = read_trail(actions, &task.query, AccessKind::Use)?;
    let outcome = made_here.map(|trail| find_by(&trail, &view, actions, uploads)).transpose()?;
    let outcome = outcome.unwrap_or(LookupOutcome::Miss(LookupMiss::NewQuery));
    if uploads == Uploads::Ignored || matches!(outcome, LookupOutcome::Hit { .. }) {
        return Ok(outcome);
    }
    if let Some(trail) = read_uploaded_trail(actions, &task.query)?
        && let hit @ LookupOutcome::Hit { .. } = find_by(&trail, &view, actions, uploads)?
    {
        return Ok(hit);
    }
    Ok(outcome)
}

/// Returns the result of the first set of a trail that holds. On a miss, the reason names the
/// differences from the nearest set, which is the one with the fewest.
fn find_by(
    trail: &Trail,
    view: &WorldView<'_>,
    actions: &dyn ActionCache,
    uploads: Uploads,
) -> Result<LookupOutcome, LookupError> {
    let mut nearest: Option<Vec<Difference>> = None;
    for (index, set) in trail.sets.iter().enumerate() {
        // A set with at least as many differences as the nearest one so far is given up early, which
        // saves looking at its files.
        let fewest = nearest.as_ref().map_or(usize::MAX, Vec::len);
        let Some(differences) = view.differences(set, fewest)? else { continue };
        if !differences.is_empty() {
            nearest = Some(differences);
            continue;
        }
        let outcome = fetch(set, actions, uploads)?;
        let is_own = matches!(
            outcome,
            LookupOutcome::Hit { origin: ResultOrigin::MadeHere | ResultOrigin::Fetched, .. }
        );
        if index >= PROMOTED_FROM && is_own {
            learn(actions, &view.task.query, set.clone())?;
        }
        return Ok(outcome);
    }
    Ok(LookupOutcome::Miss(nearest.map_or(LookupMiss::NewQuery, LookupMiss::Changed)))
}

/// Makes the observations of the query's newest set again. If two calls of one query get different
/// values, they compile different sources. Returns no observation if the query has no set; leaves out
/// those that cannot be made in this checkout.
pub fn observe_newest_set(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    actions: &dyn ActionCache,
) -> Result<Vec<Observation>, LookupError> {
    let Some(trail) = read_trail(actions, &task.query, AccessKind::Peek)? else { return Ok(Vec::new()) };
    let view = WorldView::new(task, env, world);
    let newest = trail.sets.first().map(|set| &*set.observations).unwrap_or_default();
    newest.iter().filter_map(|before| view.observe_again(before).transpose()).collect()
}

/// Whether this call makes the same observations now. They were made by another call of the query,
/// with [`observe_newest_set`].
pub fn are_current(
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
    observations: &[Observation],
) -> Result<bool, LookupError> {
    let view = WorldView::new(task, env, world);
    for observation in observations {
        if view.observe_again(observation)?.as_ref() != Some(observation) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the observations that path sets name, and returns them for each set, sorted; `None` for a set with a
/// name that cannot be observed in this checkout, because it has no such root, for example.
pub fn observe_path_sets(
    sets: &PathSets,
    task: &Task,
    env: Env<'_>,
    world: &dyn World,
) -> Result<Vec<Option<Vec<Observation>>>, LookupError> {
    let view = WorldView::new(task, env, world);
    let observe_set = |set: &PathSet| {
        let observed: Result<Option<Vec<Observation>>, LookupError> =
            set.names().iter().map(|name| view.observe(name)).collect();
        Ok(observed?.map(|mut observations| {
            observations.sort();
            observations.dedup();
            observations
        }))
    };
    sets.sets.iter().map(observe_set).collect()
}

fn fetch(
    set: &ObservationSet,
    actions: &dyn ActionCache,
    uploads: Uploads,
) -> Result<LookupOutcome, LookupError> {
    let action = set.action;
    if let Some((stored, origin)) = result_of(actions, &action, uploads, AccessKind::Use)? {
        return Ok(LookupOutcome::Hit { action, result: Box::new(stored.decode()?), origin });
    }
    Ok(LookupOutcome::Miss(match is_quarantined(actions, &action)? {
        Some(_) => LookupMiss::Quarantined(action),
        None => LookupMiss::Evicted(action),
    }))
}

/// Returns the value for this path. It is found only once.
fn cached<T: Clone, E>(
    values: &RefCell<HashMap<RolePath, T>>,
    path: &RolePath,
    find: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if let Some(value) = values.borrow().get(path) {
        return Ok(value.clone());
    }
    let value = find()?;
    values.borrow_mut().insert(path.clone(), value.clone());
    Ok(value)
}

/// The files and variables that one call sees. Each file, listing and link is looked at once, because the sets of one
/// trail mostly name the same files.
struct WorldView<'a> {
    task: &'a Task,
    env: Env<'a>,
    world: &'a dyn World,
    files: RefCell<HashMap<RolePath, Option<FileState>>>,
    listings: RefCell<HashMap<RolePath, Option<Digest>>>,
    links: RefCell<HashMap<RolePath, Option<Vec<u8>>>>,
}

impl<'a> WorldView<'a> {
    fn new(task: &'a Task, env: Env<'a>, world: &'a dyn World) -> WorldView<'a> {
        WorldView {
            task,
            env,
            world,
            files: RefCell::default(),
            listings: RefCell::default(),
            links: RefCell::default(),
        }
    }

    /// Returns the differences between a set and the world; `None` if there are `limit` or more.
    fn differences(
        &self,
        set: &ObservationSet,
        limit: usize,
    ) -> Result<Option<Vec<Difference>>, LookupError> {
        let mut differences = Vec::new();
        for before in &set.observations {
            let now = self.observe_again(before)?;
            if now.as_ref() == Some(before) {
                continue;
            }
            differences.push(Difference { before: before.clone(), now });
            if differences.len() >= limit {
                return Ok(None);
            }
        }
        Ok(Some(differences))
    }

    /// Makes an observation again. `None` if it cannot be made in this checkout, because it has no such
    /// root, for example.
    fn observe_again(&self, before: &Observation) -> Result<Option<Observation>, LookupError> {
        Ok(match before {
            Observation::File { path, .. }
            | Observation::Absent { path }
            | Observation::Directory { path } => self.file(path)?,
            Observation::Listing { path, .. } => self.listing(path)?,
            Observation::Env { name, value } => Some(self.variable(name, value.as_deref())),
            Observation::Environment { .. } => {
                Some(Observation::Environment { digest: names_digest(self.env, self.task.query.function) })
            }
            Observation::Link { path, text } => self.link(path, text.is_empty())?,
            Observation::Root { role, up, is_real, .. } => self.root(*role, *up, *is_real),
            Observation::Presentation { .. } => {
                Some(Observation::Presentation { options: self.task.presentation.clone() })
            }
        })
    }

    /// Makes an observation for the first time. `None` if it cannot be made in this checkout.
    fn observe(&self, name: &Observable) -> Result<Option<Observation>, LookupError> {
        Ok(match name {
            Observable::State { path } => self.file(path)?,
            Observable::Listing { path } => self.listing(path)?,
            Observable::Env { name, is_locator } => self.first_value(name, *is_locator),
            Observable::Environment => {
                Some(Observation::Environment { digest: names_digest(self.env, self.task.query.function) })
            }
            Observable::Link { path } => self.link(path, true)?,
            Observable::Root { role, up, is_real } => self.root(*role, *up, *is_real),
            Observable::Presentation => {
                Some(Observation::Presentation { options: self.task.presentation.clone() })
            }
        })
    }

    fn first_value(&self, name: &str, is_locator: bool) -> Option<Observation> {
        let value = match self.env.value(name) {
            Some(value) if is_locator => Some(self.task.roots.generalise(&value, Form::Value)?),
            value => value,
        };
        Some(Observation::Env { name: name.to_owned(), value })
    }

    /// Observes the path of a root, or of the directory `up` levels above it.
    fn root(&self, role: Role, up: u8, is_real: bool) -> Option<Observation> {
        let dir = self.task.roots.dir_above(role, up)?;
        let path = if is_real { self.world.real(dir)? } else { dir.to_owned() };
        Some(Observation::Root { role, up, is_real, path: path.into_os_string().into_vec() })
    }

    fn file(&self, path: &RolePath) -> Result<Option<Observation>, LookupError> {
        Ok(match cached(&self.files, path, || self.first_state(path))? {
            Some(FileState::File { digest, .. }) => Some(Observation::File { path: path.clone(), digest }),
            Some(FileState::Absent) => Some(Observation::Absent { path: path.clone() }),
            Some(FileState::Directory) => Some(Observation::Directory { path: path.clone() }),
            None => None,
        })
    }

    fn listing(&self, path: &RolePath) -> Result<Option<Observation>, LookupError> {
        let digest = cached(&self.listings, path, || match self.task.roots.locate(path) {
            Some(located) => self.world.listing(&located),
            None => Ok(None),
        })?;
        Ok(digest.map(|digest| Observation::Listing { path: path.clone(), digest }))
    }

    /// The state of a file. A role path may name a file in one of several directories; then the first
    /// file that exists counts.
    fn first_state(&self, path: &RolePath) -> Result<Option<FileState>, LookupError> {
        let Some(candidates) = self.task.roots.locate_all(path) else { return Ok(None) };
        for candidate in &candidates {
            let state = self.state(candidate)?;
            if state != Some(FileState::Absent) {
                return Ok(state);
            }
        }
        Ok(Some(FileState::Absent))
    }

    /// The state of a file; `None` for a symbolic link whose target does not exist. Such a link is
    /// neither a file nor an absence, and its text is observed instead.
    fn state(&self, path: &Path) -> Result<Option<FileState>, LookupError> {
        let state = self.world.state(path)?;
        let is_dangling_link = state == FileState::Absent && self.world.link(path)?.is_some();
        Ok((!is_dangling_link).then_some(state))
    }

    /// Observes a symbolic link; one without a text says that there was no link.
    fn link(&self, path: &RolePath, was_none: bool) -> Result<Option<Observation>, LookupError> {
        let Some(located) = self.task.roots.locate(path) else { return Ok(None) };
        let text = match cached(&self.links, path, || self.world.link(&located))? {
            None => was_none.then(Vec::new),
            Some(text) => self.task.roots.generalise(&text, Form::Value),
        };
        Ok(text.map(|text| Observation::Link { path: path.clone(), text }))
    }

    /// Observes a variable. The value of a locator was stored with stand-ins. If the value now, with
    /// stand-ins, equals `before`, the variable is taken for a locator again; else its plain value is
    /// observed (KEY-07).
    fn variable(&self, name: &str, before: Option<&[u8]>) -> Observation {
        let value = self.env.value(name);
        let with_stand_ins = |value: &Vec<u8>| self.task.roots.generalise(value, Form::Value);
        let value = value.map(|value| match (before, with_stand_ins(&value)) {
            (Some(before), Some(portable)) if before == portable => portable,
            _ => value,
        });
        Observation::Env { name: name.to_owned(), value }
    }
}
