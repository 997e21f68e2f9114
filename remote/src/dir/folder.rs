//! The files of a shared folder.
//!
//! ```text
//! {dir}/cas/{hh}/{hash}   a blob
//! {dir}/ac/{hh}/{hash}    an encoded `ActionResult`
//! {dir}/tmp/{uuid}        what is being written
//! {dir}/collected         its date is that of the last collection
//! ```
//!
//! `hh` is the beginning of `hash`. Each file is written under a name of its own and then renamed, so many
//! machines may write at once, and a reader sees whole files only. No link below the folder is followed, and
//! nothing but a regular file is read, so a writer cannot make another machine read or write elsewhere.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bytes::Bytes;
use kache_cas::Hash;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::collection::note_use;
use super::threads::Progress;
use crate::error::RemoteError;
use crate::uuid;

/// Where files are written before they get their names.
pub(super) const TMP: &str = "tmp";

/// How many bytes are read or written in one step.
pub(super) const PIECE_BYTES: usize = 1024 * 1024;

/// A kind of file in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// The directory `ac` holds results of actions.
    Results,
    /// The directory `cas` holds blobs.
    Blobs,
}

impl Space {
    pub(super) fn name(self) -> &'static str {
        match self {
            Space::Results => "ac",
            Space::Blobs => "cas",
        }
    }
}

/// A file of the folder that is open for reading.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) size_bytes: u64,
    /// Whether no machine has noted a use of it for an hour.
    pub(super) was_idle: bool,
}

/// A shared folder. Its methods block.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Names a folder. Nothing is opened yet.
    pub(super) fn new(dir: PathBuf) -> Folder {
        Folder { dir }
    }

    /// Opens a file, which counts as used then; `None` if there is no regular file with this name.
    pub(super) fn open(&self, space: Space, hash: Hash) -> Result<Option<OpenFile>, RemoteError> {
        let name = hash.to_hex();
        let open = || {
            let root = self.root()?;
            let shelf = directory(&directory(&root, space.name())?, &name[..2])?;
            // A pipe without a writer would make `open` wait.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            match openat(&shelf, name.as_str(), flags, Mode::empty()) {
                // kache writes regular files only. Anything else counts as missing, and a write replaces it.
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(None),
                Err(errno) => Err(io::Error::from(errno)),
                Ok(file) => regular(File::from(file)),
            }
        };
        // Only the directories below the root may be missing: `root` says so if the root is.
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => outcome.map_err(|error| self.error("read", space, &name, &error)),
        }
    }

    /// Writes a file of which `next` returns piece after piece, and an empty one at the end.
    pub(super) fn write(
        &self,
        space: Space,
        hash: Hash,
        progress: &Progress,
        next: impl FnMut() -> Result<Bytes, RemoteError>,
    ) -> Result<(), RemoteError> {
        let (name, own_name) = (hash.to_hex(), uuid::random());
        let failed = |error: io::Error| self.error("write", space, &name, &error);
        let root = self.root().map_err(failed)?;
        let tmp = made_directory(&root, TMP).map_err(failed)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o666);
        let file = openat(&tmp, own_name.as_str(), flags, mode).map_err(|errno| failed(errno.into()))?;
        let written = fill(File::from(file), progress, next, failed).and_then(|()| {
            let place = || {
                let shelf = made_directory(&made_directory(&root, space.name())?, &name[..2])?;
                renameat(&tmp, own_name.as_str(), &shelf, name.as_str()).map_err(io::Error::from)
            };
            place().map_err(failed)
        });
        if written.is_err() {
            // The first error counts, and a file that stays is only waste.
            let _ = unlinkat(&tmp, own_name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// Opens the folder itself, which may be a link. It is never created: where a mount is missing, its files
    /// would be written to this machine's disk.
    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        let opened = File::open(&self.dir).and_then(|root| match root.metadata()?.is_dir() {
            true => Ok(root),
            false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        });
        match opened {
            // Another kind than `NotFound`, which means that a file in the folder is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("there is no such folder"))
            }
            opened => opened.map(OwnedFd::from),
        }
    }

    fn error(&self, what: &str, space: Space, name: &str, error: &io::Error) -> RemoteError {
        use io::ErrorKind as Kind;
        let path = self.dir.join(space.name()).join(&name[..2]).join(name);
        let message = format!("failed to {what} `{}`: {error}", path.display());
        match error.kind() {
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::NotADirectory
            | Kind::IsADirectory => RemoteError::refused(message),
            Kind::FileTooLarge => RemoteError::too_large(message),
            _ => RemoteError::unavailable(message),
        }
    }
}

/// Opens a directory that is no link.
pub(super) fn directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Opens a directory that is no link, and creates it if it is missing.
pub(super) fn made_directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match directory(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match mkdirat(parent, name, Mode::from_bits_truncate(0o777)) {
                // Another machine was faster.
                Ok(()) | Err(Errno::EEXIST) => directory(parent, name),
                Err(errno) => Err(errno.into()),
            }
        }
        outcome => outcome,
    }
}

/// Returns the file with its size; `None` if it is no regular one.
fn regular(file: File) -> io::Result<Option<OpenFile>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let was_idle = note_use(&file, metadata.modified()?);
    Ok(Some(OpenFile { file, size_bytes: metadata.len(), was_idle }))
}

/// Writes all pieces to a file, and waits until they are on the disk. Otherwise a machine that loses its power
/// could leave a file of the right length with other bytes, which nobody would write again.
fn fill(
    mut file: File,
    progress: &Progress,
    mut next: impl FnMut() -> Result<Bytes, RemoteError>,
    failed: impl Fn(io::Error) -> RemoteError,
) -> Result<(), RemoteError> {
    loop {
        let piece = next()?;
        if piece.is_empty() {
            return file.sync_data().map_err(failed);
        }
        file.write_all(&piece).map_err(&failed)?;
        progress.step();
    }
}

/// Reads a whole file of this size, step by step.
pub(super) fn read_all(file: &mut File, size_bytes: u64, progress: &Progress) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    // One byte more shows a file that has grown meanwhile.
    let mut rest = file.take(size_bytes + 1);
    while rest.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut bytes)? > 0 {
        progress.step();
    }
    Ok(Bytes::from(bytes))
}
