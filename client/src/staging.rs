//! The staging directory of a call: what the daemon lays down for it passes through there.
//!
//! The client makes it beside the outputs before it asks. Every change that the daemon makes in a
//! checkout names a path in it, so once the client has taken the directory away the daemon changes
//! nothing more, at whatever moment it was stopped and however much later it goes on. A client that
//! goes on alone takes the directory away first, then removes what was laid down in part, and runs
//! the compiler after that.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The list of outputs: before a result's first output gets its place, all of them are added to it. A
/// byte of zero ends each path.
pub const OUTPUTS: &str = "outputs";

/// Where cargo keeps its records of units, a directory each.
const RECORDS: &str = ".fingerprint";

/// How often removing a directory is tried into which somebody may still be writing.
const REMOVALS_MAX: usize = 5;

/// A directory that was made for one call.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    /// Beside the outputs of a compiler call; none where the call names no place for outputs, or
    /// where nothing can be made there.
    pub(crate) fn of_call(args: &[OsString], cwd: &Path) -> Option<Staging> {
        Staging::in_directory(&cwd.join(output_directory(args)?))
    }

    /// In this directory, which is there; `None` where nothing can be made in it.
    pub fn in_directory(directory: &Path) -> Option<Staging> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!(".kache-{}-{:x}", std::process::id(), since.as_nanos());
        let path = directory.join(name);
        DirBuilder::new().mode(0o700).create(&path).ok()?;
        Some(Staging { path })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was laid down stays.
    pub fn keep(self) {
        let _ = fs::remove_file(self.path.join(OUTPUTS));
        if fs::remove_dir(&self.path).is_err() {
            remove(&self.path);
        }
    }

    /// Nothing is laid down from now on, and what was laid down goes.
    pub fn revoke(self) {
        // An empty one was not used. Removing it is as final as renaming it.
        if fs::remove_dir(&self.path).is_ok() {
            return;
        }
        let mut aside = self.path.clone().into_os_string();
        aside.push("-revoked");
        let aside = PathBuf::from(aside);
        if fs::rename(&self.path, &aside).is_err() {
            return;
        }
        // The list is read first, and the directory goes before the outputs do. A rename out of it that
        // the daemon began before it was moved may still be under way in the kernel: either it ends
        // before the directory is removed, and its output goes below, or it finds nothing to rename.
        let outputs = listed_outputs(&aside);
        remove(&aside);
        for output in outputs {
            remove_output(&output);
        }
    }
}

/// Removes a directory with all that is in it. Somebody who has just opened a file there may still
/// give it a name.
fn remove(path: &Path) {
    for _ in 0..REMOVALS_MAX {
        if fs::remove_dir_all(path).is_ok() || fs::symlink_metadata(path).is_err() {
            return;
        }
    }
}

fn remove_output(path: &Path) {
    let is_record = path.parent().and_then(Path::file_name).is_some_and(|name| name == RECORDS);
    // Any other directory is none of ours, whatever its name.
    let _ = if is_record { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// The outputs that are listed, the last ones first: cargo's record of a unit is listed after the
/// unit's files, and has to go before them.
fn listed_outputs(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read(dir.join(OUTPUTS)).unwrap_or_default();
    // What no byte of zero ends was not written to its end.
    let whole = text.split_inclusive(|byte| *byte == 0).filter_map(|path| path.strip_suffix(b"\0"));
    whole.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).rev().collect()
}

/// Where the outputs of a compiler call lie.
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

/// An argument, or the arguments that a file holds, one a line.
fn expanded(arg: &OsStr) -> Vec<OsString> {
    let Some(path) = arg.as_bytes().strip_prefix(b"@") else { return vec![arg.to_owned()] };
    let text = fs::read(OsStr::from_bytes(path)).unwrap_or_default();
    text.split(|byte| *byte == b'\n').map(|line| OsString::from_vec(line.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_where_the_outputs_do() {
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

    fn staging_is_left(dir: &Path) -> bool {
        let mut entries = fs::read_dir(dir).unwrap().flatten();
        entries.any(|entry| entry.file_name().as_bytes().starts_with(b".kache"))
    }

    #[test]
    fn rst_05_what_was_laid_down_in_part_goes_when_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::in_directory(dir.path()).unwrap();
        let [laid, other, cut] = ["laid", "other", "cu"].map(|name| dir.path().join(name));
        for path in [&laid, &other, &cut] {
            fs::write(path, "").unwrap();
        }
        let [record, theirs] = [".fingerprint/x", "theirs"].map(|name| dir.path().join(name));
        for path in [&record, &theirs] {
            fs::create_dir_all(path).unwrap();
        }
        let listed =
            [&laid, &dir.path().join("absent"), &record, &theirs].map(|path| path.display().to_string());
        let list = format!("{}\0{}", listed.join("\0"), cut.display());
        fs::write(staging.path().join("outputs"), list).unwrap();
        fs::write(staging.path().join("draft"), "").unwrap();
        staging.revoke();
        assert!(!laid.exists() && other.exists() && cut.exists());
        assert!(!record.exists() && theirs.exists(), "a directory of somebody else's stays");
        assert!(!staging_is_left(dir.path()));
    }

    #[test]
    fn what_was_laid_down_stays_when_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for draft in [None, Some("draft")] {
            let staging = Staging::in_directory(dir.path()).unwrap();
            let laid = dir.path().join("laid");
            fs::write(&laid, "").unwrap();
            fs::write(staging.path().join("outputs"), format!("{}\0", laid.display())).unwrap();
            if let Some(draft) = draft {
                fs::write(staging.path().join(draft), "").unwrap();
            }
            staging.keep();
            assert!(laid.exists());
            assert!(!staging_is_left(dir.path()));
        }
    }
}
