//! Standard input, where the call reads it: read once, sent along, and put back for whoever
//! runs.
//!
//! A source on standard input is what build scripts try compilers with. It is taken only
//! where it is sure to end soon: it is a file, empty, or a pipe that the compiler itself would
//! read to its end.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Stdio;

use nix::unistd::dup2_stdin;

/// The most that is sent. Trial sources are a few lines; a request has room for arguments and
/// an environment besides.
pub(crate) const STDIN_BYTES_MAX: usize = 256 * 1024;

/// What became of standard input.
#[derive(Debug)]
pub(crate) enum Stdin {
    /// It was not touched.
    Untouched,
    /// It was read to its end.
    Taken(Vec<u8>),
}

impl Stdin {
    /// Takes it if these arguments say that the compiler reads it.
    pub(crate) fn of_call(args: &[OsString]) -> Stdin {
        if !args.iter().any(|arg| arg == "-") {
            return Stdin::Untouched;
        }
        let Ok(owned) = io::stdin().as_fd().try_clone_to_owned() else { return Stdin::Untouched };
        let file = File::from(owned);
        let is_question = args.iter().any(|arg| is_print(arg));
        if !is_sure_to_end(&file, is_question) {
            return Stdin::Untouched;
        }
        let mut bytes = Vec::new();
        match (&file).read_to_end(&mut bytes) {
            Ok(_) => Stdin::Taken(bytes),
            Err(_) => Stdin::Untouched,
        }
    }

    /// What is sent.
    pub(crate) fn to_send(&self) -> Option<&[u8]> {
        match self {
            Stdin::Taken(bytes) if bytes.len() <= STDIN_BYTES_MAX => Some(bytes),
            _ => None,
        }
    }

    /// For a child.
    pub(crate) fn for_child(&self) -> io::Result<Stdio> {
        match self {
            Stdin::Untouched => Ok(Stdio::inherit()),
            Stdin::Taken(bytes) => Ok(file_with(bytes)?.into()),
        }
    }

    /// Puts it back in its place.
    pub(crate) fn restore(self) {
        drop(self.restore_for_now());
    }

    /// Puts it back in its place, and keeps it to be put back again.
    pub(crate) fn restore_for_now(self) -> Stdin {
        if let Stdin::Taken(bytes) = &self
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

fn is_sure_to_end(file: &File, is_question: bool) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let kind = found.file_type();
    let is_null = || {
        let null = std::fs::metadata("/dev/null");
        kind.is_char_device() && null.is_ok_and(|null| null.rdev() == found.rdev())
    };
    // A question need not read its input, so a pipe could stay open for ever.
    kind.is_file() || is_null() || (kind.is_fifo() && !is_question)
}

/// A file without a name that holds these bytes, from its beginning.
fn file_with(bytes: &[u8]) -> io::Result<File> {
    let mut file = nameless()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(target_os = "linux")]
fn nameless() -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    match memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC) {
        Ok(fd) => Ok(File::from(fd)),
        Err(_) => unlinked(),
    }
}

#[cfg(not(target_os = "linux"))]
fn nameless() -> io::Result<File> {
    unlinked()
}

fn unlinked() -> io::Result<File> {
    let path = Path::new("/tmp").join(format!("kache-stdin-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
