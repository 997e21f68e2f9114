//! Reads a file that holds a token and nothing else.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use kache_remote::Secret;

/// The largest token that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Reads the token, or says in a sentence why it cannot be used. No error shows a byte of the file.
pub(super) fn read(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("its `token_file` `{shown}` cannot be read: {error}");
    // A pipe would block.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("its `token_file` `{shown}` is not a file"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(format!("every user of this machine can read its `token_file`: run `chmod 600 {shown}`"));
    }
    let mut text = String::new();
    file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    match text.trim() {
        "" => Err(format!("its `token_file` `{shown}` is empty")),
        _ if text.len() as u64 > TOKEN_BYTES_MAX => Err(format!(
            "its `token_file` `{shown}` is larger than TOKEN_BYTES_MAX ({TOKEN_BYTES_MAX}) allows"
        )),
        token => Ok(Secret::new(token)),
    }
}
