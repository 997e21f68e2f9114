//! Which crates of which checkout are being edited, and how a compile goes because of it.
//!
//! A crate that is being edited is compiled incrementally, as cargo asked. What comes out
//! differs from run to run, so it is this checkout's alone: it is not stored, and neither is
//! what is made of it, whose key would name bytes that no other compile ever makes again.
//! Both are known by the place of their outputs.
//!
//! Pure: what is known of a call and the time come as arguments. It is the daemon's memory
//! and no more: one that has forgotten compiles what depends on an edited crate as a whole,
//! once, and stores what nobody will ask for.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For so long after its last incremental compile a crate's directory is left alone by the
/// results of other units of that name: its test harness, its program, its `cargo check`.
pub(super) const QUIET: Duration = Duration::from_secs(60 * 60);

/// How many outputs are remembered as made from edits; what was made first is forgotten
/// first. A workspace of a thousand crates that are all edited at once has five thousand.
const OUTPUTS_MAX: usize = 20_000;

/// The same for directories.
const DIRECTORIES_MAX: usize = 5_000;

/// What a decision is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Whether cargo named a directory for incremental compiling, and nothing speaks against
    /// using it.
    pub(super) may_be_incremental: bool,
    /// The source that was edited since the unit was last made in this target directory.
    pub(super) edited: Option<&'a Path>,
    /// The crates that it uses.
    pub(super) externs: &'a [PathBuf],
}

/// How a compile goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The result is offered to everybody.
    Shared,
    /// It is good for this checkout alone.
    Own {
        /// Why.
        why: String,
        /// Whether cargo's incremental directory is used.
        is_incremental: bool,
    },
}

/// Where a crate's incremental state lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Directory {
    /// The directory that cargo named.
    pub(super) dir: PathBuf,
    /// The crate, after which its directories in there are named.
    pub(super) crate_name: String,
}

/// What is known of edits.
#[derive(Debug, Default)]
pub(super) struct Editing {
    outputs: HashMap<PathBuf, Instant>,
    directories: HashMap<Directory, Use>,
}

/// How a directory is used.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// So many compilers are in it.
    running: usize,
    last: Instant,
}

impl Editing {
    /// How a compile goes that was not answered.
    pub(super) fn course(&self, facts: &Facts<'_>) -> Course {
        let is_incremental = facts.may_be_incremental;
        if let Some(source) = facts.edited.filter(|_| is_incremental) {
            return Course::Own { why: format!("`{}` was edited", source.display()), is_incremental };
        }
        match facts.externs.iter().find(|path| self.outputs.contains_key(*path)) {
            // Nothing is lost by making it as cargo asked.
            Some(path) => {
                Course::Own { why: format!("it uses {}, which is being edited", name(path)), is_incremental }
            }
            None => Course::Shared,
        }
    }

    /// A compile begins whose outputs are this checkout's alone.
    pub(super) fn begin(&mut self, outputs: Vec<PathBuf>, directory: Option<&Directory>, now: Instant) {
        for output in outputs {
            make_room(&mut self.outputs, OUTPUTS_MAX, |since| Some(*since));
            self.outputs.insert(output, now);
        }
        if let Some(directory) = directory {
            make_room(&mut self.directories, DIRECTORIES_MAX, |used| {
                (used.running == 0).then_some(used.last)
            });
            let used = self.directories.entry(directory.clone()).or_insert(Use { running: 0, last: now });
            *used = Use { running: used.running + 1, last: now };
        }
    }

    /// The compiler in this directory has ended, however it did.
    pub(super) fn end(&mut self, directory: &Directory, now: Instant) {
        if let Some(used) = self.directories.get_mut(directory) {
            *used = Use { running: used.running.saturating_sub(1), last: now };
        }
    }

    /// These outputs are everybody's from now on. Whether they were made from edits before.
    pub(super) fn settle(&mut self, outputs: impl IntoIterator<Item = PathBuf>) -> bool {
        let mut was_edited = false;
        if !self.outputs.is_empty() {
            outputs.into_iter().for_each(|output| was_edited |= self.outputs.remove(&output).is_some());
        }
        was_edited
    }

    /// Whether a directory is of no more use, now that a unit of that crate is everybody's
    /// again; `was_edited` says whether it was that unit whose state lies there.
    pub(super) fn is_useless(&mut self, directory: &Directory, was_edited: bool, now: Instant) -> bool {
        let Some(used) = self.directories.get(directory) else { return true };
        let is_over = was_edited || now.saturating_duration_since(used.last) >= QUIET;
        let is_useless = used.running == 0 && is_over;
        if is_useless {
            self.directories.remove(directory);
        }
        is_useless
    }
}

fn name(path: &Path) -> String {
    format!("`{}`", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// Forgets what is oldest where there are too many; `age` is of what may be forgotten.
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

    fn directory(crate_name: &str) -> Directory {
        Directory { dir: "/t/debug/incremental".into(), crate_name: crate_name.to_owned() }
    }

    /// A call in which nothing was edited.
    fn facts(externs: &[PathBuf]) -> Facts<'_> {
        Facts { may_be_incremental: true, edited: None, externs }
    }

    fn own(why: &str, is_incremental: bool) -> Course {
        Course::Own { why: why.to_owned(), is_incremental }
    }

    #[test]
    fn what_is_edited_is_compiled_incrementally() {
        let editing = Editing::default();
        let edited = Facts { edited: Some(Path::new("src/a.rs")), ..facts(&[]) };
        assert_eq!(editing.course(&edited), own("`src/a.rs` was edited", true));
        assert_eq!(editing.course(&facts(&[])), Course::Shared);
        let in_release = Facts { may_be_incremental: false, ..edited };
        assert_eq!(editing.course(&in_release), Course::Shared, "or told not to be");
    }

    #[test]
    fn what_uses_an_edited_crate_is_not_shared_either() {
        let mut editing = Editing::default();
        editing.begin(paths(&["/t/liba.rmeta", "/t/liba.rlib"]), None, Instant::now());
        let externs = paths(&["/t/libz.rmeta", "/t/liba.rmeta"]);
        let why = "it uses `liba.rmeta`, which is being edited";
        assert_eq!(editing.course(&facts(&externs)), own(why, true));
        assert_eq!(editing.course(&Facts { may_be_incremental: false, ..facts(&externs) }), own(why, false));
        assert_eq!(editing.course(&facts(&externs[..1])), Course::Shared);
        // In another checkout it is another file.
        assert_eq!(editing.course(&facts(&paths(&["/u/liba.rmeta"]))), Course::Shared);
    }

    #[test]
    fn a_crate_whose_result_is_everybodys_is_no_longer_edited() {
        let mut editing = Editing::default();
        let outputs = paths(&["/t/liba.rmeta", "/t/liba.rlib"]);
        editing.begin(outputs.clone(), None, Instant::now());
        assert!(editing.settle(outputs.clone()));
        assert_eq!(editing.course(&facts(&outputs)), Course::Shared);
        assert!(!editing.settle(outputs), "that is said once");
    }

    #[test]
    fn a_directory_is_left_alone_while_it_is_used() {
        let (mut editing, begun) = (Editing::default(), Instant::now());
        let (app, other) = (directory("app"), directory("other"));
        assert!(editing.is_useless(&app, false, begun), "nobody used it");
        editing.begin(paths(&["/t/libapp.rlib"]), Some(&app), begun);
        editing.begin(paths(&["/t/app"]), Some(&app), begun);
        editing.end(&app, begun);
        let later = begun + 2 * QUIET;
        assert!(!editing.is_useless(&app, true, later), "a compiler is in it");
        editing.end(&app, later);
        assert!(!editing.is_useless(&app, false, later + QUIET / 2), "somebody may go on editing");
        assert!(editing.is_useless(&app, true, later), "who edited it is done");
        editing.begin(Vec::new(), Some(&other), begun);
        editing.end(&other, begun);
        assert!(editing.is_useless(&other, false, begun + QUIET), "nobody has for long");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut editing, begun) = (Editing::default(), Instant::now());
        let used = directory("used");
        editing.begin(Vec::new(), Some(&used), begun);
        for number in 0..OUTPUTS_MAX as u64 + 10 {
            let now = begun + Duration::from_millis(number);
            let directory = directory(&number.to_string());
            editing.begin(paths(&[&format!("/t/{number}")]), Some(&directory), now);
            editing.end(&directory, now);
        }
        assert_eq!((editing.outputs.len(), editing.directories.len()), (OUTPUTS_MAX, DIRECTORIES_MAX));
        assert!(!editing.outputs.contains_key(Path::new("/t/9")), "the oldest goes");
        assert!(editing.outputs.contains_key(Path::new("/t/10")));
        assert!(!editing.is_useless(&used, true, begun), "but not one that a compiler is in");
    }
}
