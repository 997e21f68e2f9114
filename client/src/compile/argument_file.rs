//! An argument file (`@path`, one argument a line) for a compiler whose arguments are too long for
//! a command line.
//!
//! The call itself may have come with such a file. That one cannot be passed on, because the daemon
//! adds and removes arguments.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// An argument file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct ArgumentFile {
    path: PathBuf,
}

impl ArgumentFile {
    /// Writes the arguments to a file in `dir` and returns it with the short command line that names
    /// it. Arguments before the first option stay on the command line, because a driver looks there
    /// for the compiler that it replaces (`clippy-driver rustc …`).
    pub(crate) fn shorten(args: &[OsString], dir: &Path) -> io::Result<(ArgumentFile, Vec<OsString>)> {
        let is_option = |arg: &OsString| matches!(arg.as_bytes().first(), Some(b'-' | b'@'));
        let first = args.iter().position(is_option).unwrap_or(args.len());
        let (before, rest) = args.split_at(first);
        // A line break would end the argument, and `@` would name another file.
        let fits_a_line =
            |arg: &OsString| !arg.as_bytes().contains(&b'\n') && !arg.as_bytes().starts_with(b"@");
        if !rest.iter().all(fits_a_line) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = dir.join(format!("kache-arguments.{}", std::process::id()));
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let file = ArgumentFile { path };
        opened.write_all(&rest.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>().join(&b"\n"[..]))?;
        opened.write_all(b"\n")?;
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
    fn key_11_each_argument_gets_a_line_and_those_before_the_first_option_stay() {
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
        assert!(shorten(&["--cfg"]).is_err(), "an existing file is not overwritten");
        drop(file);
        assert!(!path.exists());
        assert!(shorten(&["--cfg", "a\nb"]).is_err() && shorten(&["-v", "@more"]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
