//! The staging directory of a call, through which the daemon restores all outputs of the call.
//!
//! The client creates it beside the outputs before it sends the request. Every change that the
//! daemon makes in a checkout is a system call that names a path in this directory. So once the
//! client has moved the directory away, the daemon changes nothing more, at whichever moment it was
//! stopped and however much later it continues (RST-05). A client that continues without the daemon
//! first moves the directory away, then removes the outputs that were restored, and only then runs
//! the compiler.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file name of the list of outputs. Before the first output of a result is moved to its path,
/// the paths of all of them are appended to the list, each ended by a zero byte.
pub const OUTPUTS: &str = "outputs";

/// The directory in which cargo keeps its records of units, a directory each.
const RECORDS: &str = ".fingerprint";

/// The number of attempts to remove a directory while the daemon may still be writing to it.
const REMOVALS_MAX: usize = 5;

/// A staging directory, created for one call.
#[derive(Debug)]
pub struct StagingDirectory {
    path: PathBuf,
}

impl StagingDirectory {
    /// Creates the staging directory beside the outputs of a compiler call. Returns `None` where the
    /// call names no output directory, or where no directory can be created there.
    pub(crate) fn of_call(args: &[OsString], cwd: &Path) -> Option<StagingDirectory> {
        StagingDirectory::in_directory(&cwd.join(output_directory(args)?))
    }

    /// Creates a staging directory in `directory`, which must exist; `None` where that fails.
    pub fn in_directory(directory: &Path) -> Option<StagingDirectory> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!(".kache-{}-{:x}", std::process::id(), since.as_nanos());
        let path = directory.join(name);
        DirBuilder::new().mode(0o700).create(&path).ok()?;
        Some(StagingDirectory { path })
    }

    /// Returns the path of the directory, which the client sends to the daemon.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory; the restored outputs stay.
    pub fn keep(self) {
        let _ = fs::remove_file(self.path.join(OUTPUTS));
        if fs::remove_dir(&self.path).is_err() {
            remove(&self.path);
        }
    }

    /// Removes the directory and all outputs that were restored through it. From the moment of the
    /// rename below, the daemon can restore nothing more.
    pub fn revoke(self) {
        // An empty directory was not used. Removing it is as final as renaming it.
        if fs::remove_dir(&self.path).is_ok() {
            return;
        }
        let mut revoked = self.path.clone().into_os_string();
        revoked.push("-revoked");
        let revoked = PathBuf::from(revoked);
        if fs::rename(&self.path, &revoked).is_err() {
            return;
        }
        // The list is read first, and the directory is removed before the outputs. A rename out of the
        // directory, which the daemon began before it was moved, may still be under way in the kernel.
        // Either that rename ends before the directory is removed, and its output is removed below, or
        // it fails because its source is gone.
        let outputs = listed_outputs(&revoked);
        remove(&revoked);
        for output in outputs {
            remove_output(&output);
        }
    }
}

/// Removes a directory with its content. It tries again a few times, because the daemon may be just
/// creating a file there.
fn remove(path: &Path) {
    for _ in 0..REMOVALS_MAX {
        if fs::remove_dir_all(path).is_ok() || fs::symlink_metadata(path).is_err() {
            return;
        }
    }
}

fn remove_output(path: &Path) {
    let is_record = path.parent().and_then(Path::file_name).is_some_and(|name| name == RECORDS);
    // The daemon restores no other directories, so a listed path that is one belongs to the user.
    let _ = if is_record { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Returns the listed outputs, the last one first. Cargo's record of a unit is listed after the
/// unit's files and has to be removed before them, so that cargo never finds it without the files.
fn listed_outputs(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read(dir.join(OUTPUTS)).unwrap_or_default();
    // A path without a zero byte at its end was not completely written, so its output was not moved.
    let whole = text.split_inclusive(|byte| *byte == 0).filter_map(|path| path.strip_suffix(b"\0"));
    whole.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).rev().collect()
}

/// Returns the directory of a compiler call's outputs, as far as the arguments tell it; relative to
/// the call's directory. `None` where the call probably has no outputs.
fn output_directory(args: &[OsString]) -> Option<PathBuf> {
    let mut directory = None;
    let mut file = None;
    let mut has_source = false;
    let expanded = args.iter().flat_map(|arg| expanded(arg));
    let mut args = expanded.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--out-dir" {
            directory = args.next();
        } else if let Some(value) = bytes.strip_prefix(b"--out-dir=") {
            directory = Some(OsStr::from_bytes(value).to_owned());
        } else if bytes == b"-o" {
            file = args.next();
        } else if let Some(value) = bytes.strip_prefix(b"-o").filter(|_| !bytes.starts_with(b"-opt")) {
            file = Some(OsStr::from_bytes(value).to_owned());
        } else {
            has_source |= !bytes.starts_with(b"-") && bytes.ends_with(b".rs");
        }
    }
    let directory = directory.map(PathBuf::from);
    let of_file = || file.map(|file| PathBuf::from(file).parent().map(Path::to_owned).unwrap_or_default());
    directory.or_else(of_file).or_else(|| has_source.then(PathBuf::new))
}

/// Returns the argument, or for `@path` the arguments in that file, one a line.
fn expanded(arg: &OsStr) -> Vec<OsString> {
    let Some(path) = arg.as_bytes().strip_prefix(b"@") else { return vec![arg.to_owned()] };
    let text = fs::read(OsStr::from_bytes(path)).unwrap_or_default();
    text.split(|byte| *byte == b'\n').map(|line| OsString::from_vec(line.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_directory_is_created_beside_the_outputs() {
        for (args, expected) in [
            (&["--out-dir", "a/b", "x.rs"][..], Some("a/b")),
            (&["--out-dir=a", "-o", "c/x"], Some("a")),
            (&["x.rs", "-o", "c/x"], Some("c")),
            (&["x.rs", "-oc/x"], Some("c")),
            (&["-o", "x", "x.rs"], Some("")),
            (&["/compiler/rustc", "x.rs"], Some("")),
            (&["-vV"], None),
            (&["-", "--crate-name", "___", "--print=cfg"], None),
        ] {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(output_directory(&args), expected.map(PathBuf::from), "{args:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("args");
        fs::write(&file, "x.rs\n--out-dir\nfrom/file\n").unwrap();
        let mut named = OsString::from("@");
        named.push(&file);
        assert_eq!(output_directory(&[named]), Some(PathBuf::from("from/file")));
    }

    fn has_staging(dir: &Path) -> bool {
        let mut entries = fs::read_dir(dir).unwrap().flatten();
        entries.any(|entry| entry.file_name().as_bytes().starts_with(b".kache"))
    }

    #[test]
    fn rst_05_restored_outputs_are_removed_when_staging_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let staging = StagingDirectory::in_directory(dir.path()).unwrap();
        let [restored, other, cut] = ["restored", "other", "cu"].map(|name| dir.path().join(name));
        for path in [&restored, &other, &cut] {
            fs::write(path, "").unwrap();
        }
        let [record, users] = [".fingerprint/x", "users"].map(|name| dir.path().join(name));
        for path in [&record, &users] {
            fs::create_dir_all(path).unwrap();
        }
        let listed =
            [&restored, &dir.path().join("absent"), &record, &users].map(|path| path.display().to_string());
        let list = format!("{}\0{}", listed.join("\0"), cut.display());
        fs::write(staging.path().join("outputs"), list).unwrap();
        fs::write(staging.path().join("draft"), "").unwrap();
        staging.revoke();
        assert!(!restored.exists() && other.exists() && cut.exists());
        assert!(!record.exists() && users.exists(), "the user's directory stays");
        assert!(!has_staging(dir.path()));
    }

    #[test]
    fn restored_outputs_stay_when_staging_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for draft in [None, Some("draft")] {
            let staging = StagingDirectory::in_directory(dir.path()).unwrap();
            let restored = dir.path().join("restored");
            fs::write(&restored, "").unwrap();
            fs::write(staging.path().join("outputs"), format!("{}\0", restored.display())).unwrap();
            if let Some(draft) = draft {
                fs::write(staging.path().join(draft), "").unwrap();
            }
            staging.keep();
            assert!(restored.exists());
            assert!(!has_staging(dir.path()));
        }
    }
}
