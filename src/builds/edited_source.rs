//! Tells whether the sources of a crate were edited, or came from a commit, since the crate was last
//! made in this target directory.
//!
//! Other checkouts may have committed sources too, so their result is worth storing; no other
//! checkout has sources that are being edited. The dep-info of the last compile names the sources.
//! git updates its log of `HEAD` after it has written the files of a commit, so a source with a later
//! change time was not written by git.
//!
//! The answer is a guess from dates, and nothing but speed depends on it. If it is wrong, a crate is
//! compiled from scratch that could have been compiled incrementally, or a result is not stored.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::action::{OutputKind, Task};
use crate::outputs::dep_info::DepInfo;
use crate::roles::Role;

/// Seconds and nanoseconds since 1970.
type Moment = (i64, i64);

/// Returns a source that was edited since this unit was last made in this target directory. `None`
/// if no source was edited, or if the unit was never made there.
pub(super) fn edited_source(task: &Task) -> Option<PathBuf> {
    let dep_info = &task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo)?.path;
    let made = modified(&fs::metadata(dep_info).ok()?);
    let info = DepInfo::parse(&fs::read(dep_info).ok()?).ok()?;
    let is_edited = |name: &Vec<u8>| {
        let path = task.cwd.join(OsStr::from_bytes(name));
        let changed = changed(&path).filter(|changed| *changed > made);
        // Sources in the target directory were made by a build script, not by a person.
        changed.is_some()
            && !task.roots.role_path(&task.cwd, &path).is_below(Role::Target)
            && changed > committed(&path)
    };
    let edited = info.files.iter().find(|name| is_edited(name))?;
    Some(PathBuf::from(OsStr::from_bytes(edited)))
}

/// When a file was last written or moved. For a file that does not exist, when the nearest directory
/// above it was changed, which is no earlier than the removal.
fn changed(path: &Path) -> Option<Moment> {
    let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok())?;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

fn modified(metadata: &Metadata) -> Moment {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// When the repository that contains this file last checked out another commit; `None` outside of a
/// repository.
fn committed(path: &Path) -> Option<Moment> {
    let git = path.ancestors().skip(1).find_map(|dir| git_dir(&dir.join(".git")))?;
    // The worktrees of a bare repository keep no log. Their index is written last. It is second
    // choice, because `git add` writes it, too.
    let marks = [git.join("logs/HEAD"), git.join("index")];
    marks.iter().find_map(|mark| fs::metadata(mark).ok()).as_ref().map(modified)
}

/// The git directory at this path, or the one that a `.git` file of a worktree or submodule names.
fn git_dir(path: &Path) -> Option<PathBuf> {
    match fs::read(path) {
        Ok(text) => {
            let dir = text.trim_ascii().strip_prefix(b"gitdir: ")?;
            Some(path.parent()?.join(OsStr::from_bytes(dir)))
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Some(path.to_owned()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn date(path: &Path, from_now_s: i64) {
        let distance = Duration::from_secs(from_now_s.unsigned_abs());
        let now = SystemTime::now();
        let time = if from_now_s < 0 { now - distance } else { now + distance };
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn is_edit(path: &Path) -> bool {
        changed(path) > committed(path)
    }

    #[test]
    fn a_file_that_was_written_after_head_moved_is_an_edit() {
        let dir = tempfile::tempdir().unwrap();
        let (repository, worktree) = (dir.path().join("repo"), dir.path().join("tree"));
        let source = repository.join("src/lib.rs");
        write(&source, "");
        assert!(is_edit(&source), "there is no repository");
        let log = repository.join(".git/logs/HEAD");
        write(&log, "");
        date(&log, -100);
        assert!(is_edit(&source));
        // The index is written when something is only staged.
        write(&repository.join(".git/index"), "");
        date(&repository.join(".git/index"), 100);
        assert!(is_edit(&source));
        date(&log, 100);
        assert!(!is_edit(&source));
        assert!(!is_edit(&repository.join("src/gone/mod.rs")), "a commit has removed the file");
        date(&log, -100);
        assert!(is_edit(&repository.join("src/gone/mod.rs")));

        // A worktree is at a commit of its own, and in a bare repository it has no log.
        let source = worktree.join("lib.rs");
        write(&source, "");
        write(&worktree.join(".git"), "gitdir: ../repo/.git/worktrees/tree\n");
        let index = repository.join(".git/worktrees/tree/index");
        write(&index, "");
        date(&index, 100);
        assert!(!is_edit(&source));
        date(&index, -100);
        assert!(is_edit(&source));
    }
}
