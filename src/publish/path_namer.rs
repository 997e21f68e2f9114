//! Turns a path that a compile accessed into observations: one for each path by role under which another
//! checkout may look for the same thing.
//!
//! `roles/path_names.rs` derives these paths from the text of the path alone. This file compares them with the
//! file system, because `..` behind a symbolic link leads somewhere else than the text says. Invariant: if a
//! path by role does not lead to the same file, the result is bound to the path of the root.

use std::path::{Component, Path};

use super::observe::ObserveError;
use super::refusal::Refusal;
use super::scan::RootDir;
use crate::action::{Observation, Task};
use crate::inputs::{FileState, World};
use crate::roles::{PathNames, Role, RolePath, normalise};

/// Makes an observation of a path by role.
pub(super) type MakeObservation<'m> = &'m dyn Fn(RolePath) -> Observation;

/// Finds the paths by role of what one compile accessed.
#[derive(Clone, Copy)]
pub(super) struct PathNamer<'a> {
    pub(super) task: &'a Task,
    pub(super) world: &'a dyn World,
}

impl PathNamer<'_> {
    /// The observations of a path in the dep-info. A hit restores the dep-info with the same text. So if the
    /// text does not show from which root the compiler reached the file, the result is bound to the
    /// directories for which all possible ways lead to the same file.
    pub(super) fn of_dep_info(
        &self,
        text: &Path,
        make: MakeObservation<'_>,
    ) -> Result<Vec<Observation>, ObserveError> {
        let mut observations = Vec::new();
        match self.task.roots.path_names(&self.task.cwd, text) {
            path_names if !self.is_by_name(text, &path_names) => {
                let what = format!("the path `{}`, which has a `..` behind a link,", text.display());
                return Err(Refusal::Unspeakable(what).into());
            }
            PathNames::Certain(names) => observations.extend(names.into_iter().map(make)),
            PathNames::Ambiguous { absolute, relative } => {
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

    /// The observations of a path that the compile accessed by these texts. If a text has a `..` behind a
    /// link, `path` is used in its place; the link has an observation of its own.
    pub(super) fn of_access(
        &self,
        path: &Path,
        texts: &[&Path],
        make: MakeObservation<'_>,
    ) -> Result<Vec<Observation>, ObserveError> {
        let mut observations = Vec::new();
        for text in texts {
            let mut path_names = self.task.roots.path_names(&self.task.cwd, text);
            if !self.is_by_name(text, &path_names) {
                path_names = self.task.roots.path_names(&self.task.cwd, path);
            }
            match path_names {
                PathNames::Certain(names) => observations.extend(names.into_iter().map(make)),
                PathNames::Ambiguous { absolute, relative } => {
                    observations.push(make(absolute));
                    self.searched(path, relative, make, &mut observations)?;
                }
            }
        }
        observations.sort();
        observations.dedup();
        Ok(observations)
    }

    /// Adds the observations of a path that an upward search from any root may have found. `names` are the
    /// paths by role that such searches use.
    pub(super) fn searched(
        &self,
        path: &Path,
        names: Vec<RolePath>,
        make: MakeObservation<'_>,
        observations: &mut Vec<Observation>,
    ) -> Result<(), ObserveError> {
        for name in names {
            if !self.is_found_by(path, &name) {
                self.bind_root(name.role(), observations);
                continue;
            }
            if self.task.roots.depth(name.role()) == Some(usize::from(name.up())) {
                // The search has reached the root of the file system. If it found nothing, a checkout at
                // another depth searches a different number of directories, and the observation is that
                // none of them has the file. If it found something, the other checkout must be at the same
                // depth, so the result is bound.
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

    /// Whether the `..` in a text lead to the same file as its paths by role. They do not behind a link.
    fn is_by_name(&self, text: &Path, path_names: &PathNames) -> bool {
        if !text.components().any(|part| part == Component::ParentDir) {
            return true;
        }
        match path_names {
            PathNames::Certain(names) => names.iter().all(|name| self.is_found_by(text, name)),
            PathNames::Ambiguous { absolute, .. } => self.is_found_by(text, absolute),
        }
    }

    /// Binds the result to the path of the directory so many levels above a root, as the call spells it.
    fn bind(&self, role: Role, up: u8, observations: &mut Vec<Observation>) {
        let dir = RootDir { role, up, is_real: false };
        observations.extend(dir.binding(self.task, self.world));
    }

    /// Binds the result to the path of a root, both as the call spells it and with all links followed.
    fn bind_root(&self, role: Role, observations: &mut Vec<Observation>) {
        self.bind(role, 0, observations);
        let real = RootDir { role, up: 0, is_real: true };
        observations.extend(real.binding(self.task, self.world));
    }

    /// Whether nothing exists at this path in any directory above the root.
    fn is_nowhere(&self, everywhere: &RolePath) -> Result<bool, ObserveError> {
        for place in self.task.roots.locate_all(everywhere).unwrap_or_default() {
            if self.world.state(&place)? != FileState::Absent {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a path by role leads to the same file as a path, with all links followed.
    fn is_found_by(&self, path: &Path, name: &RolePath) -> bool {
        let Some(place) = self.task.roots.locate(name) else { return false };
        let path = self.task.cwd.join(path);
        if place == path {
            return true;
        }
        match (self.world.real(&path), self.world.real(&place)) {
            (None, None) => {
                // Neither exists, so their directories are compared. If these do not exist either, only the
                // texts can be compared.
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
