//! Helpers for the tests of inputs: calls and files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_cas::{Digest, DigestFunction, FileStamp};

use super::types::Toolchain;
use crate::invocation::{Call, Environment};

/// Returns a call from this directory.
pub(crate) fn call(cwd: &Path) -> Call {
    let cwd = cwd.to_owned();
    Call { argv: Vec::new(), cwd, env: Environment::default(), umask: 0o022, stdin: None }
}

/// Returns an environment with these variables.
pub(crate) fn environment<'a, V: Into<OsString>>(
    pairs: impl IntoIterator<Item = (&'a str, V)>,
) -> Environment {
    pairs.into_iter().collect()
}

/// Writes a file and creates its directories.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    use std::io::Write as _;
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

/// Returns the stamp of a file as the store sees it.
pub(crate) fn store_stamp(path: &Path) -> Option<FileStamp> {
    Some(FileStamp::of(&fs::metadata(path).unwrap()))
}

/// Gives a file an old date of modification.
pub(crate) fn age(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// Waits until the dates of these files would show a change.
pub(crate) fn settle(paths: &[&Path]) {
    let is_settled = |path: &&Path| {
        let stamp = super::Stamp::of(path).unwrap().unwrap();
        stamp.is_settled(SystemTime::now())
    };
    while !paths.iter().all(is_settled) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns a toolchain for tests in which it does not matter.
pub(crate) fn fake_toolchain() -> Toolchain {
    Toolchain {
        tree: Digest::empty(DigestFunction::Blake3),
        sysroot: "/toolchain".into(),
        driver: "/toolchain/bin/rustc".into(),
        called: "/toolchain/bin/rustc".into(),
        banner: "rustc".to_owned(),
        host: "x86_64-unknown-linux-gnu".to_owned(),
    }
}
