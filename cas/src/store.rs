//! The store's traits: what every implementation and every decorator offers.
//!
//! Three small ones, because three kinds of caller exist: `BlobStore` for bytes by digest,
//! `ActionCache` for results by action, `LocalFiles` for files that enter or leave the
//! store without being copied. All calls may block on the disk; none waits for eviction
//! unless its documentation says so.
//!
//! Implementations: `memory` (tests), `disk` (RocksDB and files). Decorators, each doing
//! one thing: `verify`, `completeness`, `shared_computation`, `metering`. `composed::Store` is
//! how they are put together for a daemon.

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

/// What a lookup means for how long the thing found is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Nothing: statistics and checks look without touching.
    Peek,
    /// It was used; that counts for its age.
    Use,
    /// A client was told that it is there and may come for it later: it is leased for
    /// [`PROMISE_LEASE`].
    Promise,
}

/// How long a blob is kept after a client was told of it. Bazel fetches outputs lazily and
/// assumes three hours.
pub const PROMISE_LEASE: std::time::Duration = std::time::Duration::from_secs(3 * 60 * 60);

/// Bytes by digest.
pub trait BlobStore: Send + Sync {
    /// Which of these are missing, in the order asked, one answer each (`true`: missing).
    /// The empty blob is never missing. A known hash with another size is missing.
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError>;

    /// The bytes, or `None`. What is returned stays readable whatever is evicted meanwhile
    /// (STO-04).
    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError>;

    /// How many bytes the blob of this hash has, for a protocol that carries hashes without
    /// sizes; `None` where it is not there. It mentions nothing: `open` follows.
    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError>;

    /// Begins to store a blob. Nothing is visible before `commit`; dropping the writer
    /// leaves nothing behind.
    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Stores small blobs that are at hand, in one step; one answer each. A bad one does
    /// not keep the others out.
    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let insert_one = |(digest, bytes): &(Digest, Bytes)| {
            let mut writer = self.create(digest)?;
            writer.write(bytes)?;
            writer.commit().map(drop)
        };
        blobs.iter().map(insert_one).collect()
    }

    /// NameCounts deletions. While it stands still, whatever was there is still there, so an
    /// action result found complete remains complete.
    fn deletions(&self) -> u64;

    /// Whether calls that are mostly quick may take long just now: after an unclean stop,
    /// while blobs are still to be hashed before they are trusted, and while writers have to
    /// make room. Whoever must not block makes them elsewhere meanwhile.
    fn may_block(&self) -> bool {
        false
    }
}

/// A blob on its way into the store.
pub trait BlobWriter: Send {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Checks length and hash, then makes the blob visible, whole, under its names.
    fn commit(self: Box<Self>) -> Result<BlobNames, StoreError>;
}

/// The bytes of a blob, wherever they are. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In an open file; the handle keeps the bytes alive even if the name goes.
    File {
        /// The open file.
        file: Arc<File>,
        /// How many bytes the blob has.
        size_bytes: u64,
    },
}

impl Content {
    /// How many bytes there are.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// Up to `len_max` bytes from `offset`: fewer only at the end, none past it.
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

    /// All of it. The caller knows that it is small.
    pub fn read_all(&self) -> io::Result<Bytes> {
        self.read_at(0, usize::MAX)
    }
}

/// Which action, for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey {
    /// The instance name, which isolates action results; mostly empty.
    pub instance: Arc<str>,
    /// Which function made `hash`.
    pub function: DigestFunction,
    /// The action's hash. Its size is left out: some clients do not know it.
    pub hash: Hash,
}

/// The instance name of results that were made on this machine. No client of the served protocols
/// can name it: `actions` is a word that the Remote Execution API reserves, so an instance name
/// that holds it as a segment is refused.
pub const MADE_HERE: &str = "actions/made-here";

impl ActionKey {
    /// The key of a result that was made on this machine, and not uploaded by a client.
    pub fn made_here(function: DigestFunction, hash: Hash) -> ActionKey {
        ActionKey { instance: MADE_HERE.into(), function, hash }
    }
}

/// An action result as the store keeps it: canonical protobuf, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResult {
    /// The encoded `ActionResult`, never zero bytes.
    pub encoded: Bytes,
}

impl StoredResult {
    /// Encodes a result.
    pub fn new(result: &ActionResult) -> Self {
        StoredResult { encoded: Bytes::from(result.encode_to_vec()) }
    }

    /// The message. It was encoded by us, so only damage makes this fail.
    pub fn decode(&self) -> Result<ActionResult, StoreError> {
        ActionResult::decode(self.encoded.clone()).map_err(|error| StoreError::Database {
            doing: "decode a stored action result",
            message: error.to_string(),
        })
    }
}

/// Results by action.
pub trait ActionCache: Send + Sync {
    /// The result, or `None`. Behind `completeness`, a result that names a blob which is
    /// not there is `None` (STO-03), and a mention reaches every blob that it names.
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError>;

    /// Stores a result, replacing any other. It is checked first: paths are relative and
    /// stay inside, digests are well-formed, every directory has its tree.
    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError>;

    /// Takes a result out of service. Whether there was one.
    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError>;
}

/// Whether a file in the store and one outside may be the same inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Neither inode nor blocks: always a full copy.
    Copy,
    /// Never the inode: reflink, else copy.
    Private,
    /// A hardlink, where a reflink cannot be had, of an inode that nobody else has: the file
    /// outside and the store's are then one, and it may bear whatever mode and date it
    /// likes. Else a copy.
    Exclusive,
    /// A hardlink is welcome where a reflink cannot be had. Where others have the store's inode,
    /// and it bears another mode or date, the store first puts a copy in the place of its file,
    /// so that whatever is placed from then on shares the copy.
    Hardlink,
    /// As `Hardlink`, but by another inode than this one, which somebody has changed.
    Anew {
        /// The number of the inode that was changed.
        not: u64,
    },
}

impl Sharing {
    /// Whether the file outside and the store's may be one inode.
    pub fn may_share_inode(self) -> bool {
        matches!(self, Sharing::Exclusive | Sharing::Hardlink | Sharing::Anew { .. })
    }
}

/// How a file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// Its extents are shared, copy on write.
    Reflink,
    /// It is another name of the same inode.
    Hardlink,
    /// It is a copy.
    Copy,
}

/// How a file looked at a moment when its content was certain. While it still looks so, its content
/// is the same, as far as the dates of its filesystem show a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// The volume.
    pub device: u64,
    /// The inode's number there.
    pub inode: u64,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it was last changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl FileStamp {
    /// How a file looks that has this metadata.
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

    /// Whether nothing was written between two looks. The date of the last change of the inode is
    /// left out: another name, another mode and a rename move it, and the store does all of these.
    pub(crate) fn has_content_of(&self, before: &FileStamp) -> bool {
        FileStamp { changed_ns: before.changed_ns, ..*self } == *before
    }
}

/// A file outside of the store whose content is that of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedFile {
    /// What it shares with the store.
    pub link: Link,
    /// How it looked when the store had done with it; `None` if it changed meanwhile.
    pub stamp: Option<FileStamp>,
}

/// How a file is to be laid down.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOptions<'a> {
    /// The permission bits the file must have, exactly.
    pub mode: u32,
    /// The modification time it must have; `None` leaves it to the system.
    pub modified: Option<SystemTime>,
    /// Whether its inode may be the store's.
    pub sharing: Sharing,
    /// The directory in which the file is made before it is renamed to its place; `None`: beside
    /// its place. It has to be on the same volume. Somebody who takes this directory away keeps
    /// the file from getting to its place, at whatever moment.
    pub staging: Option<&'a Path>,
}

/// Files that enter or leave the store, without a copy where the filesystem allows.
pub trait LocalFiles: Send + Sync {
    /// Stores the bytes of this file. It is streamed, never held in memory, and checked
    /// not to have changed meanwhile. The digest is named in `function` as well as in the
    /// store's own. What is said of the file's looks is true of the file that was opened, whatever
    /// has the path's name by now.
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError>;

    /// Lays the blob down at `path`, atomically, replacing what is there. `None` if the
    /// blob is not in the store; then `path` is as it was.
    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError>;

    /// The best that a file in this directory and one in the store can share, as far as the
    /// filesystems are concerned. Found out by trying, once for each pair of them: a caller
    /// decides by it which modes and dates its files can have, and a single file may still
    /// turn out to be a copy.
    fn shares(&self, directory: &Path) -> Result<Link, StoreError>;
}

/// What the store holds, for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// What it occupies on the volume, blobs and database.
    pub physical_bytes: u64,
    /// The sum of the blobs' sizes.
    pub logical_bytes: u64,
    /// What it may occupy.
    pub limit_bytes: u64,
    /// How many blobs it holds.
    pub blobs: u64,
    /// How many action results, by estimate.
    pub action_results: u64,
    /// What is wrong, in words; empty when nothing is.
    pub troubles: Vec<String>,
}
