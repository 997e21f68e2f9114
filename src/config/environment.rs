//! A snapshot of the environment that holds only the variables that kache documents, and the names of others.
//!
//! The programs take it once and pass it on. No other code reads the process's environment, so
//! the daemon cannot come to depend on the environment of the process that started it (DMN-01).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::env_vars::{
    self, ALL, AWS_PREFIX, HOME, KACHE_DAEMON, PREFIX, Variable, XDG_CACHE_HOME, XDG_CONFIG_HOME,
    XDG_STATE_HOME,
};

/// The documented variables that are set, and the names of unknown ones with kache's prefix.
#[derive(Clone, Default)]
pub struct Environment {
    set: BTreeMap<&'static str, OsString>,
    /// The names of all other variables with a value. The settings of a remote may name one of them.
    other_names: BTreeSet<String>,
    /// Documented variables with an empty value.
    emptied: BTreeSet<&'static str>,
    unknown: Vec<String>,
    /// The home directory in the user database, used if `HOME` is not set.
    home_of_user: Option<PathBuf>,
}

impl Environment {
    /// Takes a snapshot of this process's environment.
    pub fn of_process() -> Self {
        Environment { home_of_user: kache_client::os::home_dir(), ..Environment::new(env_vars::of_process()) }
    }

    /// The environment of a compiler call. Its user is the user of this process (DMN-02).
    pub(super) fn of_call(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Environment::new(pairs);
        if environment.get(HOME).is_none() {
            environment.home_of_user = kache_client::os::home_dir();
        }
        environment
    }

    /// Keeps the documented ones of these variables. A variable with an empty value counts as
    /// not set.
    pub fn new<N: AsRef<OsStr>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            // No documented name has a byte that is not UTF-8, so a lossy name matches none.
            let (name, value) = (name.as_ref().to_string_lossy(), value.into());
            match ALL.iter().find(|variable| variable.name == name) {
                Some(variable) if !value.is_empty() => {
                    environment.set.insert(variable.name, value);
                }
                Some(variable) => {
                    environment.emptied.insert(variable.name);
                }
                None => environment.note_other(name.into_owned(), !value.is_empty()),
            }
        }
        environment.unknown.sort();
        environment
    }

    /// Notes a variable that is not documented.
    fn note_other(&mut self, name: String, has_value: bool) {
        if name.starts_with(PREFIX) {
            self.unknown.push(name.clone());
        }
        if has_value {
            self.other_names.insert(name);
        }
    }

    /// Returns a variable's value; `None` if it is not set or empty.
    pub fn get(&self, variable: Variable) -> Option<&OsStr> {
        self.set.get(variable.name).map(OsString::as_os_str)
    }

    /// Whether a variable with this name is set and not empty. It need not be one that kache documents.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name) || self.other_names.contains(name)
    }

    /// Returns `HOME` and the variables that the tools of AWS read.
    pub(super) fn of_aws(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        let is_read = |name: &str| name == HOME.name || name.starts_with(AWS_PREFIX);
        self.set.iter().filter(move |(name, _)| is_read(name)).map(|(name, value)| (*name, value.as_os_str()))
    }

    /// Whether a variable is set to an empty value. For kache it then counts as not set, but for
    /// cargo some empty variables have a meaning.
    pub fn is_emptied(&self, variable: Variable) -> bool {
        self.emptied.contains(variable.name)
    }

    /// Whether compiles may use and start a daemon: false where `KACHE_DAEMON=never` is set.
    pub fn may_have_daemon(&self) -> bool {
        self.get(KACHE_DAEMON).is_none_or(|value| value != "never")
    }

    /// The names of variables that begin with `KACHE_` and are not documented.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Returns the user's directories for configuration, caches and logs.
    pub fn xdg_dirs(&self) -> XdgDirs {
        let path =
            |variable| self.get(variable).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
        let home = path(HOME).or_else(|| self.home_of_user.clone());
        let or_home = |variable, rest: &str| path(variable).or_else(|| Some(home.as_ref()?.join(rest)));
        XdgDirs {
            config: or_home(XDG_CONFIG_HOME, ".config"),
            cache: or_home(XDG_CACHE_HOME, ".cache"),
            state: or_home(XDG_STATE_HOME, ".local/state"),
            home,
        }
    }
}

/// Shows the names only, because some values are secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.set.keys()).finish()
    }
}

/// The user's directories, in which kache has directories of its own. `None` where neither a variable
/// nor the user database names one. A relative path in a variable is ignored, as the XDG specification
/// requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdgDirs {
    /// The home directory, `~` in configuration files.
    pub home: Option<PathBuf>,
    /// The directory of all programs' configuration, such as `~/.config`.
    pub config: Option<PathBuf>,
    /// The directory of all programs' caches, such as `~/.cache`.
    pub cache: Option<PathBuf>,
    /// The directory of all programs' logs and other state, such as `~/.local/state`.
    pub state: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env_vars::KACHE_MAX_SIZE;

    #[test]
    fn only_documented_variables_are_kept() {
        let environment =
            Environment::new([("KACHE_MAX_SIZE", "1GiB"), ("KACHE_MAXSIZE", "1GiB"), ("RUSTFLAGS", "-O")]);
        assert_eq!(environment.get(KACHE_MAX_SIZE), Some(OsStr::new("1GiB")));
        assert_eq!(environment.unknown(), ["KACHE_MAXSIZE"]);
        assert_eq!(environment.set.len(), 1);
    }

    #[test]
    fn empty_is_not_set() {
        assert_eq!(Environment::new([("KACHE_MAX_SIZE", "")]).get(KACHE_MAX_SIZE), None);
    }

    #[test]
    fn directories_follow_the_standard() {
        let dirs =
            Environment::new([("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "relative")])
                .xdg_dirs();
        let path = |text: &str| Some(PathBuf::from(text));
        let expected = XdgDirs {
            home: path("/h"),
            config: path("/h/.config"),
            cache: path("/c"),
            state: path("/h/.local/state"),
        };
        assert_eq!(dirs, expected);
        assert_eq!(Environment::default().xdg_dirs(), XdgDirs::default());
    }
}
