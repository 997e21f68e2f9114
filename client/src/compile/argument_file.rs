//! Arguments that no process can be started with, in a file that the compiler reads in their
//! place (`@path`, one argument a line).
//!
//! A call that came with an argument file is known by what the file says, and its compiler gets
//! other arguments than the call: options in front, others taken out. So the file that it came
//! with cannot be handed on.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file with arguments in it; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct ArgumentFile {
    path: PathBuf,
}

impl ArgumentFile {
    /// The same arguments, as few as can be: what comes before the first option stays, since a
    /// driver looks there for what it stands for (`clippy-driver rustc …`).
    pub(crate) fn shorten(args: &[OsString], dir: &Path) -> io::Result<(ArgumentFile, Vec<OsString>)> {
        let is_option = |arg: &OsString| matches!(arg.as_bytes().first(), Some(b'-' | b'@'));
        let first = args.iter().position(is_option).unwrap_or(args.len());
        let (before, rest) = args.split_at(first);
        // A line is an argument, and one that begins so would be a file in a file.
        let is_line = |arg: &OsString| !arg.as_bytes().contains(&b'\n') && !arg.as_bytes().starts_with(b"@");
        if !rest.iter().all(is_line) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = dir.join(format!("kache-arguments.{}", std::process::id()));
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let file = ArgumentFile { path };
        made.write_all(&rest.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>().join(&b"\n"[..]))?;
        made.write_all(b"\n")?;
        let mut shorter = before.to_vec();
        shorter.push(file.argument());
        Ok((file, shorter))
    }

    fn argument(&self) -> OsString {
        let mut argument = OsString::from("@");
        argument.push::<&OsStr>(self.path.as_ref());
        argument
    }
}

impl Drop for ArgumentFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_11_arguments_are_a_line_each_and_what_stands_in_front_stays() {
        let dir = tempfile::tempdir().unwrap();
        let shorten = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            ArgumentFile::shorten(&args, dir.path())
        };
        let (file, args) = shorten(&["/bin/rustc", "--cfg", "a=\"b c\"", "", "x.rs"]).unwrap();
        let argument = args[1].to_str().unwrap();
        assert_eq!((args.len(), &*args[0]), (2, OsStr::new("/bin/rustc")));
        let path = PathBuf::from(argument.strip_prefix('@').unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "--cfg\na=\"b c\"\n\nx.rs\n");
        assert!(shorten(&["--cfg"]).is_err(), "somebody else's file is not written over");
        drop(file);
        assert!(!path.exists());
        assert!(shorten(&["--cfg", "a\nb"]).is_err() && shorten(&["-v", "@more"]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
