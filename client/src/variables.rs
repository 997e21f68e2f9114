//! The environment variables that the client itself obeys.
//!
//! They are documented in the engine's `config/env_vars.rs`, with all others; a test there
//! compares the two lists. Everything else in the environment is the daemon's to judge.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Switches kache off for a call.
pub const DISABLED: &str = "KACHE_DISABLED";
/// Whether a daemon is used: `auto` or `never`.
pub const DAEMON: &str = "KACHE_DAEMON";
/// Where the store lies.
pub const CACHE_DIR: &str = "KACHE_CACHE_DIR";
/// Where the sockets lie.
pub const SOCKET_DIR: &str = "KACHE_SOCKET_DIR";
/// The user's configuration file.
pub const CONFIG: &str = "KACHE_CONFIG";
/// The home directory.
pub const HOME: &str = "HOME";
/// Where caches lie.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Where configuration files lie.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Where programs are looked for by name.
pub const PATH: &str = "PATH";

/// All of them.
pub const ALL: &[&str] =
    &[DISABLED, DAEMON, CACHE_DIR, SOCKET_DIR, CONFIG, HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, PATH];

/// A variable of this process; one that is empty counts as not set.
#[expect(clippy::disallowed_methods, reason = "this is the client's one place that reads them")]
pub(crate) fn get(name: &'static str) -> Option<OsString> {
    debug_assert!(ALL.contains(&name), "a variable that is not listed");
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The whole environment, for the request.
#[expect(clippy::disallowed_methods, reason = "this is the client's one place that reads them")]
pub(crate) fn all() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Whether a switch is on: set to anything but the usual words for no.
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
    fn switches_are_read_as_people_mean_them() {
        for (value, expected) in
            [("1", true), ("true", true), ("yes", true), ("0", false), ("FALSE", false), ("off", false)]
        {
            assert_eq!(is_on(Some(OsStr::new(value))), expected, "{value}");
        }
        assert!(!is_on(None));
    }
}
