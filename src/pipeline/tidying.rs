//! The directories that compilers keep incremental state in.
//!
//! rustc calls them by the crate, a dash, and what tells apart crates of one name; in each
//! are sessions, of which one is `…-working` while a compiler is at it.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::editing::Directory;

/// How the name of a session ends that has not ended.
const WORKING: &[u8] = b"-working";

/// The metadata of the crate as the session's compiler made it.
const METADATA: &str = "metadata.rmeta";

/// Removes what this crate has there (`cache.clean_incremental`): it is megabytes that nobody
/// uses. Trouble leaves it be, and so does a compiler at work.
pub(super) fn tidy(directory: &Directory) {
    for dir in directories(directory) {
        let is_working = |session: &PathBuf| session.as_os_str().as_bytes().ends_with(WORKING);
        if !subdirectories(&dir).iter().any(is_working) {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Makes sure that the next compiler in there lays down no metadata with an old date.
///
/// Where nothing has changed since its last session, rustc links that session's metadata into
/// the output's place, date and all. Cargo goes by that date, and is wrong where the output
/// was another one's in between: crates that were compiled with that one are younger, and
/// count as fresh. So what no output shares any more is dated now.
pub(super) fn freshen(directory: &Directory) {
    let mut saved: HashMap<(u64, u64), (PathBuf, u64, u64)> = HashMap::new();
    for session in directories(directory).iter().flat_map(subdirectories) {
        let path = session.join(METADATA);
        let Ok(found) = fs::metadata(&path) else { continue };
        let (_, names, _) = saved.entry((found.dev(), found.ino())).or_insert((path, 0, found.nlink()));
        *names += 1;
    }
    for (path, names, links) in saved.into_values() {
        if names == links {
            let now = FileTimes::new().set_modified(SystemTime::now());
            let _ = File::open(path).and_then(|file| file.set_times(now));
        }
    }
}

/// The crate's own; a crate's name holds no dash.
fn directories(directory: &Directory) -> Vec<PathBuf> {
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
    use std::time::Duration;

    use super::*;

    fn made(names: &[&str]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let directory = Directory { dir: dir.path().to_owned(), crate_name: "app".to_owned() };
        (dir, directory)
    }

    #[test]
    fn only_the_crates_own_directories_go() {
        let (dir, directory) = made(&["app-1abc/s-1", "app-2def/s-1", "app_core-1", "apple-1"]);
        tidy(&directory);
        let left = fs::read_dir(dir.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["app_core-1", "apple-1"]);
    }

    #[test]
    fn a_compiler_at_work_is_left_alone() {
        let (dir, directory) = made(&["app-1/s-1-2-working", "app-1/s-0", "app-2/s-0"]);
        tidy(&directory);
        assert!(dir.path().join("app-1/s-0").exists() && !dir.path().join("app-2").exists());
    }

    #[test]
    fn rst_01_metadata_that_no_output_shares_is_dated_now() {
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
        freshen(&directory);
        let date = |path| fs::metadata(path).unwrap().modified().unwrap();
        assert!(date(&alone) > old);
        assert_eq!((date(&shared), date(&others)), (old, old));
    }
}
