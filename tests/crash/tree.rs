//! Checks a store's directory from outside.
//!
//! Blobs are files named by the BLAKE3 of their bytes; files that are being written are in `tmp/`. The checks
//! compare names with contents, ask the daemon for each blob, and report files that do not belong there.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirEntry, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kache_cas::digest::{Digest, DigestFunction, Hash};

/// The entries that a daemon and its store create in a cache directory.
const OURS: [&str; 10] =
    ["VERSION", "blobs", "db", "events", "lock", "memos", "observer", "shared", "tmp", "write-probe"];

/// The attributes of a file when it was last hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct HashedFile {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

/// A store's directory, and the blobs that it had at the last check.
pub(crate) struct Tree {
    cache_dir: PathBuf,
    seen: HashMap<String, HashedFile>,
    /// Blobs for which the daemon was not asked yet.
    unasked: HashMap<String, u64>,
    /// Blobs whose files the test has torn. The store keeps such files as evidence until the blob is stored again.
    torn: BTreeSet<String>,
    /// All blobs that were ever torn. A daemon that dies right after it has replaced a torn file has not recorded
    /// that the file is complete.
    once_torn: BTreeSet<String>,
    /// For each check, the number of blobs with another hard link outside the store.
    pub(crate) shared: usize,
}

impl Tree {
    pub(crate) fn new(cache_dir: &Path) -> Tree {
        let (seen, unasked, torn, once_torn) = Default::default();
        Tree { cache_dir: cache_dir.to_owned(), seen, unasked, torn, once_torn, shared: 0 }
    }

    /// Hashes every blob that is new or changed since the last check, or every blob. Panics if a name is not the
    /// BLAKE3 of the content. Returns the number of blobs.
    pub(crate) fn check_blobs(&mut self, which: Which) -> usize {
        let before = std::mem::take(&mut self.seen);
        for blob in blobs(&self.cache_dir) {
            // No process writes while the daemon is dead, so the listing is complete.
            let metadata = blob.metadata().unwrap();
            let seen = HashedFile {
                inode: metadata.ino(),
                size_bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            let name = blob.file_name().into_string().unwrap();
            let is_known = before.get(&name) == Some(&seen);
            if which == Which::All || !is_known || self.torn.contains(&name) {
                if is_its_name(&blob.path(), &name) {
                    self.torn.remove(&name);
                } else {
                    assert!(self.torn.contains(&name), "a blob file is not its name: `{name}`");
                }
            }
            if !is_known {
                self.unasked.insert(name.clone(), seen.size_bytes);
            }
            self.shared += usize::from(metadata.nlink() > 1);
            self.seen.insert(name, seen);
        }
        self.unasked.retain(|name, _| self.seen.contains_key(name));
        self.seen.len()
    }

    /// The digests of blobs for which the daemon was not asked yet.
    pub(crate) fn unasked(&self) -> Vec<Digest> {
        let digest = |(name, size_bytes): (&String, &u64)| {
            let hash: Hash = name.parse().expect("its name is its hash");
            Digest::new(DigestFunction::Blake3, hash, *size_bytes)
        };
        self.unasked.iter().map(digest).collect()
    }

    /// Records that the daemon has reported all of these blobs as present.
    pub(crate) fn is_asked(&mut self) {
        self.unasked.clear();
    }

    /// Whether a blob still has a file that the daemon must know.
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        let hex = digest.hash.to_hex();
        !self.once_torn.contains(&hex) && self.place(&hex).exists()
    }

    fn place(&self, hex: &str) -> PathBuf {
        self.cache_dir.join("blobs").join(&hex[..2]).join(hex)
    }

    /// Creates a blob that the daemon does not know, as a daemon leaves it that dies before it records the blob.
    /// The next daemon must remove it. Few kills have this effect by chance.
    pub(crate) fn leave_unknown(&mut self, bytes: &[u8]) {
        let hex = hex_of(bytes);
        fs::write(self.place(&hex), bytes).unwrap();
        self.unasked.insert(hex, bytes.len() as u64);
    }

    /// Tears the file of a blob as a loss of power may do: the name and the length stay, and the second half is
    /// zeros. Returns whether the file exists.
    pub(crate) fn tear(&mut self, bytes: &[u8]) -> bool {
        let hex = hex_of(bytes);
        let path = self.place(&hex);
        if !path.exists() {
            return false;
        }
        // The file is read-only, except for root.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let half = bytes.len() / 2;
        file.write_all_at(&vec![0; bytes.len() - half], half as u64).unwrap();
        self.once_torn.insert(hex.clone());
        self.torn.insert(hex);
        true
    }

    /// Files that are being written into the store, or were when a daemon died.
    pub(crate) fn on_their_way(&self) -> BTreeSet<PathBuf> {
        entries(&self.cache_dir.join("tmp")).map(|entry| entry.path()).collect()
    }

    /// Observer's records of compiles of earlier daemons.
    pub(crate) fn records_of_others(&self, pid: u32) -> BTreeSet<PathBuf> {
        let own = format!("record-{pid}-");
        let is_others = |name: &str| name.starts_with("record-") && !name.starts_with(&own);
        let paths = entries(&self.cache_dir.join("observer")).map(|entry| entry.path());
        paths.filter(|path| is_others(file_name(path))).collect()
    }

    /// Panics if there are files that are neither blobs nor other files of a store.
    pub(crate) fn check_names(&self) {
        for entry in entries(&self.cache_dir) {
            let name = entry.file_name().into_string().unwrap();
            assert!(OURS.contains(&&*name), "`{}` does not belong to a store", entry.path().display());
        }
        for entry in entries(&self.cache_dir.join("observer")) {
            let name = entry.file_name().into_string().unwrap();
            let is_ours = name.starts_with("record-") || name.starts_with("observer-");
            assert!(is_ours, "`{}` does not belong to the observer", entry.path().display());
        }
        for entry in entries(&self.cache_dir.join("shared")) {
            let name = entry.file_name().into_string().unwrap();
            // A record is written beside the old one, and a daemon may die before it renames the file.
            let numbers = name.strip_suffix(".new").unwrap_or(&name).split_once('-');
            let is_hex = |number: &str| u64::from_str_radix(number, 16).is_ok();
            let is_ours = numbers.is_some_and(|(device, inode)| is_hex(device) && is_hex(inode));
            assert!(is_ours, "`{}` is no record of shared files", entry.path().display());
        }
    }
}

/// The blobs that a check hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that were written since the last check.
    Touched,
    /// All blobs of the store.
    All,
}

/// The number of files below `blobs/`. Panics if a name is not the BLAKE3 of the content.
pub(crate) fn blob_files_that_are_their_names(cache_dir: &Path) -> usize {
    Tree::new(cache_dir).check_blobs(Which::All)
}

fn hex_of(bytes: &[u8]) -> String {
    DigestFunction::Blake3.hash(bytes).to_hex()
}

fn is_its_name(path: &Path, name: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    let fan = path.parent().expect("it was listed");
    name.starts_with(file_name(fan)) && hex_of(&bytes) == name
}

fn blobs(cache_dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    entries(&cache_dir.join("blobs")).flat_map(|fan| entries(&fan.path()))
}

/// The entries of a directory. `None` if it does not exist yet.
fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("a directory can be read"))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("these names are text")
}
