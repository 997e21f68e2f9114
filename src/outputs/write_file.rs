//! Writes a small file to another path and renames it to its own. A reader sees the old file or the
//! new one, and a shared inode is never written to (RST-02).

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file with exactly this mode, whatever the umask is.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_file_name(format!(".kache-{}-text-{number}", std::process::id()));
    write_file_by(&draft, path, bytes, mode)
}

/// The same, with `draft` as the path that is written first.
pub(super) fn write_file_by(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(draft, path)
    };
    write().inspect_err(|_| {
        // No other process uses the draft. If it does not exist, nothing is left to remove.
        let _ = fs::remove_file(draft);
    })
}
