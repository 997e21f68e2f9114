//! The directories in which rustc keeps incremental state.
//!
//! `-C incremental` names one directory for all crates. In it, rustc makes a directory for each
//! crate, `<crate>-<hash>`, and in that a directory for each session. The name of a session ends
//! with `-working` while a compiler writes to it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::outputs::Staging;

/// How the name of a session's directory ends while its compiler runs.
const WORKING: &[u8] = b"-working";

/// The crate's metadata in a session's directory.
const METADATA: &str = "metadata.rmeta";

/// The incremental state of one crate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct IncrementalDir {
    /// The directory that `-C incremental` names, which other crates use, too.
    pub(super) dir: PathBuf,
    /// The crate, whose directories in there begin with its name.
    pub(super) crate_name: String,
}

/// Removes a crate's incremental state: it may be megabytes that no compiler will use. State that a
/// compiler uses now stays; so does state that cannot be removed. It is removed by way of the client's
/// staging directory: once the client has gone on, a compiler may begin to use it at any moment.
pub(super) fn remove_state(directory: &IncrementalDir, staging: &Staging) {
    for dir in crate_dirs(directory) {
        let is_working = |session: &PathBuf| session.as_os_str().as_bytes().ends_with(WORKING);
        if !subdirectories(&dir).iter().any(is_working) {
            let _ = staging.remove_dir(&dir);
        }
    }
}

/// Gives saved metadata the current date, so that the next compiler does not put metadata with an old
/// date into the target directory.
///
/// If nothing has changed since the last session, rustc hard-links that session's metadata to the
/// output's path, and the output gets the old date. Suppose that another build, or a restore, made
/// the output in between. Crates that were compiled against that one are newer than the old date, so
/// cargo takes them for fresh, which is wrong. Metadata that an output still links to is left alone:
/// its date is right, and other files depend on it. That is the case if its inode has more links
/// than it has names in the sessions.
pub(super) fn redate_metadata(directory: &IncrementalDir, staging: &Staging) {
    let mut saved: HashMap<(u64, u64), (PathBuf, u64, u64)> = HashMap::new();
    for session in crate_dirs(directory).iter().flat_map(subdirectories) {
        let path = session.join(METADATA);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let inode = (metadata.dev(), metadata.ino());
        let (_, names_in_sessions, _) = saved.entry(inode).or_insert((path, 0, metadata.nlink()));
        *names_in_sessions += 1;
    }
    for (path, names_in_sessions, links) in saved.into_values() {
        if names_in_sessions == links {
            let _ = staging.set_date(&path, SystemTime::now());
        }
    }
}

/// The directories of this crate. The prefix is unambiguous, because the name of a crate contains no
/// dash.
fn crate_dirs(directory: &IncrementalDir) -> Vec<PathBuf> {
    let prefix = format!("{}-", directory.crate_name);
    let is_ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix.as_bytes()));
    subdirectories(&directory.dir).into_iter().filter(is_ours).collect()
}

fn subdirectories(dir: &PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    use super::*;

    fn staging(dir: &tempfile::TempDir) -> Staging {
        let made = dir.path().join(".kache-1");
        fs::create_dir_all(&made).unwrap();
        Staging::new(Some(made))
    }

    fn made(names: &[&str]) -> (tempfile::TempDir, IncrementalDir) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let directory = IncrementalDir { dir: dir.path().to_owned(), crate_name: "app".to_owned() };
        (dir, directory)
    }

    #[test]
    fn only_directories_of_the_crate_are_removed() {
        let (dir, directory) = made(&["app-1abc/s-1", "app-2def/s-1", "app_core-1", "apple-1"]);
        remove_state(&directory, &Staging::default());
        assert!(dir.path().join("app-1abc").exists(), "the client has gone on");
        remove_state(&directory, &staging(&dir));
        fs::remove_dir(dir.path().join(".kache-1")).unwrap();
        let left = fs::read_dir(dir.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["app_core-1", "apple-1"]);
    }

    #[test]
    fn a_directory_in_which_a_compiler_works_stays() {
        let (dir, directory) = made(&["app-1/s-1-2-working", "app-1/s-0", "app-2/s-0"]);
        remove_state(&directory, &staging(&dir));
        assert!(dir.path().join("app-1/s-0").exists() && !dir.path().join("app-2").exists());
    }

    #[test]
    fn rst_01_saved_metadata_that_no_output_links_to_gets_a_new_date() {
        let (dir, directory) = made(&["app-1/s-1", "app-1/s-2", "app-2/s-1", "apple-1/s-1"]);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            File::open(&path).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
            path
        };
        let alone = write("app-1/s-1/metadata.rmeta");
        fs::hard_link(&alone, dir.path().join("app-1/s-2/metadata.rmeta")).unwrap();
        let shared = write("app-2/s-1/metadata.rmeta");
        fs::hard_link(&shared, dir.path().join("libapp.rmeta")).unwrap();
        let others = write("apple-1/s-1/metadata.rmeta");
        redate_metadata(&directory, &Staging::default());
        let date = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(date(&alone), old, "the client has gone on");
        redate_metadata(&directory, &staging(&dir));
        assert!(date(&alone) > old);
        assert_eq!((date(&shared), date(&others)), (old, old));
    }
}
