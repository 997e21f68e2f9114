//! The uploads that wait, as empty files, so that they outlive the daemon.
//!
//! Each remote has a directory, and each upload a file in it whose name says what it is. Its date is the time
//! since when the upload waits. What is to be uploaded stands in the store (`remote::record`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kache_cas::{DigestFunction, Hash};

/// One upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UploadItem {
    /// A result.
    Result {
        /// The hash of the store's action.
        own_action: Hash,
        /// The remote's function.
        function: DigestFunction,
    },
    /// The files of a toolchain.
    Toolchain {
        /// The hash of the tree in the remote's function.
        tree: Hash,
        /// The remote's function.
        function: DigestFunction,
    },
    /// The list of a workspace's last builds.
    Builds {
        /// The hash of the workspace's name.
        workspace: Hash,
    },
}

/// The ending of the names of toolchains.
const TOOLCHAIN: &str = "toolchain";

/// The ending of the names of lists of builds.
const BUILDS: &str = "builds";

impl UploadItem {
    fn file_name(self) -> String {
        match self {
            UploadItem::Result { own_action, function } => {
                format!("{}.{}", own_action.to_hex(), function.name())
            }
            UploadItem::Toolchain { tree, function } => {
                format!("{}.{}.{TOOLCHAIN}", tree.to_hex(), function.name())
            }
            UploadItem::Builds { workspace } => format!("{}.{BUILDS}", workspace.to_hex()),
        }
    }

    fn from_file_name(name: &str) -> Option<UploadItem> {
        let (hash, kind) = name.split_once('.')?;
        let hash: Hash = hash.parse().ok()?;
        if kind == BUILDS {
            return Some(UploadItem::Builds { workspace: hash });
        }
        let (name, is_toolchain) = match kind.split_once('.') {
            Some((name, TOOLCHAIN)) => (name, true),
            _ => (kind, false),
        };
        let function = DigestFunction::ALL.into_iter().find(|function| function.name() == name)?;
        Some(match is_toolchain {
            true => UploadItem::Toolchain { tree: hash, function },
            false => UploadItem::Result { own_action: hash, function },
        })
    }
}

/// The directory of all uploads that wait.
#[derive(Clone, Debug)]
pub(super) struct WaitingDir(PathBuf);

impl WaitingDir {
    /// Takes the directory in this cache directory. It is made when the first upload waits.
    pub(super) fn new(cache_dir: &Path) -> WaitingDir {
        WaitingDir(cache_dir.join("uploads"))
    }

    /// Adds an upload to those of the remote with this id. One that waits already keeps its date.
    pub(super) fn add(&self, remote: &str, item: UploadItem) -> io::Result<()> {
        let dir = self.0.join(remote);
        fs::create_dir_all(&dir)?;
        fs::File::options().append(true).create(true).open(dir.join(item.file_name())).map(drop)
    }

    /// Removes an upload, if it is there.
    pub(super) fn remove(&self, remote: &str, item: UploadItem) -> io::Result<()> {
        match fs::remove_file(self.0.join(remote).join(item.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the uploads that wait for a remote, the oldest first. Files that are no uploads are left out.
    pub(super) fn list(&self, remote: &str) -> io::Result<Vec<(UploadItem, SystemTime)>> {
        let entries = match fs::read_dir(self.0.join(remote)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let item = entry.file_name().to_str().and_then(UploadItem::from_file_name);
            if let (Some(item), Ok(metadata)) = (item, entry.metadata()) {
                found.push((item, metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
            }
        }
        found.sort_by_key(|(item, since)| (*since, *item));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_listed_until_they_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        let dir = WaitingDir::new(cache.path());
        assert_eq!(dir.list("r1").unwrap(), []);
        let hash = |text: &[u8]| DigestFunction::Blake3.hash(text);
        let result = |function| UploadItem::Result { own_action: hash(b"a"), function };
        let builds = UploadItem::Builds { workspace: hash(b"w") };
        let toolchain = UploadItem::Toolchain { tree: hash(b"t"), function: DigestFunction::Sha256 };
        let items = [result(DigestFunction::Blake3), result(DigestFunction::Sha256), toolchain, builds];
        for item in items {
            dir.add("r1", item).unwrap();
            dir.add("r1", item).unwrap();
        }
        dir.add("r2", builds).unwrap();
        fs::write(cache.path().join("uploads/r1/notes.txt"), "").unwrap();
        let listed = |remote| dir.list(remote).unwrap().into_iter().map(|(item, _)| item).collect::<Vec<_>>();
        let mut found = listed("r1");
        found.sort();
        assert_eq!(found, items);
        dir.remove("r1", items[0]).unwrap();
        dir.remove("r1", items[0]).unwrap();
        assert_eq!((listed("r1").len(), listed("r2")), (3, vec![builds]));
    }
}
