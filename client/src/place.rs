//! Where the daemon of a cache directory is found.
//!
//! One store, one daemon: its sockets lie in a private directory named for the cache
//! directory, so callers with different stores meet different daemons and nobody gets
//! another's (DMN-01). The directory above depends on the user and the system only, never on
//! `XDG_RUNTIME_DIR`: cron, `sudo` and sandboxes clear it, and two callers who disagreed
//! about it would start two daemons for one store. `KACHE_SOCKET_DIR` is there for those who
//! must choose.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::os::{self, DirError};

/// How many hexadecimal digits name a store.
pub const KEY_LEN: usize = 16;

/// A daemon's address: everything that its callers and itself must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The user's private directory.
    user_dir: PathBuf,
    /// The store's directory in it.
    dir: PathBuf,
    cache_dir: PathBuf,
}

impl Place {
    /// The place of this cache directory's daemon. `socket_dir` is what `KACHE_SOCKET_DIR`
    /// says.
    pub fn new(cache_dir: &Path, socket_dir: Option<&Path>) -> Self {
        let cache_dir = canonical(cache_dir);
        let user_dir = socket_dir.map_or_else(default_socket_dir, canonical);
        let dir = user_dir.join(key_of(&cache_dir));
        Place { user_dir, dir, cache_dir }
    }

    /// The cache directory, without links.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Where the sockets are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket for our own clients.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The socket for clients of the Remote Execution API.
    pub fn reapi_socket(&self) -> PathBuf {
        self.dir.join("reapi.sock")
    }

    /// Held by whoever is starting a daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.dir.join("start.lock")
    }

    /// Held by the daemon for as long as it lives.
    pub fn daemon_lock(&self) -> PathBuf {
        self.dir.join("daemon.lock")
    }

    /// Creates the directories; refuses them if they are not ours alone (DMN-02).
    pub fn prepare(&self) -> Result<(), DirError> {
        os::ensure_private_dir(&self.user_dir)?;
        os::ensure_private_dir(&self.dir)
    }

    /// Whether the directories are there, and if so, ours alone. Creates nothing (DMN-06).
    pub fn check(&self) -> Result<bool, DirError> {
        Ok(os::check_private_dir(&self.user_dir)? && os::check_private_dir(&self.dir)?)
    }
}

/// `/run/user/UID/kache` where the system keeps such a directory, else `/tmp/kache-UID`.
pub(crate) fn default_socket_dir() -> PathBuf {
    let uid = os::own_uid();
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    match fs::symlink_metadata(&runtime) {
        Ok(found) if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 => {
            runtime.join("kache")
        }
        _ => PathBuf::from(format!("/tmp/kache-{uid}")),
    }
}

/// The path without links, as far as it exists; what does not exist yet is taken as it is.
pub fn canonical(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        if let Ok(found) = fs::canonicalize(there) {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return path.to_owned() };
        missing.push(name.to_owned());
        there = parent;
    }
}

/// A short name for a path: FNV-1a, 64 bits. It only has to tell one user's stores apart.
pub(crate) fn key_of(path: &Path) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:0width$x}", width = KEY_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_fnv() {
        // Published test vectors.
        assert_eq!(key_of(Path::new("")), "cbf29ce484222325");
        assert_eq!(key_of(Path::new("a")), "af63dc4c8601ec8c");
        assert_eq!(key_of(Path::new("foobar")), "85944171f73967e8");
    }

    #[test]
    fn dmn_01_one_store_has_one_place_by_whatever_name() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        fs::create_dir(&real).unwrap();
        let before = Place::new(&link.join("cache"), None);
        assert_eq!(before, Place::new(&real.join("cache"), None));
        fs::create_dir(real.join("cache")).unwrap();
        assert_eq!(before, Place::new(&link.join("cache"), None), "creating it does not move it");
        assert_ne!(before.dir(), Place::new(&real.join("other"), None).dir());
    }

    #[test]
    fn dmn_06_checking_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), Some(&dir.path().join("sockets")));
        assert!(!place.check().unwrap());
        assert!(!dir.path().join("sockets").exists());
        place.prepare().unwrap();
        assert!(place.check().unwrap());
    }
}
