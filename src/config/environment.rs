//! One snapshot of the environment: the variables that kache documents, and no others.
//!
//! Taken once, at the edge; everything inside is handed it. That is how the daemon cannot
//! come to depend on its starter's environment by accident (DMN-01).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::env_vars::{
    self, ALL, HOME, KACHE_DAEMON, PREFIX, Variable, XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_STATE_HOME,
};

/// The documented variables that are set, and the names of those that look like ours.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    set: BTreeMap<&'static str, OsString>,
    /// Those that are set to nothing.
    emptied: BTreeSet<&'static str>,
    unknown: Vec<String>,
    /// The home directory by the user database, for where `HOME` is not set.
    home_of_user: Option<PathBuf>,
}

impl Environment {
    /// This process's environment.
    pub fn of_process() -> Self {
        Environment { home_of_user: kache_client::os::home_dir(), ..Environment::new(env_vars::of_process()) }
    }

    /// A compiler call's environment. The user is this process's, which is the caller's too
    /// (DMN-02).
    pub(super) fn of_call(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Environment::new(pairs);
        if environment.get(HOME).is_none() {
            environment.home_of_user = kache_client::os::home_dir();
        }
        environment
    }

    /// These variables. One that is empty counts as not set.
    pub fn new<N: AsRef<OsStr>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref().to_string_lossy(), value.into());
            match ALL.iter().find(|variable| variable.name == name) {
                Some(variable) if !value.is_empty() => {
                    environment.set.insert(variable.name, value);
                }
                Some(variable) => {
                    environment.emptied.insert(variable.name);
                }
                None if name.starts_with(PREFIX) => environment.unknown.push(name.into_owned()),
                None => {}
            }
        }
        environment.unknown.sort();
        environment
    }

    /// What a variable says.
    pub fn get(&self, variable: Variable) -> Option<&OsStr> {
        self.set.get(variable.name).map(OsString::as_os_str)
    }

    /// Whether a variable is set to nothing. To kache that is as if it were not set; cargo
    /// makes a difference with some.
    pub fn is_emptied(&self, variable: Variable) -> bool {
        self.emptied.contains(variable.name)
    }

    /// Whether a daemon may be asked and started for a compile.
    pub fn may_have_daemon(&self) -> bool {
        self.get(KACHE_DAEMON).is_none_or(|value| value != "never")
    }

    /// Variables that begin like ours and mean nothing.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The directories that everything without a place of its own goes to.
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

/// The user's directories; `None` where neither a variable nor the user database helps. A
/// relative path in a variable is ignored, as the standard asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdgDirs {
    /// For `~` in configuration files.
    pub home: Option<PathBuf>,
    /// For the user's configuration.
    pub config: Option<PathBuf>,
    /// For the store.
    pub cache: Option<PathBuf>,
    /// For logs.
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
