//! The address of a cache directory's daemon: the paths of its sockets and locks.
//!
//! A store has one daemon. Its sockets lie in a private directory that is named by a hash of the
//! cache directory's path, so that clients of different stores reach different daemons (DMN-01).
//! The parent of that directory depends only on the user and the system, never on
//! `XDG_RUNTIME_DIR`: cron, `sudo` and sandboxes clear that variable, and two clients that
//! disagree about it would start two daemons for one store. `KACHE_SOCKET_DIR` overrides it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::os::{self, DirError};

/// The number of hexadecimal digits in the name of a store's socket directory.
pub const KEY_LEN: usize = 16;

/// The paths that a daemon and its clients have to agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonAddress {
    /// The private directory of this user's daemons.
    user_dir: PathBuf,
    /// The directory of this store's daemon, in `user_dir`.
    dir: PathBuf,
    /// The cache directory, with all links resolved.
    cache_dir: PathBuf,
}

impl DaemonAddress {
    /// Returns the address of this cache directory's daemon. `socket_dir` is the value of
    /// `KACHE_SOCKET_DIR`, if it is set.
    pub fn new(cache_dir: &Path, socket_dir: Option<&Path>) -> Self {
        let cache_dir = canonical(cache_dir);
        let user_dir = socket_dir.map_or_else(default_socket_dir, canonical);
        let dir = user_dir.join(path_key(&cache_dir));
        DaemonAddress { user_dir, dir, cache_dir }
    }

    /// Returns the cache directory, with all links resolved.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Returns the private directory that holds the sockets and locks.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the socket for `kache` itself.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Returns the path of the socket for clients of the Remote Execution API.
    pub fn reapi_socket(&self) -> PathBuf {
        self.dir.join("reapi.sock")
    }

    /// Returns the path of the lock that a process holds while it starts a daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.dir.join("start.lock")
    }

    /// Returns the path of the lock that the daemon holds for as long as it lives.
    pub fn daemon_lock(&self) -> PathBuf {
        self.dir.join("daemon.lock")
    }

    /// Creates the directories; fails if other users could write to them (DMN-02).
    pub fn prepare(&self) -> Result<(), DirError> {
        os::ensure_private_dir(&self.user_dir)?;
        os::ensure_private_dir(&self.dir)
    }

    /// Returns whether the directories exist; fails if other users could write to them. It
    /// creates nothing (DMN-06).
    pub fn check(&self) -> Result<bool, DirError> {
        Ok(os::check_private_dir(&self.user_dir)? && os::check_private_dir(&self.dir)?)
    }
}

/// Returns `/run/user/UID/kache` where the system keeps such a directory, else `/tmp/kache-UID`.
pub(crate) fn default_socket_dir() -> PathBuf {
    let uid = os::own_uid();
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    // In a container the directory may exist and belong to a user outside, or be open to others. Then
    // every process there uses `/tmp`, and `ensure_private_dir` checks what it finds.
    match fs::symlink_metadata(&runtime) {
        Ok(found) if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 => {
            runtime.join("kache")
        }
        _ => PathBuf::from(format!("/tmp/kache-{uid}")),
    }
}

/// Resolves the links in the part of the path that exists, and appends the rest unchanged. So a
/// cache directory has the same address before and after it is created.
pub fn canonical(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(resolved) = fs::canonicalize(existing) {
            return missing.iter().rev().fold(resolved, |path, name| path.join(name));
        }
        let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
            return path.to_owned();
        };
        missing.push(name.to_owned());
        existing = parent;
    }
}

/// Returns a short name for a path, its FNV-1a hash of 64 bits. The name only has to tell the
/// stores of one user apart.
pub(crate) fn path_key(path: &Path) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:0width$x}", width = KEY_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_key_is_its_fnv_hash() {
        // These values are the published test vectors of the hash.
        assert_eq!(path_key(Path::new("")), "cbf29ce484222325");
        assert_eq!(path_key(Path::new("a")), "af63dc4c8601ec8c");
        assert_eq!(path_key(Path::new("foobar")), "85944171f73967e8");
    }

    #[test]
    fn dmn_01_a_store_has_one_address_by_whichever_path_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        fs::create_dir(&real).unwrap();
        let before = DaemonAddress::new(&link.join("cache"), None);
        assert_eq!(before, DaemonAddress::new(&real.join("cache"), None));
        fs::create_dir(real.join("cache")).unwrap();
        assert_eq!(before, DaemonAddress::new(&link.join("cache"), None), "creating it does not move it");
        assert_ne!(before.dir(), DaemonAddress::new(&real.join("other"), None).dir());
    }

    #[test]
    fn dmn_06_checking_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let address = DaemonAddress::new(dir.path(), Some(&dir.path().join("sockets")));
        assert!(!address.check().unwrap());
        assert!(!dir.path().join("sockets").exists());
        address.prepare().unwrap();
        assert!(address.check().unwrap());
    }
}
