//! Which files the paths of a process mean.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Names this process's mount namespace.
const MOUNT_NAMESPACE: &str = "/proc/self/ns/mnt";

/// How a process of this mount namespace sees the filesystem whose root directory is this one. Two
/// processes may mean different files by one path although they can connect to each other: one may
/// be in a container, or in another root directory, as in a build environment that shares the home.
/// Empty where the system does not say.
pub fn view(root: &Path) -> Vec<u8> {
    let Ok(root) = std::fs::metadata(root) else { return Vec::new() };
    let namespace = std::fs::read_link(MOUNT_NAMESPACE).unwrap_or_default();
    let mut view = namespace.as_os_str().as_bytes().to_vec();
    view.extend_from_slice(format!(" {}:{}", root.dev(), root.ino()).as_bytes());
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dmn_01_another_root_directory_is_another_view() {
        let dir = tempfile::tempdir().unwrap();
        let own = view(Path::new("/"));
        assert_eq!(view(Path::new("/")), own);
        assert!(!own.is_empty() && view(dir.path()) != own);
        assert!(view(&dir.path().join("none")).is_empty());
    }
}
