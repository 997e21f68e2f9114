//! How a shared file that was changed is restored.
//!
//! If its bytes are right, only its date, mode or owner were changed. It is then replaced by a link
//! to the store's file, which has a fresh inode by then, or else by a copy. If its bytes are wrong
//! it is removed, so that cargo asks for it. It is not replaced by the recorded bytes, because a
//! linker of this very checkout may have written the new ones in place.
//!
//! Invariant: only the recorded inode is ever replaced or removed, because a compiler may write to
//! the same directory at the same time.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kache_cas::{AccessKind, DigestFunction, Hash, Hasher, Link, LinkedFile, PlaceOptions, Sharing};

use super::check::{Stores, beside};
use super::entry::Entry;
use crate::inputs::is_absence;

/// How much of a file is read at a time.
const READ_BYTES: usize = 256 << 10;

/// The outcome for one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repaired {
    /// It is restored, as a link to an inode that other checkouts may share.
    Shared(Entry),
    /// It is restored, as a file of its own.
    Private,
    /// Its bytes were wrong, and it is removed.
    Removed,
    /// Another file is there by now, and is left alone.
    Foreign,
}

/// Restores this file, whose inode was changed.
pub(super) fn repair(path: &Path, entry: &Entry, stores: Stores<'_>) -> io::Result<Repaired> {
    let Stores { files, blobs } = stores;
    if digest_of(path)? != Some(entry.digest.hash) {
        // If this is the store's inode, the store takes the blob out of service.
        let _ = blobs.open(&entry.digest, AccessKind::Peek);
        return remove(path, entry);
    }
    let beside = Beside(beside(path));
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
        return Ok(Repaired::Foreign);
    }
    Ok(match link {
        Link::Hardlink => Repaired::Shared(Entry::of(entry.digest, &metadata)),
        Link::Reflink | Link::Copy => Repaired::Private,
    })
}

/// A file beside its destination, which is removed with this value.
struct Beside(std::path::PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After an exchange this is the file that was changed.
        let _ = fs::remove_file(&self.0);
    }
}

/// The BLAKE3 of a file; `None` where there is none.
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
    // A compiler has written another file meanwhile, which goes back to its place.
    swap()?;
    Ok(false)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(new: &Path, path: &Path, entry: &Entry) -> io::Result<bool> {
    replace(new, path, entry)
}

/// The same where the filesystem cannot exchange two files in one step.
fn replace(new: &Path, path: &Path, entry: &Entry) -> io::Result<bool> {
    if !is_there(path, entry)? {
        return Ok(false);
    }
    fs::rename(new, path)?;
    Ok(true)
}

fn remove(path: &Path, entry: &Entry) -> io::Result<Repaired> {
    if !is_there(path, entry)? {
        return Ok(Repaired::Foreign);
    }
    match fs::remove_file(path) {
        Err(error) if is_absence(&error) => Ok(Repaired::Foreign),
        removed => removed.map(|()| Repaired::Removed),
    }
}

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
    fn rst_02_what_a_compiler_puts_there_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [path, new, compiled] = ["x", "new", "compiled"].map(|name| dir.path().join(name));
        write(&path, "laid down");
        let laid_down = entry(&path, "laid down");
        write(&new, "anew");
        assert!(exchange(&new, &path, &laid_down).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "anew");

        write(&compiled, "compiled");
        fs::rename(&compiled, &path).unwrap();
        write(&new, "anew again");
        assert!(!exchange(&new, &path, &laid_down).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "compiled");
        assert_eq!(remove(&path, &laid_down).unwrap(), Repaired::Foreign);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        assert!(!exchange(&new, &path, &laid_down).unwrap() && !path.exists());
    }

    #[test]
    fn rst_02_a_file_that_is_parted_bears_what_it_bore() {
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
