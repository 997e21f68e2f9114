//! Reads one configuration file: its text and its owner. It does not interpret the text.
//!
//! A checkout may contain anything under the name of a project file, so reading is limited in
//! size and does not block on a pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::diagnostic::{ConfigError, Site, position};

/// The size limit of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The kinds of files that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Any file, including a pipe and `/dev/null`: the user chose it.
    Any,
    /// Only a regular file. Reading a pipe in a checkout could block for ever.
    Regular,
}

/// The content of a configuration file.
pub(super) struct ConfigFile {
    pub(super) text: String,
    pub(super) owner_uid: u32,
}

/// Reads a file; `None` if it does not exist. If this user may not search the directory, the
/// file counts as not existing.
pub(super) fn read(path: &Path, kind: FileKind) -> Result<Option<ConfigFile>, ConfigError> {
    let unreadable = |error: io::Error| {
        let what = format!("this file cannot be read: {error}");
        whole(path, what, "correct its permissions, or move it away")
    };
    // Opening a pipe for reading blocks until another process opens it for writing, and the kind of
    // the file is only known reliably once it is open. `O_NONBLOCK` opens it at once and has no
    // effect on regular files.
    let flags = if kind == FileKind::Regular { libc::O_NONBLOCK } else { 0 };
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_absent(path, &error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if kind == FileKind::Regular && !metadata.is_file() {
        return Err(whole(path, "this is not a file".to_owned(), "move it away"));
    }
    let bytes = read_bounded(file).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        let what = format!("this file is larger than CONFIG_BYTES_MAX ({CONFIG_BYTES_MAX}) allows");
        return Err(whole(path, what, "check that it is a configuration file, or move it away"));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    Ok(Some(ConfigFile { text, owner_uid: metadata.uid() }))
}

/// Reads up to one byte more than the limit, so that the caller notices a file that is too large.
fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the file does not exist, or lies in a directory that this user may not search.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    let is_hidden =
        || fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => true,
        io::ErrorKind::PermissionDenied => is_hidden(),
        _ => false,
    }
}

fn whole(path: &Path, what: String, remedy: &str) -> ConfigError {
    ConfigError { site: Site::WholeFile(path.to_owned()), what, remedy: remedy.to_owned() }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ConfigError {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let (line, column) = position(&String::from_utf8_lossy(valid), valid.len());
    ConfigError {
        site: Site::File { path: path.to_owned(), line, column },
        what: "this is not UTF-8".to_owned(),
        remedy: "save the file as UTF-8, as TOML requires".to_owned(),
    }
}
