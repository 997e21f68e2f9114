//! The traits that every implementation of the store and every decorator offers.
//!
//! There are three, for three kinds of caller: `BlobStore` for bytes by digest, `ActionCache`
//! for results by action, `LocalFiles` for files that enter or leave the store without being
//! copied. Every call may block on the disk; none waits for eviction unless its documentation
//! says so.
//!
//! Implementations: `memory` (for tests) and `disk` (RocksDB and files). Decorators with one duty
//! each: `metering`, `presence`, `verify`, `completeness`, `room`. `composed::Store` puts them
//! together for a daemon.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use kache_proto::Message;
use kache_proto::reapi::ActionResult;

use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;

/// Why a caller looks up a blob or a result, which decides how long the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// The caller only looks (statistics, checks): nothing about the entry changes.
    Peek,
    /// The caller uses the entry now: its age begins anew.
    Use,
    /// A client is told that the entry exists and may fetch it later: the age begins anew, and the
    /// entry is leased for [`PROMISE_LEASE`], during which it is not evicted.
    Promise,
}

/// How long an entry is kept after a client was told that it exists. Bazel fetches outputs lazily
/// and assumes three hours.
pub const PROMISE_LEASE: std::time::Duration = std::time::Duration::from_secs(3 * 60 * 60);

/// Stores bytes under their digests.
pub trait BlobStore: Send + Sync {
    /// Tells for each digest, in the same order, whether its blob is missing (`true`).
    /// The empty blob is never missing. A stored hash with another size is missing.
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError>;

    /// Returns the blob's bytes, or `None` if the store does not have it. The returned content
    /// stays readable even if the blob is evicted meanwhile (STO-04).
    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError>;

    /// Returns the size of the blob with this hash, for a protocol that carries hashes without
    /// sizes; `None` if the store does not have it. This does not count as an access: the caller
    /// goes on with `open`, which does.
    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError>;

    /// Returns all names of a blob under which it was stored; `None` if the store does not have it. This does
    /// not count as an access.
    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError>;

    /// Begins to store a blob. Nothing is visible before [`BlobWriter::commit`]; a writer that is
    /// dropped without it leaves nothing behind.
    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Stores small blobs whose bytes are in memory, in one step, and returns one result for each.
    /// A blob that is rejected does not keep the others out.
    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let insert_one = |(digest, bytes): &(Digest, Bytes)| {
            let mut writer = self.create(digest)?;
            writer.write(bytes)?;
            writer.commit().map(drop)
        };
        blobs.iter().map(insert_one).collect()
    }

    /// Returns a counter that moves with every deletion. As long as it has not moved, every blob
    /// that was present still is, so an action result that was found complete is still complete.
    fn deletions(&self) -> u64;

    /// Tells whether calls that are usually quick may take long at the moment: after an unclean
    /// stop, while stored blobs have to be hashed before they are trusted, and while writers have
    /// to evict to make room. A thread that must not block hands its calls to another thread then.
    fn may_block(&self) -> bool;
}

/// Receives the bytes of one blob.
pub trait BlobWriter: Send {
    /// Appends bytes, in pieces of any size. Fails if they become more than the blob has.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Checks length and hash, then makes the whole blob visible and returns its names.
    fn commit(self: Box<Self>) -> Result<BlobNames, StoreError>;
}

/// The bytes of a blob, in memory or in a file. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// The blob's bytes themselves.
    Memory(Bytes),
    /// An open file; the handle keeps the bytes readable even after the file is deleted.
    File {
        /// The file, open for reading.
        file: Arc<File>,
        /// The blob's size, which is also the file's.
        size_bytes: u64,
    },
}

impl Content {
    /// Returns the blob's size, without asking the filesystem.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// Reads up to `len_max` bytes from `offset`: fewer only at the end of the blob, none past it.
    pub fn read_at(&self, offset: u64, len_max: usize) -> io::Result<Bytes> {
        let left = self.size_bytes().saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len_max);
        match self {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start + len))
            }
            Content::File { file, .. } => {
                let mut buffer = vec![0; len];
                file.read_exact_at(&mut buffer, offset)?;
                Ok(Bytes::from(buffer))
            }
        }
    }

    /// Reads the whole blob into memory. The caller has made sure that it is small.
    pub fn read_all(&self) -> io::Result<Bytes> {
        self.read_at(0, usize::MAX)
    }
}

/// The key of an action result: the action's digest within one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey {
    /// The instance name, which isolates action results from each other; usually empty.
    pub instance: Arc<str>,
    /// The digest function of `hash`.
    pub function: DigestFunction,
    /// The action's hash. The digest's size is left out because some clients do not know it.
    pub hash: Hash,
}

/// The instance name of results that were made on this machine. No client of the served protocols
/// can name it: `actions` is a word that the Remote Execution API reserves, so an instance name
/// that holds it as a segment is refused.
pub const MADE_HERE: &str = "actions/made-here";

/// The instance name of results that were fetched from remotes. No client can name it, either.
pub const FETCHED: &str = "actions/fetched";

/// The instance name of results in the form in which remotes keep them, which were copied from one
/// before any compile asked for them. No client can name it, either.
pub const PULLED: &str = "actions/pulled";

impl ActionKey {
    /// Returns the key of a result that was made on this machine and not uploaded by a client.
    pub fn made_here(function: DigestFunction, hash: Hash) -> ActionKey {
        ActionKey { instance: MADE_HERE.into(), function, hash }
    }

    /// Returns the key of a result that was fetched from a remote.
    pub fn fetched(function: DigestFunction, hash: Hash) -> ActionKey {
        ActionKey { instance: FETCHED.into(), function, hash }
    }

    /// Whether the result came from a remote, which probably still has it.
    pub(crate) fn is_of_remote(&self) -> bool {
        [FETCHED, PULLED].contains(&&*self.instance)
    }

    /// Returns the key of a result in the form in which remotes keep it.
    pub fn pulled(function: DigestFunction, hash: Hash) -> ActionKey {
        ActionKey { instance: PULLED.into(), function, hash }
    }
}

/// An action result as the store keeps it: encoded, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResult {
    /// The encoded `ActionResult`, never zero bytes.
    pub encoded: Bytes,
}

impl StoredResult {
    /// Encodes `result` in the canonical form that the store keeps.
    pub fn new(result: &ActionResult) -> Self {
        StoredResult { encoded: Bytes::from(result.encode_to_vec()) }
    }

    /// Decodes the message. The store encoded it itself, so an error means that it was damaged.
    pub fn decode(&self) -> Result<ActionResult, StoreError> {
        ActionResult::decode(self.encoded.clone()).map_err(|error| StoreError::Database {
            doing: "decode a stored action result",
            message: error.to_string(),
        })
    }
}

/// Stores action results under their actions.
pub trait ActionCache: Send + Sync {
    /// Returns the result of an action, or `None` if there is none. Through `completeness`, a
    /// result that names a missing blob is `None` as well (STO-03), and the access also counts
    /// for every blob that the result names.
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError>;

    /// Stores a result in place of any earlier one, and returns it as stored. The result is
    /// rejected unless its paths are relative and stay inside the working directory, its digests
    /// are well-formed, and every directory has its tree.
    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError>;

    /// Deletes a result. Returns whether there was one.
    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError>;

    /// Returns the results of all instances that follow `after` in the store's own order, at most
    /// `results_max`, with their keys. None means that there are no others. This is no access, and a
    /// result may name blobs that are missing. The results are read without keeping other calls
    /// waiting, so one that comes or goes meanwhile may be left out.
    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError>;
}

/// How much a file in the store and the same file outside may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing: neither inode nor blocks. Always a full copy.
    Copy,
    /// Blocks but not the inode: a reflink, or else a copy.
    Private,
    /// A reflink, or else a hard link if no other name of the store's inode exists outside the
    /// store, or else a copy. Since that hard link is the only one, the file may get any mode
    /// and date.
    Exclusive,
    /// A reflink, or else a hard link, or else a copy. If the store's inode has other names
    /// already and does not have the mode and date that are asked for, the store first replaces
    /// its own file by a copy; that copy is shared from then on.
    Hardlink,
    /// Like `Hardlink`, but never of the inode `not`, which another process has changed.
    Anew {
        /// The number of the inode that was changed.
        not: u64,
    },
}

impl Sharing {
    /// Tells whether the file outside and the store's file may be one inode.
    pub fn may_share_inode(self) -> bool {
        matches!(self, Sharing::Exclusive | Sharing::Hardlink | Sharing::Anew { .. })
    }
}

/// Tells what a file outside the store shares with the store's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// Its extents, copy on write.
    Reflink,
    /// Its inode, of which it is another name.
    Hardlink,
    /// The file and the store share no bytes.
    Copy,
}

/// Device, inode, size and dates of a file at a moment when its content was certain. While all of
/// these stay the same, so does the content, as far as the filesystem's dates show changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// The device number of the file's filesystem.
    pub device: u64,
    /// The inode's number within that filesystem.
    pub inode: u64,
    /// The length of the file in bytes.
    pub size_bytes: u64,
    /// When the content was last changed (`mtime`), in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about the inode was last changed (`ctime`), in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl FileStamp {
    /// Takes the stamp from a file's metadata.
    pub fn of(metadata: &Metadata) -> FileStamp {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Tells whether nothing was written to the file between two stamps. `changed_ns` is not
    /// compared: a new name, a new mode and a rename move it, and the store does all three.
    pub(crate) fn has_content_of(&self, before: &FileStamp) -> bool {
        FileStamp { changed_ns: before.changed_ns, ..*self } == *before
    }
}

/// The outcome of storing a file or of placing one: the file's content is the blob's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedFile {
    /// How the file and the store share their bytes.
    pub link: Link,
    /// The file's stamp when the store had finished; `None` if another process changed it meanwhile.
    pub stamp: Option<FileStamp>,
}

/// How [`LocalFiles::place`] makes a file.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOptions<'a> {
    /// The permission bits that the file gets, exactly.
    pub mode: u32,
    /// The modification time that the file gets; `None` leaves it to the system.
    pub modified: Option<SystemTime>,
    /// How the file and the store may share their bytes.
    pub sharing: Sharing,
    /// The staging directory, in which the file is made before it is renamed to its destination;
    /// `None` means the destination's own directory. It must be on the destination's volume. A
    /// client that removes this directory, at any moment, thereby keeps the file from appearing
    /// at its destination.
    pub staging: Option<&'a Path>,
}

/// Takes files of this machine into the store and places them, without copying where the
/// filesystem allows it.
pub trait LocalFiles: Send + Sync {
    /// Stores the content of the file at `path`. The file is streamed, never held in memory; if it
    /// changes meanwhile, the call fails. The returned names include one in `function`. The
    /// returned stamp is that of the file that was opened, even if `path` leads to another file
    /// by then.
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError>;

    /// Puts the blob at `path`, atomically, replacing any file that is there. Returns `None` if
    /// the blob is not in the store; `path` is unchanged then, and after an error.
    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError>;

    /// Returns the most that a file in this directory and a file in the store can share, as far as
    /// their filesystems allow it. The store finds out by trying, once for each pair of
    /// filesystems. A caller decides by the answer which modes and dates its files can have; a
    /// single file may still turn out to be a copy.
    fn shares(&self, directory: &Path) -> Result<Link, StoreError>;
}

/// The store's size and problems, for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The space that blobs and database occupy on the volume.
    pub physical_bytes: u64,
    /// The sum of the blobs' sizes.
    pub logical_bytes: u64,
    /// The most that `physical_bytes` may be.
    pub limit_bytes: u64,
    /// The number of blobs.
    pub blobs: u64,
    /// The number of action results, estimated.
    pub action_results: u64,
    /// One sentence for each problem; empty when the store is well.
    pub troubles: Vec<String>,
}
