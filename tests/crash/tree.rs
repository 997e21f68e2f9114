//! What lies in a store's directory, as anybody can see it from outside.
//!
//! Blobs are files named by the BLAKE3 of their bytes; what is on its way lies in `tmp/`. It is
//! looked at whether the names are true, whether the daemon knows of each, and whether there is
//! anything that has no business there.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirEntry, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kache_cas::digest::{Digest, DigestFunction, Hash};

/// What a daemon and its store leave in a cache directory.
const OURS: [&str; 9] = ["VERSION", "blobs", "db", "events", "lock", "memos", "observer", "shared", "tmp"];

/// A file as it was when it was last hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

/// The directory of a store, and the blobs that were there when it was last looked at.
pub(crate) struct Tree {
    cache_dir: PathBuf,
    seen: HashMap<String, Seen>,
    /// Blobs that the daemon has not been asked about.
    unasked: HashMap<String, u64>,
    /// Blobs whose files were torn from outside. They stay, as evidence, until they are stored
    /// anew.
    torn: BTreeSet<String>,
    /// All that ever were. A daemon that dies when it has just put a whole file in the place of a
    /// torn one has not written down that it is whole.
    once_torn: BTreeSet<String>,
    /// How many blobs had another name outside the store, each time that they were looked at.
    pub(crate) shared: usize,
}

impl Tree {
    pub(crate) fn new(cache_dir: &Path) -> Tree {
        let (seen, unasked, torn, once_torn) = Default::default();
        Tree { cache_dir: cache_dir.to_owned(), seen, unasked, torn, once_torn, shared: 0 }
    }

    /// Hashes every blob that is new or was written to since the last time, or each. Panics
    /// unless each is named by the BLAKE3 of its bytes. How many there are.
    pub(crate) fn check_blobs(&mut self, which: Which) -> usize {
        let before = std::mem::take(&mut self.seen);
        for blob in blobs(&self.cache_dir) {
            // Nobody writes while the daemon is dead, so what is listed is there.
            let metadata = blob.metadata().unwrap();
            let seen = Seen {
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

    /// Blobs that came since the daemon was last asked about them, as it knows them.
    pub(crate) fn unasked(&self) -> Vec<Digest> {
        let digest = |(name, size_bytes): (&String, &u64)| {
            let hash: Hash = name.parse().expect("its name is its hash");
            Digest::new(DigestFunction::Blake3, hash, *size_bytes)
        };
        self.unasked.iter().map(digest).collect()
    }

    /// The daemon has answered: it knows all that are there.
    pub(crate) fn is_asked(&mut self) {
        self.unasked.clear();
    }

    /// Whether there is still a file of this blob that the daemon has no reason not to know.
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        let hex = digest.hash.to_hex();
        !self.once_torn.contains(&hex) && self.place(&hex).exists()
    }

    fn place(&self, hex: &str) -> PathBuf {
        self.cache_dir.join("blobs").join(&hex[..2]).join(hex)
    }

    /// Leaves a blob that nobody knows of, as a daemon does that dies before it has written that
    /// down; of hundreds hardly one dies then. It has to go.
    pub(crate) fn leave_unknown(&mut self, bytes: &[u8]) {
        let hex = hex_of(bytes);
        fs::write(self.place(&hex), bytes).unwrap();
        self.unasked.insert(hex, bytes.len() as u64);
    }

    /// Makes of the blob of these bytes what a machine without power may have left of it: its
    /// name, its length, and nothing in its second half. Whether it is there.
    pub(crate) fn tear(&mut self, bytes: &[u8]) -> bool {
        let hex = hex_of(bytes);
        let path = self.place(&hex);
        if !path.exists() {
            return false;
        }
        // Nobody may write to it, unless it is root who tries.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let half = bytes.len() / 2;
        file.write_all_at(&vec![0; bytes.len() - half], half as u64).unwrap();
        self.once_torn.insert(hex.clone());
        self.torn.insert(hex);
        true
    }

    /// What is on its way into the store, or was when a daemon died.
    pub(crate) fn on_their_way(&self) -> BTreeSet<PathBuf> {
        entries(&self.cache_dir.join("tmp")).map(|entry| entry.path()).collect()
    }

    /// Notes about compiles of daemons other than this one.
    pub(crate) fn records_of_others(&self, pid: u32) -> BTreeSet<PathBuf> {
        let own = format!("record-{pid}-");
        let is_others = |name: &str| name.starts_with("record-") && !name.starts_with(&own);
        let paths = entries(&self.cache_dir.join("observer")).map(|entry| entry.path());
        paths.filter(|path| is_others(file_name(path))).collect()
    }

    /// Panics if there is anything besides the blobs that is none of a store's.
    pub(crate) fn check_names(&self) {
        for entry in entries(&self.cache_dir) {
            let name = entry.file_name().into_string().unwrap();
            assert!(OURS.contains(&&*name), "`{}` is none of a store's", entry.path().display());
        }
        for entry in entries(&self.cache_dir.join("observer")) {
            let name = entry.file_name().into_string().unwrap();
            let is_ours = name.starts_with("record-") || name.starts_with("observer-");
            assert!(is_ours, "`{}` is none of the observer's", entry.path().display());
        }
        for entry in entries(&self.cache_dir.join("shared")) {
            let name = entry.file_name().into_string().unwrap();
            // A record is written anew beside the old one, and a daemon may die before it is renamed.
            let numbers = name.strip_suffix(".new").unwrap_or(&name).split_once('-');
            let is_hex = |number: &str| u64::from_str_radix(number, 16).is_ok();
            let is_ours = numbers.is_some_and(|(device, inode)| is_hex(device) && is_hex(inode));
            assert!(is_ours, "`{}` is no record of shared files", entry.path().display());
        }
    }
}

/// Which blobs are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// What was written since the last time.
    Touched,
    /// Each.
    All,
}

/// How many files are below `blobs/`. Panics unless each is named by the BLAKE3 of its bytes.
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

/// None where there is no such directory yet.
fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("a directory can be read"))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("these names are text")
}
