//! From a place that a compile looked at to observations: one for each name by which another
//! checkout would come by it.
//!
//! `roles/places.rs` says which names a place has by the text of its path. Here the names are held
//! against the file system, since `..` behind a link leads elsewhere than by name.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use super::observe::Trouble;
use super::refusal::Refusal;
use crate::action::{Observation, Task};
use crate::inputs::{FileState, World};
use crate::roles::{Places, Role, RolePath, normalise};

/// Makes an observation of a place by its name.
pub(super) type Make<'m> = &'m dyn Fn(RolePath) -> Observation;

/// Names places of one compile.
#[derive(Clone, Copy)]
pub(super) struct Namer<'a> {
    pub(super) task: &'a Task,
    pub(super) world: &'a dyn World,
}

impl Namer<'_> {
    /// Of a place that the dep-info names. The dep-info goes to other checkouts as it is written, so
    /// where the text does not tell how the place was come by, the result stays where that makes no
    /// difference.
    pub(super) fn of_dep_info(&self, text: &Path, make: Make<'_>) -> Result<Vec<Observation>, Trouble> {
        let mut observations = Vec::new();
        match self.task.roots.places(&self.task.cwd, text) {
            places if !self.is_by_name(text, &places) => {
                let what = format!("`{}`, which goes upwards behind a link,", text.display());
                return Err(Refusal::Unspeakable(what).into());
            }
            Places::Told(names) => observations.extend(names.into_iter().map(make)),
            Places::Untold { absolute, relative } => {
                observations.push(make(absolute));
                for name in relative {
                    self.bind(name.role(), name.up(), &mut observations);
                    if !self.is_found_by(text, &name) {
                        self.bind_root(name.role(), &mut observations);
                    }
                }
            }
        }
        Ok(observations)
    }

    /// Of a place that was asked for by these texts, which all mean the path. What a text says that
    /// goes upwards behind a link is left to the path: the link counts by itself.
    pub(super) fn of_asked(
        &self,
        path: &Path,
        texts: &[&Path],
        make: Make<'_>,
    ) -> Result<Vec<Observation>, Trouble> {
        let mut observations = Vec::new();
        for text in texts {
            let mut places = self.task.roots.places(&self.task.cwd, text);
            if !self.is_by_name(text, &places) {
                places = self.task.roots.places(&self.task.cwd, path);
            }
            match places {
                Places::Told(names) => observations.extend(names.into_iter().map(make)),
                Places::Untold { absolute, relative } => {
                    observations.push(make(absolute));
                    self.searched(path, relative, make, &mut observations)?;
                }
            }
        }
        observations.sort();
        observations.dedup();
        Ok(observations)
    }

    /// Of a place that an upward search from any root may have come by.
    pub(super) fn searched(
        &self,
        path: &Path,
        names: Vec<RolePath>,
        make: Make<'_>,
        observations: &mut Vec<Observation>,
    ) -> Result<(), Trouble> {
        for name in names {
            if !self.is_found_by(path, &name) {
                self.bind_root(name.role(), observations);
                continue;
            }
            if self.task.roots.depth(name.role()) == Some(usize::from(name.up())) {
                // The search has come to the root of the file system. Where nothing was found, a
                // search from another depth looks at the same name in other directories; where
                // something was, it has to be as far away.
                let is_absence = matches!(make(name.clone()), Observation::Absent { .. });
                let everywhere = RolePath::everywhere_above(name.role(), name.rest());
                if let Some(everywhere) = everywhere.filter(|_| is_absence)
                    && self.is_nowhere(&everywhere)?
                {
                    observations.push(make(everywhere));
                    continue;
                }
                self.bind(name.role(), name.up(), observations);
            }
            observations.push(make(name));
        }
        Ok(())
    }

    /// Whether a text leads by `..` to where its names do, which it does not behind a link.
    fn is_by_name(&self, text: &Path, places: &Places) -> bool {
        if !text.components().any(|part| part == Component::ParentDir) {
            return true;
        }
        match places {
            Places::Told(names) => names.iter().all(|name| self.is_found_by(text, name)),
            Places::Untold { absolute, .. } => self.is_found_by(text, absolute),
        }
    }

    /// The directory that lies so many levels above a root has to be where it is.
    fn bind(&self, role: Role, up: u8, observations: &mut Vec<Observation>) {
        let dir = self.task.roots.dir_above(role, up);
        observations.extend(dir.map(|dir| Observation::Root {
            role,
            up,
            is_real: false,
            path: dir.as_os_str().as_bytes().to_vec(),
        }));
    }

    /// A root has to be where it is, and to lead where it leads.
    fn bind_root(&self, role: Role, observations: &mut Vec<Observation>) {
        self.bind(role, 0, observations);
        let real = self.task.roots.dir(role).and_then(|dir| self.world.real(dir));
        observations.extend(real.map(|real| Observation::Root {
            role,
            up: 0,
            is_real: true,
            path: real.as_os_str().as_bytes().to_vec(),
        }));
    }

    fn is_nowhere(&self, everywhere: &RolePath) -> Result<bool, Trouble> {
        for place in self.task.roots.locate_all(everywhere).unwrap_or_default() {
            if self.world.state(&place)? != FileState::Absent {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a name leads to the same place as a path, with all links followed.
    fn is_found_by(&self, path: &Path, name: &RolePath) -> bool {
        let Some(place) = self.task.roots.locate(name) else { return false };
        let path = self.task.cwd.join(path);
        if place == path {
            return true;
        }
        match (self.world.real(&path), self.world.real(&place)) {
            (None, None) => {
                // Nothing is there. Where the directory is not there either, nothing tells them apart.
                let above = |path: &Path| path.parent().and_then(|dir| self.world.real(dir));
                match (above(&path), above(&place)) {
                    (None, None) => normalise(&path) == normalise(&place),
                    (one, other) => one == other,
                }
            }
            (one, other) => one == other,
        }
    }
}
