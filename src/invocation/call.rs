//! A compiler call as it was made: argv, directory, environment, umask.
//!
//! Everything that a call may depend on besides the file system is in here; the daemon's own
//! environment and directory never are (DMN-01).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A compiler call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The program first, as it was named.
    pub argv: Vec<OsString>,
    /// The directory it was made in, absolute.
    pub cwd: PathBuf,
    /// Its environment.
    pub env: Environment,
    /// The umask that its files get.
    pub umask: u32,
    /// What is on standard input, where the call reads it.
    pub stdin: Option<Bytes>,
}

/// A variable from `NAME=value`. One without `=` is empty, which is not unset.
pub fn variable(assignment: &[u8]) -> (OsString, OsString) {
    let at = assignment.iter().position(|byte| *byte == b'=').unwrap_or(assignment.len());
    let value = assignment.get(at + 1..).unwrap_or_default();
    (OsString::from_vec(assignment[..at].to_vec()), OsString::from_vec(value.to_vec()))
}

/// An environment, in order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// A variable's value; unset and empty are two things (KEY-06).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// The place that a variable names. An empty one names none.
    pub fn path(&self, name: impl AsRef<OsStr>) -> Option<&Path> {
        self.get(name).filter(|value| !value.is_empty()).map(Path::new)
    }

    /// Gives a variable a value.
    pub fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// Takes a variable away.
    pub fn unset(&mut self, name: impl AsRef<OsStr>) {
        self.0.remove(name.as_ref());
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
