//! A compiler call: its arguments, directory, environment and umask.
//!
//! A call holds everything except files that the result of the compile may depend on. It never holds the
//! daemon's own environment or directory (DMN-01).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// One run of the wrapper, as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The program as the caller named it, then the arguments.
    pub argv: Vec<OsString>,
    /// The working directory of the client, absolute.
    pub cwd: PathBuf,
    /// The environment of the client.
    pub env: Environment,
    /// The umask of the client; restored files get it, too.
    pub umask: u32,
    /// The content of standard input; `None` if the call does not read it.
    pub stdin: Option<Bytes>,
}

/// Splits `NAME=value`. Without `=`, the variable is set and empty, which differs from unset.
pub fn variable(assignment: &[u8]) -> (OsString, OsString) {
    let at = assignment.iter().position(|byte| *byte == b'=').unwrap_or(assignment.len());
    let value = assignment.get(at + 1..).unwrap_or_default();
    (OsString::from_vec(assignment[..at].to_vec()), OsString::from_vec(value.to_vec()))
}

/// A set of environment variables, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Returns the value of a variable; `None` if it is not set. An empty variable is set (KEY-06).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Returns the path that a variable holds; `None` if it is not set or empty.
    pub fn path(&self, name: impl AsRef<OsStr>) -> Option<&Path> {
        self.get(name).filter(|value| !value.is_empty()).map(Path::new)
    }

    /// Sets a variable, or replaces its value.
    pub fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// Removes a variable, so that it is not set.
    pub fn unset(&mut self, name: impl AsRef<OsStr>) {
        self.0.remove(name.as_ref());
    }

    /// Returns all variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
