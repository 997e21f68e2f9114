//! The standard input of a call that compiles from it: read to its end, sent to the daemon, and
//! replaced by a copy for the compiler.
//!
//! Build scripts try compilers with a source on standard input. It is read only where it is certain
//! to end soon: it is a file, `/dev/null`, or a pipe that the compiler itself would read to its end.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Stdio;

use nix::unistd::dup2_stdin;

/// The largest standard input that is sent to the daemon. Trial sources are a few lines, and the
/// request needs room for arguments and an environment.
pub(crate) const STDIN_BYTES_MAX: usize = 256 * 1024;

/// The standard input of a call.
#[derive(Debug)]
pub(crate) enum CallStdin {
    /// Nothing was read from it.
    Untouched,
    /// It was read to its end, and this is the content.
    Read(Vec<u8>),
}

impl CallStdin {
    /// Reads standard input if the arguments say that the compiler reads it, and if that cannot
    /// block for ever.
    pub(crate) fn read(args: &[OsString]) -> CallStdin {
        if !args.iter().any(|arg| arg == "-") {
            return CallStdin::Untouched;
        }
        let Ok(owned) = io::stdin().as_fd().try_clone_to_owned() else { return CallStdin::Untouched };
        let file = File::from(owned);
        let is_print_query = args.iter().any(|arg| is_print(arg));
        if !is_sure_to_end(&file, is_print_query) {
            return CallStdin::Untouched;
        }
        let mut bytes = Vec::new();
        match (&file).read_to_end(&mut bytes) {
            Ok(_) => CallStdin::Read(bytes),
            Err(_) => CallStdin::Untouched,
        }
    }

    /// Returns the content for the request; `None` if nothing was read or it is too large.
    pub(crate) fn to_send(&self) -> Option<&[u8]> {
        match self {
            CallStdin::Read(bytes) if bytes.len() <= STDIN_BYTES_MAX => Some(bytes),
            _ => None,
        }
    }

    /// Returns the standard input for a child process, with the same content.
    pub(crate) fn for_child(&self) -> io::Result<Stdio> {
        match self {
            CallStdin::Untouched => Ok(Stdio::inherit()),
            CallStdin::Read(bytes) => Ok(file_with(bytes)?.into()),
        }
    }

    /// Makes the content readable again on this process's standard input, before an exec.
    pub(crate) fn restore(self) {
        drop(self.restore_for_now());
    }

    /// Does the same as [`CallStdin::restore`], and keeps the content in case the exec fails.
    pub(crate) fn restore_for_now(self) -> CallStdin {
        if let CallStdin::Read(bytes) = &self
            && let Ok(file) = file_with(bytes)
        {
            let _ = dup2_stdin(&file);
        }
        self
    }
}

fn is_print(arg: &OsStr) -> bool {
    arg.to_string_lossy().starts_with("--print")
}

fn is_sure_to_end(file: &File, is_print_query: bool) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    let kind = metadata.file_type();
    let is_null = || {
        let null = std::fs::metadata("/dev/null");
        kind.is_char_device() && null.is_ok_and(|null| null.rdev() == metadata.rdev())
    };
    // With `--print` the compiler need not read its input, so a pipe could stay open for ever.
    kind.is_file() || is_null() || (kind.is_fifo() && !is_print_query)
}

/// Returns a file without a name that holds these bytes, to be read from its beginning.
fn file_with(bytes: &[u8]) -> io::Result<File> {
    let mut file = unnamed_file()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(target_os = "linux")]
fn unnamed_file() -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    match memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC) {
        Ok(fd) => Ok(File::from(fd)),
        Err(_) => unlinked_file(),
    }
}

#[cfg(not(target_os = "linux"))]
fn unnamed_file() -> io::Result<File> {
    unlinked_file()
}

fn unlinked_file() -> io::Result<File> {
    let path = Path::new("/tmp").join(format!("kache-stdin-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
