//! The environment variables that the client itself reads.
//!
//! They are documented with all others in the engine's `config/env_vars.rs`; a test there compares
//! the two lists. The rest of the environment is sent to the daemon, which decides what it means.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Switches kache off for a call.
pub const DISABLED: &str = "KACHE_DISABLED";
/// Says whether a daemon is used: `auto` or `never`.
pub const DAEMON: &str = "KACHE_DAEMON";
/// Names the cache directory, which holds the store.
pub const CACHE_DIR: &str = "KACHE_CACHE_DIR";
/// Names the directory above the daemon's sockets.
pub const SOCKET_DIR: &str = "KACHE_SOCKET_DIR";
/// Names the user's configuration file.
pub const CONFIG: &str = "KACHE_CONFIG";
/// Names the user's home directory.
pub const HOME: &str = "HOME";
/// Names the directory of all programs' caches.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Names the directory of all programs' configuration files.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Lists the directories in which programs are looked up by name.
pub const PATH: &str = "PATH";

/// All variables that [`get`] may read.
pub const ALL: &[&str] =
    &[DISABLED, DAEMON, CACHE_DIR, SOCKET_DIR, CONFIG, HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, PATH];

/// Returns a variable of this process; `None` if it is not set or empty.
#[expect(clippy::disallowed_methods, reason = "this is the client's one place that reads them")]
pub(crate) fn get(name: &'static str) -> Option<OsString> {
    debug_assert!(ALL.contains(&name), "a variable that is not listed");
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the whole environment, which is sent to the daemon.
#[expect(clippy::disallowed_methods, reason = "this is the client's one place that reads them")]
pub(crate) fn all() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Returns whether a switch is on: set to anything but the usual words for "no".
pub(crate) fn is_on(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| {
        let word = value.as_bytes().to_ascii_lowercase();
        !matches!(&*word, b"" | b"0" | b"false" | b"no" | b"off")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_unless_its_value_is_a_word_for_no() {
        for (value, expected) in
            [("1", true), ("true", true), ("yes", true), ("0", false), ("FALSE", false), ("off", false)]
        {
            assert_eq!(is_on(Some(OsStr::new(value))), expected, "{value}");
        }
        assert!(!is_on(None));
    }
}
