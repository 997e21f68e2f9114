//! Restores a shared file that was changed.
//!
//! If its bytes are right, only its date, mode or owner were changed. The file is then replaced by a
//! link to the store's file, which gets a new inode for this, or by a copy. If its bytes are wrong, the
//! file is removed, so that cargo makes it again. It is not replaced by the recorded bytes, because a
//! linker in the same checkout may have written the new ones in place.
//!
//! Invariant: only the recorded inode is ever replaced or removed, because a compiler may write to
//! the same directory at the same time.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kache_cas::{AccessKind, DigestFunction, Hash, Hasher, Link, LinkedFile, PlaceOptions, Sharing};

use super::check::{RepairSource, beside};
use super::entry::Entry;
use crate::inputs::is_absence;

/// The size of the buffer with which a file is hashed.
const READ_BYTES: usize = 256 << 10;

/// The way in which a changed file was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepairOutcome {
    /// The file was restored, as a link to an inode that other checkouts may share.
    Shared(Entry),
    /// The file was restored, with an inode of its own.
    Private,
    /// The bytes were wrong, and the file was removed.
    Removed,
    /// Another process has put another file there, which was left alone.
    Replaced,
}

/// Restores or removes a file whose recorded inode was changed.
pub(super) fn repair(path: &Path, entry: &Entry, source: RepairSource<'_>) -> io::Result<RepairOutcome> {
    let RepairSource { files, blobs } = source;
    if digest_of(path)? != Some(entry.digest.hash) {
        // If the store's file has the same inode, its bytes are wrong, too. Opening it makes the store
        // notice that.
        let _ = blobs.open(&entry.digest, AccessKind::Peek);
        return remove(path, entry);
    }
    let beside = Beside(beside(path));
    // The changed inode must not be linked again, so the store has to use another one.
    let placing = PlaceOptions {
        mode: entry.attributes.mode,
        modified: Some(date(entry.attributes.modified_ns)),
        sharing: Sharing::Anew { not: entry.inode.number },
        staging: None,
    };
    let link = match files.place(&entry.digest, &beside.0, &placing) {
        Ok(Some(LinkedFile { link, .. })) => link,
        // The store does not have the blob any longer, but its bytes are here.
        Ok(None) | Err(_) => {
            copy(path, &beside.0, &placing)?;
            Link::Copy
        }
    };
    let metadata = fs::symlink_metadata(&beside.0)?;
    if !exchange(&beside.0, path, entry)? {
        return Ok(RepairOutcome::Replaced);
    }
    Ok(match link {
        Link::Hardlink => RepairOutcome::Shared(Entry::of(entry.digest, &metadata)),
        Link::Reflink | Link::Copy => RepairOutcome::Private,
    })
}

/// A temporary file beside its destination, which is removed when this value is dropped.
struct Beside(std::path::PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After an exchange this is the file that was changed.
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns the BLAKE3 of a file; `None` if there is no file.
pub(super) fn digest_of(path: &Path) -> io::Result<Option<Hash>> {
    let mut file = match File::open(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        file => file?,
    };
    let mut hasher = Hasher::new(DigestFunction::Blake3);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finish().blake3)),
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn copy(from: &Path, to: &Path, placing: &PlaceOptions<'_>) -> io::Result<()> {
    fs::copy(from, to)?;
    let file = File::open(to)?;
    if let Some(modified) = placing.modified {
        file.set_times(FileTimes::new().set_modified(modified))?;
    }
    file.set_permissions(Permissions::from_mode(placing.mode))
}

/// Gives a file an inode of its own, with the same bytes, date and mode.
pub fn unshare(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let beside = Beside(beside(path));
    let mode = metadata.permissions().mode();
    copy(
        path,
        &beside.0,
        &PlaceOptions { mode, modified: Some(metadata.modified()?), sharing: Sharing::Copy, staging: None },
    )?;
    fs::rename(&beside.0, path)
}

/// Replaces the recorded file by the new one. Returns whether it was still there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(new: &Path, path: &Path, entry: &Entry) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    let swap = || renameat2(AT_FDCWD, new, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE);
    match swap() {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(false),
        Err(Errno::EINVAL | Errno::ENOSYS) => return replace(new, path, entry),
        Err(errno) => return Err(errno.into()),
    }
    if entry.is(&fs::symlink_metadata(new)?) {
        return Ok(true);
    }
    // A compiler has written another file meanwhile. The second exchange puts it back.
    swap()?;
    Ok(false)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(new: &Path, path: &Path, entry: &Entry) -> io::Result<bool> {
    replace(new, path, entry)
}

/// Does the same on filesystems that cannot exchange two files in one step. A file that a compiler
/// writes between the check and the rename is lost.
fn replace(new: &Path, path: &Path, entry: &Entry) -> io::Result<bool> {
    if !is_there(path, entry)? {
        return Ok(false);
    }
    fs::rename(new, path)?;
    Ok(true)
}

fn remove(path: &Path, entry: &Entry) -> io::Result<RepairOutcome> {
    if !is_there(path, entry)? {
        return Ok(RepairOutcome::Replaced);
    }
    match fs::remove_file(path) {
        Err(error) if is_absence(&error) => Ok(RepairOutcome::Replaced),
        removed => removed.map(|()| RepairOutcome::Removed),
    }
}

/// Whether the recorded inode is at this path.
fn is_there(path: &Path, entry: &Entry) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if is_absence(&error) => Ok(false),
        metadata => Ok(entry.is(&metadata?)),
    }
}

fn date(modified_ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(modified_ns.unsigned_abs());
    if modified_ns < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &Path, text: &str) -> Entry {
        let digest = kache_cas::Digest::of(DigestFunction::Blake3, text.as_bytes());
        Entry::of(digest, &fs::symlink_metadata(path).unwrap())
    }

    fn write(path: &Path, text: &str) {
        let mut file = File::create(path).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    #[test]
    fn rst_02_a_file_that_a_compiler_writes_during_a_repair_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [path, new, compiled] = ["x", "new", "compiled"].map(|name| dir.path().join(name));
        write(&path, "restored");
        let restored = entry(&path, "restored");
        write(&new, "repaired");
        assert!(exchange(&new, &path, &restored).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "repaired");

        write(&compiled, "compiled");
        fs::rename(&compiled, &path).unwrap();
        write(&new, "repaired again");
        assert!(!exchange(&new, &path, &restored).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "compiled");
        assert_eq!(remove(&path, &restored).unwrap(), RepairOutcome::Replaced);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        assert!(!exchange(&new, &path, &restored).unwrap() && !path.exists());
    }

    #[test]
    fn rst_02_an_unshared_file_keeps_its_bytes_date_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["x", "y"].map(|name| dir.path().join(name));
        write(&path, "text");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let before = entry(&path, "text");
        unshare(&path).unwrap();
        let after = entry(&path, "text");
        assert_eq!(after.attributes, before.attributes);
        assert_ne!(after.inode, before.inode);
        assert_eq!(entry(&other, "text").inode, before.inode);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
