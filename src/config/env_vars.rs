//! Every environment variable that kache reads, each a documented constant.
//!
//! The reference page is generated from here, and a test fails when the two part. Nothing
//! else names a variable: the programs take one snapshot of their environment, and it holds
//! these and no others.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::key::Key;

/// An environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Which key it sets, if it sets one.
    pub key: Option<Key>,
    /// What it is for.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $name:ident $(=> $key:ident)?;)+) => {
        $($(#[doc = $doc])+
        pub const $name: Variable = Variable {
            name: stringify!($name),
            key: variables!(@key $($key)?),
            doc: concat!($($doc),+),
        };)+

        /// All of them, in the order of the reference page.
        pub const ALL: &[Variable] = &[$($name),+];
    };
    (@key) => { None };
    (@key $key:ident) => { Some(Key::$key) };
}

variables! {
    /// Where the store lies. A relative path counts from the current directory.
    KACHE_CACHE_DIR => CacheDir;
    /// How much the store may occupy on its volume, such as `20GiB`.
    KACHE_MAX_SIZE => CacheMaxSize;
    /// How much of the volume the store leaves free, such as `1GiB`.
    KACHE_RESERVE => CacheReserve;
    /// `1`: kache stands aside. Compilers run as if it were not there, except that they do not
    /// compile incrementally, so that switching back and forth rebuilds nothing.
    KACHE_DISABLED => CacheDisabled;
    /// `false`: what a linker makes (programs, tests, libraries for loading) is compiled every
    /// time.
    KACHE_CACHE_EXECUTABLES => CacheExecutables;
    /// `false`: a crate that is being edited is compiled as a whole and stored each time.
    KACHE_INCREMENTAL_EDITS => CacheIncrementalEdits;
    /// `false`: incremental directories that kache makes useless are left where they are.
    KACHE_CLEAN_INCREMENTAL => CacheCleanIncremental;
    /// `false`: nothing is laid down in an empty target directory before cargo asks for it.
    KACHE_SEED => CacheSeed;
    /// What a restored file and the store may share at most: `hardlink` (blocks where the
    /// filesystem can, else the inode), `reflink` (blocks only) or `copy` (nothing).
    KACHE_SHARING => CacheSharing;
    /// Globs for source files that kache passes by, separated by commas.
    KACHE_EXCLUDE => CacheExclude;
    /// Globs for names of crates that kache passes by, separated by commas.
    KACHE_BYPASS_CRATES => CacheBypassCrates;
    /// Globs for arguments of calls that kache passes by, separated by commas.
    KACHE_BYPASS_ARGV => CacheBypassArgv;
    /// Variables, `NAME` or `NAME=GLOB`, whose being set makes kache pass by, separated by
    /// commas.
    KACHE_BYPASS_ENV => CacheBypassEnv;
    /// A text that goes into every key: another text is another cache.
    KACHE_KEY_SALT => CacheKeySalt;
    /// Variables that go into every key, separated by commas; a `*` may end a name.
    KACHE_KEY_ENV_VARS => CacheKeyEnvVars;
    /// One in how many hits is compiled again in the background and compared; `0` means none.
    KACHE_VERIFY_SAMPLE => CacheVerifySample;
    /// Another wrapper, such as `sccache`, that is called for what kache passes by. Once, the
    /// daemon's log says if it is missing.
    KACHE_FALLBACK => CacheFallback;
    /// `0`: sources are compiled with the paths they have, and results are found again at the
    /// same place only.
    KACHE_RUSTC_PATH_NORMALIZE => PathsNormalize;
    /// More directories in which only what is below counts and not where they lie, separated by
    /// colons.
    KACHE_BASE_DIR => PathsBaseDirs;
    /// After how long without a request the daemon leaves: seconds, or such as `10m`. `0`
    /// means never.
    KACHE_DAEMON_IDLE_TIMEOUT => DaemonIdleTimeout;
    /// The directory for the daemon's sockets. It must be yours alone. Every caller must set
    /// it alike.
    KACHE_SOCKET_DIR => DaemonSocketDir;
    /// How much a command or a daemon in the foreground says on standard error: `off`, `error`,
    /// `warn`, `info`, `debug` or `trace`.
    KACHE_LOG => LogLevel;
    /// How much goes to the daemon's log file: a level, as for `KACHE_LOG`.
    KACHE_LOG_FILE => LogFileLevel;
    /// Where the daemon's log file lies. It is rotated at 5 MB.
    KACHE_LOG_FILE_PATH => LogFile;
    /// Whether a line is written for each crate, to the standard error of cargo: `always`,
    /// `never`, or `auto`, which means where that is no terminal and `CI` is set.
    KACHE_PROGRESS => LogProgress;
    /// The TCP address to serve the Bazel remote cache protocol on, such as `127.0.0.1:9092`.
    KACHE_SERVE_LISTEN => ServeListen;
    /// One more TCP address for the HTTP cache protocol.
    KACHE_SERVE_HTTP_LISTEN => ServeHttpListen;
    /// Where `/metrics` is answered: `shared`, `off`, or an address of its own.
    KACHE_SERVE_METRICS => ServeMetrics;
    /// Host names that a loopback listener answers to besides `localhost`, separated by commas.
    KACHE_SERVE_HOSTS => ServeHosts;
    /// `true`: nobody may store anything over TCP.
    KACHE_SERVE_READ_ONLY => ServeReadOnly;
    /// `true`: compiles take results that clients of the served protocols have uploaded.
    KACHE_SERVE_TRUST_UPLOADS => ServeTrustUploads;
    /// The file with names, hashed passwords and hashed tokens. Only its path is ever shown.
    KACHE_SERVE_TOKENS => ServeTokens;
    /// `true`: callers without credentials may still read.
    KACHE_SERVE_ANONYMOUS_READS => ServeAnonymousReads;
    /// The PEM file with the server's certificate chain.
    KACHE_SERVE_TLS_CERT => ServeTlsCert;
    /// The PEM file with the certificate's key. Only its path is ever shown.
    KACHE_SERVE_TLS_KEY => ServeTlsKey;
    /// The PEM file with the authorities whose client certificates are accepted.
    KACHE_SERVE_TLS_CLIENT_CA => ServeTlsClientCa;
    /// `true`: the first of two consents to serve others without TLS or authentication.
    KACHE_SERVE_ALLOW_INSECURE => ServeAllowInsecure;
    /// The second consent: it repeats the address.
    KACHE_SERVE_INSECURE_ADDRESS => ServeInsecureAddress;
    /// The user's configuration file, in place of `$XDG_CONFIG_HOME/kache/config.toml`. It must
    /// exist.
    KACHE_CONFIG;
    /// `never`: no daemon is asked or started by compiler calls and `kache verify`; each opens the
    /// store for itself.
    KACHE_DAEMON;
    /// Cargo's home, whose `config.toml` `kache init` changes; `~/.cargo` if it is not set.
    CARGO_HOME;
    /// The wrapper that cargo calls, whatever its configuration says; `kache init` and
    /// `kache doctor` look at it.
    RUSTC_WRAPPER;
    /// The same in the place of `build.rustc-wrapper`.
    CARGO_BUILD_RUSTC_WRAPPER;
    /// Whether cargo compiles incrementally; `kache doctor` looks at it.
    CARGO_INCREMENTAL;
    /// Set where builds run unattended; `KACHE_PROGRESS=auto` looks at it.
    CI;
    /// Where `kache init` looks whether `kache` is found by its name alone.
    PATH;
    /// The home directory, for what the `XDG_` variables leave open.
    HOME;
    /// Where configuration files lie; `~/.config` if it is not set.
    XDG_CONFIG_HOME;
    /// Where caches lie; `~/.cache` if it is not set.
    XDG_CACHE_HOME;
    /// Where logs lie; `~/.local/state` if it is not set.
    XDG_STATE_HOME;
}

/// What all variables of ours begin with.
pub(super) const PREFIX: &str = "KACHE_";

/// Whether a variable can decide what holds for a call, without looking through all of them:
/// a call brings some hundred.
pub(super) fn may_matter(name: &OsStr) -> bool {
    let name = name.as_bytes();
    match name.first() {
        Some(b'K') => name.starts_with(PREFIX.as_bytes()),
        Some(b'H') => name == HOME.name.as_bytes(),
        Some(b'X') => name.starts_with(b"XDG_"),
        _ => false,
    }
}

/// All variables of this process.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
pub fn of_process() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The variable that sets this key.
pub(super) fn of_key(key: Key) -> Variable {
    *ALL.iter()
        .find(|variable| variable.key == Some(key))
        .expect("every key has a variable, which a test checks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_matter_is_never_left_out() {
        // These are for the commands alone, and `CI` is asked for where it matters.
        let others = [CARGO_HOME, RUSTC_WRAPPER, CARGO_BUILD_RUSTC_WRAPPER, CARGO_INCREMENTAL, CI, PATH];
        for variable in ALL {
            assert_eq!(
                may_matter(OsStr::new(variable.name)),
                !others.contains(variable),
                "{}",
                variable.name
            );
        }
        assert!(may_matter(OsStr::new("KACHE_TYPO")) && !may_matter(OsStr::new("PATH")));
    }

    #[test]
    fn what_the_client_obeys_is_documented() {
        for name in kache_client::variables::ALL {
            assert!(ALL.iter().any(|variable| variable.name == *name), "{name}");
        }
    }

    #[test]
    fn every_key_has_one_variable_of_ours() {
        for key in Key::ALL {
            let variables: Vec<_> = ALL.iter().filter(|variable| variable.key == Some(*key)).collect();
            assert_eq!(variables.len(), 1, "{}", key.name());
            assert!(of_key(*key).name.starts_with(PREFIX));
        }
    }
}
