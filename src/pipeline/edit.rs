//! Whether somebody has edited a crate since it was last made here, or has other sources of it
//! from a commit.
//!
//! What is committed others have too, so its result is offered to them; what is being edited
//! nobody else has. The dep-info of the last compile names the sources; and git sets `HEAD`
//! after it has written the files of another commit, so what was written since then was
//! written by somebody else.
//!
//! Dates decide about nothing but time: a wrong guess compiles a crate as a whole that might
//! have been compiled incrementally, or keeps a result from others.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::action::{OutputKind, Task};
use crate::restore::dates::place_of;
use crate::restore::dep_info::DepInfo;
use crate::roles::Role;

/// Seconds and nanoseconds.
type Moment = (i64, i64);

/// A source that was edited since this unit was last made here; none where it never was.
pub(super) fn edited_source(task: &Task) -> Option<PathBuf> {
    let dep_info = task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo)?;
    let dep_info = place_of(task, dep_info);
    let made = modified(&fs::metadata(&dep_info).ok()?);
    let info = DepInfo::parse(&fs::read(&dep_info).ok()?).ok()?;
    let is_edited = |name: &Vec<u8>| {
        let place = task.cwd.join(OsStr::from_bytes(name));
        let changed = changed(&place).filter(|changed| *changed > made);
        // What lies in the target directory a build script has made: nobody edits it.
        changed.is_some()
            && !task.roots.role_path(&task.cwd, &place).is_below(Role::Target)
            && changed > committed(&place)
    };
    let edited = info.files.iter().find(|name| is_edited(name))?;
    Some(PathBuf::from(OsStr::from_bytes(edited)))
}

/// When it was last written, moved or removed.
fn changed(place: &Path) -> Option<Moment> {
    let found = place.ancestors().find_map(|path| fs::metadata(path).ok())?;
    Some((found.ctime(), found.ctime_nsec()))
}

fn modified(found: &Metadata) -> Moment {
    (found.mtime(), found.mtime_nsec())
}

/// When the repository around it last went to another commit; none where there is no
/// repository.
fn committed(place: &Path) -> Option<Moment> {
    let git = place.ancestors().skip(1).find_map(|dir| git_dir(&dir.join(".git")))?;
    // A bare repository's worktrees keep no log, and write the index when they are done.
    let marks = [git.join("logs/HEAD"), git.join("index")];
    marks.iter().find_map(|mark| fs::metadata(mark).ok()).as_ref().map(modified)
}

/// The directory itself, or where the file in its place leads to in a worktree or submodule.
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

    fn is_edit(place: &Path) -> bool {
        changed(place) > committed(place)
    }

    #[test]
    fn what_was_written_after_head_moved_is_an_edit() {
        let dir = tempfile::tempdir().unwrap();
        let (repository, worktree) = (dir.path().join("repo"), dir.path().join("tree"));
        let source = repository.join("src/lib.rs");
        write(&source, "");
        assert!(is_edit(&source), "nobody has committed it");
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
        assert!(!is_edit(&repository.join("src/gone/mod.rs")), "so is what a commit has removed");
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
