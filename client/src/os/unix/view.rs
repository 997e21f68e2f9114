//! The view that a process has of the filesystem, which decides which files its paths mean.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The link whose text names this process's mount namespace.
const MOUNT_NAMESPACE: &str = "/proc/self/ns/mnt";

/// Identifies the view of this mount namespace with `root` as its root directory. Processes with
/// equal views mean the same files by the same paths.
///
/// A client and a daemon can reach each other and still have different views: one of them may run in
/// a container or under another root directory that shares the home directory. The result is empty
/// where the system does not say.
pub fn filesystem_view(root: &Path) -> Vec<u8> {
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
        let own = filesystem_view(Path::new("/"));
        assert_eq!(filesystem_view(Path::new("/")), own);
        assert!(!own.is_empty() && filesystem_view(dir.path()) != own);
        assert!(filesystem_view(&dir.path().join("none")).is_empty());
    }
}
