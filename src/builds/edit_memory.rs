//! Remembers which crates of which checkout are being edited, and decides how a compile is run
//! because of that.
//!
//! A crate that is being edited is compiled incrementally, as cargo asked. Its bytes differ from run
//! to run, so the result is good for this checkout alone and is not stored. The result of a crate
//! that uses it is not stored either: its key would contain bytes that no other compile makes again.
//! Both are recognised by the paths of their outputs.
//!
//! Pure: observations of a call and the time arrive as arguments. The memory lives as long as the
//! daemon. After a restart, crates that use an edited crate are compiled without incremental state
//! and stored once, to no use; nothing wrong is served.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::incremental_dir::IncrementalDir;
use crate::pipeline::EditDecision;

/// How long the incremental directory of a crate is kept after the last compile in it, although a
/// unit with this crate's name was restored or stored. That unit may be another one: the crate's
/// test harness, its program, or its `cargo check`.
pub(super) const KEPT_AFTER_EDIT: Duration = Duration::from_secs(60 * 60);

/// How many outputs of edited crates are remembered; the oldest are forgotten first. A workspace of
/// a thousand crates that are all edited at once has five thousand.
const OUTPUTS_MAX: usize = 20_000;

/// How many incremental directories are remembered.
const DIRECTORIES_MAX: usize = 5_000;

/// The facts on which the decision about a compile depends.
#[derive(Clone, Copy, Debug)]
pub(super) struct EditEvidence<'a> {
    /// Whether cargo asked for an incremental compile, and the settings and the kind of crate allow
    /// it.
    pub(super) may_be_incremental: bool,
    /// A source that was edited since the unit was last made in this target directory.
    pub(super) edited: Option<&'a Path>,
    /// The files of the crates that the unit uses.
    pub(super) externs: &'a [PathBuf],
}

/// The outputs and incremental directories of crates that are being edited.
#[derive(Debug, Default)]
pub(super) struct EditMemory {
    /// Outputs that were not stored, each with the time of its compile.
    outputs: HashMap<PathBuf, Instant>,
    directories: HashMap<IncrementalDir, DirUse>,
}

/// How an incremental directory is used.
#[derive(Clone, Copy, Debug)]
struct DirUse {
    /// The number of compilers that use it now.
    running: usize,
    /// When a compiler last began or ended in it.
    last: Instant,
}

impl EditMemory {
    /// Decides how to run a compile after a miss.
    pub(super) fn decide(&self, evidence: &EditEvidence<'_>) -> EditDecision {
        let is_incremental = evidence.may_be_incremental;
        if let Some(source) = evidence.edited.filter(|_| is_incremental) {
            return EditDecision::Local { why: format!("`{}` was edited", source.display()), is_incremental };
        }
        match evidence.externs.iter().find(|path| self.outputs.contains_key(*path)) {
            // The result is not stored in any case, so the compile may as well be incremental.
            Some(path) => EditDecision::Local {
                why: format!("it uses {}, which is being edited", name(path)),
                is_incremental,
            },
            None => EditDecision::Shared,
        }
    }

    /// Notes that a compile begins whose outputs are not stored.
    pub(super) fn begin(&mut self, outputs: Vec<PathBuf>, directory: Option<&IncrementalDir>, now: Instant) {
        for output in outputs {
            make_room(&mut self.outputs, OUTPUTS_MAX, |since| Some(*since));
            self.outputs.insert(output, now);
        }
        if let Some(directory) = directory {
            make_room(&mut self.directories, DIRECTORIES_MAX, |dir_use| {
                (dir_use.running == 0).then_some(dir_use.last)
            });
            let new = DirUse { running: 0, last: now };
            let dir_use = self.directories.entry(directory.clone()).or_insert(new);
            *dir_use = DirUse { running: dir_use.running + 1, last: now };
        }
    }

    /// Notes that a compiler in this directory has ended, successfully or not.
    pub(super) fn end(&mut self, directory: &IncrementalDir, now: Instant) {
        if let Some(dir_use) = self.directories.get_mut(directory) {
            *dir_use = DirUse { running: dir_use.running.saturating_sub(1), last: now };
        }
    }

    /// Notes that these outputs come from a result that is stored, or will be. Returns whether any of
    /// them came from an edited crate before.
    pub(super) fn forget_outputs(&mut self, outputs: impl IntoIterator<Item = PathBuf>) -> bool {
        let mut was_edited = false;
        if !self.outputs.is_empty() {
            outputs.into_iter().for_each(|output| was_edited |= self.outputs.remove(&output).is_some());
        }
        was_edited
    }

    /// Whether the state in an incremental directory can be removed, because a unit of its crate was
    /// restored or stored. `was_edited` says that it is the unit which was edited; other units of the
    /// crate have to wait for [`KEPT_AFTER_EDIT`].
    pub(super) fn may_remove_state(
        &self,
        directory: &IncrementalDir,
        was_edited: bool,
        now: Instant,
    ) -> bool {
        let Some(dir_use) = self.directories.get(directory) else { return true };
        let is_over = was_edited || now.saturating_duration_since(dir_use.last) >= KEPT_AFTER_EDIT;
        dir_use.running == 0 && is_over
    }

    /// Forgets an incremental directory whose state is removed.
    pub(super) fn forget_directory(&mut self, directory: &IncrementalDir) {
        self.directories.remove(directory);
    }
}

fn name(path: &Path) -> String {
    format!("`{}`", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// Removes the oldest entry of a map that is full. `age` returns `None` for entries that must stay.
fn make_room<K: Clone + Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    max: usize,
    age: impl Fn(&V) -> Option<Instant>,
) {
    if map.len() < max {
        return;
    }
    let oldest = map.iter().filter_map(|(key, value)| Some((age(value)?, key))).min_by_key(|(age, _)| *age);
    if let Some((_, key)) = oldest {
        let key = key.clone();
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn directory(crate_name: &str) -> IncrementalDir {
        IncrementalDir { dir: "/t/debug/incremental".into(), crate_name: crate_name.to_owned() }
    }

    /// The evidence of a call in which no source was edited.
    fn evidence(externs: &[PathBuf]) -> EditEvidence<'_> {
        EditEvidence { may_be_incremental: true, edited: None, externs }
    }

    fn local(why: &str, is_incremental: bool) -> EditDecision {
        EditDecision::Local { why: why.to_owned(), is_incremental }
    }

    #[test]
    fn an_edited_crate_is_compiled_incrementally() {
        let editing = EditMemory::default();
        let edited = EditEvidence { edited: Some(Path::new("src/a.rs")), ..evidence(&[]) };
        assert_eq!(editing.decide(&edited), local("`src/a.rs` was edited", true));
        assert_eq!(editing.decide(&evidence(&[])), EditDecision::Shared);
        let in_release = EditEvidence { may_be_incremental: false, ..edited };
        assert_eq!(editing.decide(&in_release), EditDecision::Shared, "a release build is not incremental");
    }

    #[test]
    fn a_crate_that_uses_an_edited_one_is_not_stored_either() {
        let mut editing = EditMemory::default();
        editing.begin(paths(&["/t/liba.rmeta", "/t/liba.rlib"]), None, Instant::now());
        let externs = paths(&["/t/libz.rmeta", "/t/liba.rmeta"]);
        let why = "it uses `liba.rmeta`, which is being edited";
        assert_eq!(editing.decide(&evidence(&externs)), local(why, true));
        assert_eq!(
            editing.decide(&EditEvidence { may_be_incremental: false, ..evidence(&externs) }),
            local(why, false)
        );
        assert_eq!(editing.decide(&evidence(&externs[..1])), EditDecision::Shared);
        // In another checkout it is another file.
        assert_eq!(editing.decide(&evidence(&paths(&["/u/liba.rmeta"]))), EditDecision::Shared);
    }

    #[test]
    fn a_crate_whose_result_is_stored_is_no_longer_edited() {
        let mut editing = EditMemory::default();
        let outputs = paths(&["/t/liba.rmeta", "/t/liba.rlib"]);
        editing.begin(outputs.clone(), None, Instant::now());
        assert!(editing.forget_outputs(outputs.clone()));
        assert_eq!(editing.decide(&evidence(&outputs)), EditDecision::Shared);
        assert!(!editing.forget_outputs(outputs), "it was forgotten");
    }

    #[test]
    fn an_incremental_directory_stays_while_it_is_used() {
        let (mut editing, begun) = (EditMemory::default(), Instant::now());
        let (app, other) = (directory("app"), directory("other"));
        assert!(editing.may_remove_state(&app, false, begun), "no compiler used it");
        editing.begin(paths(&["/t/libapp.rlib"]), Some(&app), begun);
        editing.begin(paths(&["/t/app"]), Some(&app), begun);
        editing.end(&app, begun);
        let later = begun + 2 * KEPT_AFTER_EDIT;
        assert!(!editing.may_remove_state(&app, true, later), "a compiler runs in it");
        editing.end(&app, later);
        assert!(
            !editing.may_remove_state(&app, false, later + KEPT_AFTER_EDIT / 2),
            "the edited unit may be compiled again"
        );
        assert!(editing.may_remove_state(&app, true, later), "the edited unit itself was stored");
        editing.begin(Vec::new(), Some(&other), begun);
        editing.end(&other, begun);
        assert!(
            editing.may_remove_state(&other, false, begun + KEPT_AFTER_EDIT),
            "the last compile is long ago"
        );
    }

    #[test]
    fn the_number_of_remembered_edits_is_limited() {
        let (mut editing, begun) = (EditMemory::default(), Instant::now());
        let used = directory("used");
        editing.begin(Vec::new(), Some(&used), begun);
        for number in 0..OUTPUTS_MAX as u64 + 10 {
            let now = begun + Duration::from_millis(number);
            let directory = directory(&number.to_string());
            editing.begin(paths(&[&format!("/t/{number}")]), Some(&directory), now);
            editing.end(&directory, now);
        }
        assert_eq!((editing.outputs.len(), editing.directories.len()), (OUTPUTS_MAX, DIRECTORIES_MAX));
        assert!(!editing.outputs.contains_key(Path::new("/t/9")), "the oldest is forgotten");
        assert!(editing.outputs.contains_key(Path::new("/t/10")));
        assert!(!editing.may_remove_state(&used, true, begun), "but not one that a compiler runs in");
    }
}
