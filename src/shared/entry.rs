//! One shared file, and the attributes that must not change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use kache_cas::Digest;

/// The bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;

/// The identity of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The device number of the filesystem.
    pub device: u64,
    /// The inode number in that filesystem.
    pub number: u64,
}

/// The attributes that cargo and other tools depend on. New and removed links do not change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The size of the file.
    pub size_bytes: u64,
    /// The modification time, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The permission bits of the mode.
    pub mode: u32,
    /// The owner's user id.
    pub uid: u32,
    /// The id of the group that owns the file.
    pub gid: u32,
}

impl Attributes {
    /// Reads the attributes from the metadata of a file.
    pub fn of(metadata: &Metadata) -> Attributes {
        Attributes {
            size_bytes: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode() & PERMISSIONS,
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }
}

/// A shared file as it was restored or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The digest of the recorded bytes.
    pub digest: Digest,
    /// The recorded inode. If the file has another one, another process has replaced it.
    pub inode: Inode,
    /// When the inode was created, in nanoseconds since 1970, because numbers of deleted inodes are
    /// reused. 0 where the filesystem does not say.
    pub born_ns: u64,
    /// The attributes that the file must have.
    pub attributes: Attributes,
    /// The inode's change time when its bytes were last known to be right. A link moves it, too, so
    /// another change time only means that the bytes have to be verified.
    pub changed_ns: Option<i64>,
}

impl Entry {
    /// The entry of a file that was just restored or stored.
    pub fn of(digest: Digest, metadata: &Metadata) -> Entry {
        Entry {
            digest,
            inode: inode(metadata),
            born_ns: born_ns(metadata),
            attributes: Attributes::of(metadata),
            changed_ns: Some(changed_ns(metadata)),
        }
    }

    /// Whether this is the recorded inode.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        (self.inode, self.born_ns) == (inode(metadata), born_ns(metadata))
    }
}

fn born_ns(metadata: &Metadata) -> u64 {
    let since = metadata.created().ok().and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

pub(super) fn inode(metadata: &Metadata) -> Inode {
    Inode { device: metadata.dev(), number: metadata.ino() }
}

pub(super) fn changed_ns(metadata: &Metadata) -> i64 {
    nanoseconds(metadata.ctime(), metadata.ctime_nsec())
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
