//! Every environment variable that kache reads, each as a documented constant.
//!
//! The reference page is generated from the doc comments in here, and a test fails when it is out
//! of date. No other module names a variable: the programs take one snapshot of their
//! environment, which holds only these variables.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::key::Key;

/// An environment variable that kache reads and documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name, such as `KACHE_CACHE_DIR`.
    pub name: &'static str,
    /// The configuration key that the variable sets; `None` if it sets none.
    pub key: Option<Key>,
    /// The meaning, as the reference page prints it.
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

        /// All variables, in the order of the reference page.
        pub const ALL: &[Variable] = &[$($name),+];
    };
    (@key) => { None };
    (@key $key:ident) => { Some(Key::$key) };
}

variables! {
    /// The directory of the store. A relative path is relative to the current directory.
    KACHE_CACHE_DIR => CacheDir;
    /// How much the store may occupy on its volume, such as `20GiB`.
    KACHE_MAX_SIZE => CacheMaxSize;
    /// How much of the volume the store leaves free, such as `1GiB`.
    KACHE_RESERVE => CacheReserve;
    /// `1`: caching is turned off. Compilers run as without kache, except that they do not
    /// compile incrementally, so that turning kache off and on rebuilds nothing.
    KACHE_DISABLED => CacheDisabled;
    /// `false`: linked outputs (programs, tests, dynamic libraries) are not cached.
    KACHE_CACHE_EXECUTABLES => CacheExecutables;
    /// `false`: a crate that is being edited is compiled as a whole and stored each time.
    KACHE_INCREMENTAL_EDITS => CacheIncrementalEdits;
    /// `false`: kache does not remove incremental directories that are of no more use.
    KACHE_CLEAN_INCREMENTAL => CacheCleanIncremental;
    /// `false`: kache restores nothing in an empty target directory before cargo asks for it.
    KACHE_SEED => CacheSeed;
    /// How restored files and the store may share bytes: `hardlink` (by reflinks where the
    /// filesystem has them, otherwise by hard links), `reflink` (by reflinks or not at all) or
    /// `copy` (not at all).
    KACHE_SHARING => CacheSharing;
    /// Globs for source files whose crates are not cached, separated by commas.
    KACHE_EXCLUDE => CacheExclude;
    /// Globs for names of crates that are not cached, separated by commas.
    KACHE_BYPASS_CRATES => CacheBypassCrates;
    /// Globs for compiler arguments, separated by commas. A call with such an argument is not
    /// cached.
    KACHE_BYPASS_ARGV => CacheBypassArgv;
    /// Variables as `NAME` or `NAME=GLOB`, separated by commas. A call with such a variable is
    /// not cached.
    KACHE_BYPASS_ENV => CacheBypassEnv;
    /// A text that goes into every key: with another text, no earlier result is found.
    KACHE_KEY_SALT => CacheKeySalt;
    /// Variables whose values go into every key, separated by commas; a name may end with `*`.
    KACHE_KEY_ENV_VARS => CacheKeyEnvVars;
    /// With `N`, one in `N` hits is compiled again in the background and compared; with `0`,
    /// none is.
    KACHE_VERIFY_SAMPLE => CacheVerifySample;
    /// Another wrapper, such as `sccache`, which kache calls for compiles that it does not cache.
    /// If it is missing, the daemon's log says so once.
    KACHE_FALLBACK => CacheFallback;
    /// A cache on other machines, as a URL: `grpc://host:port`, `grpcs://host`, `unix:/path`,
    /// `http://host/prefix`, `https://user:password@host/prefix`, `s3://bucket/prefix` or
    /// `file:///directory`. It replaces the remotes of your file.
    KACHE_REMOTE;
    /// The instance name that the first remote expects.
    KACHE_REMOTE_INSTANCE;
    /// Headers for every request to the first remote, as `NAME=VALUE`, separated by line breaks.
    /// kache never shows the values.
    KACHE_REMOTE_HEADER;
    /// The PEM file with the authorities that are trusted for the first remote.
    KACHE_REMOTE_CA;
    /// The PEM file with the certificate by which the first remote knows this machine.
    KACHE_REMOTE_CERT;
    /// The PEM file with the certificate's private key. kache only ever shows its path.
    KACHE_REMOTE_KEY;
    /// `1`: nothing is uploaded to any remote.
    KACHE_REMOTE_READONLY;
    /// `1`: credentials may go to the first remote without TLS, even if it is another machine.
    KACHE_REMOTE_ALLOW_CLEARTEXT_CREDENTIALS;
    /// `1`: no remote is used.
    KACHE_LOCAL_ONLY;
    /// The bucket of S3 for `[cache.remote]`.
    KACHE_S3_BUCKET;
    /// The beginning of keys in this bucket; by default `artifacts`.
    KACHE_S3_PREFIX;
    /// The URL of the S3 service; by default that of AWS.
    KACHE_S3_ENDPOINT;
    /// The region of S3; by default `us-east-1`.
    KACHE_S3_REGION;
    /// The profile in AWS's own files that has the credentials.
    KACHE_S3_PROFILE;
    /// The access key for S3. Without it, the profile and then the places where AWS's own tools
    /// look are tried.
    KACHE_S3_ACCESS_KEY;
    /// The secret of `KACHE_S3_ACCESS_KEY`. kache never shows it.
    KACHE_S3_SECRET_KEY;
    /// How many requests to S3 are under way at once, at most.
    KACHE_S3_CONCURRENCY => CacheS3Concurrency;
    /// After how many seconds an unused connection to S3 is closed.
    KACHE_S3_POOL_IDLE_SECS => CacheS3PoolIdleSecs;
    /// The level of zstd for uploads, from 1 to 22, or 0 for none.
    KACHE_COMPRESSION_LEVEL => CacheCompressionLevel;
    /// `0`: paths are not remapped, and checkouts at different paths share no results.
    KACHE_RUSTC_PATH_NORMALIZE => PathsNormalize;
    /// More directories whose own paths do not count, only the paths below them; separated by
    /// colons.
    KACHE_BASE_DIR => PathsBaseDirs;
    /// The daemon stops after this time without a request: a number of seconds, or for example
    /// `10m`. `0` means never.
    KACHE_DAEMON_IDLE_TIMEOUT => DaemonIdleTimeout;
    /// The directory for the daemon's sockets. Only you may have access to it. All callers must
    /// set the same directory.
    KACHE_SOCKET_DIR => DaemonSocketDir;
    /// The level of messages that a command or a daemon in the foreground writes to standard
    /// error: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    KACHE_LOG => LogLevel;
    /// The level of messages in the daemon's log file; the levels are those of `KACHE_LOG`.
    KACHE_LOG_FILE => LogFileLevel;
    /// The path of the daemon's log file. It is rotated at 5 MB.
    KACHE_LOG_FILE_PATH => LogFile;
    /// Whether kache writes a line for each crate to cargo's standard error: `always`, `never`,
    /// or `auto`, which writes them if `CI` is set and standard error is not a terminal.
    KACHE_PROGRESS => LogProgress;
    /// The TCP address on which the daemon serves the Bazel remote cache protocol, such as
    /// `127.0.0.1:9092`.
    KACHE_SERVE_LISTEN => ServeListen;
    /// A second TCP address, for the HTTP cache protocol only.
    KACHE_SERVE_HTTP_LISTEN => ServeHttpListen;
    /// Where `/metrics` is served: `shared` (on every HTTP address), `off`, or an address of its
    /// own.
    KACHE_SERVE_METRICS => ServeMetrics;
    /// Host names other than `localhost` that requests to a loopback address may have, separated
    /// by commas.
    KACHE_SERVE_HOSTS => ServeHosts;
    /// `true`: no client may store anything over TCP.
    KACHE_SERVE_READ_ONLY => ServeReadOnly;
    /// `true`: compiles use results that clients of the served protocols have uploaded.
    KACHE_SERVE_TRUST_UPLOADS => ServeTrustUploads;
    /// The file with names, hashed passwords and hashed tokens. kache only ever shows its path.
    KACHE_SERVE_TOKENS => ServeTokens;
    /// `true`: clients without credentials may read.
    KACHE_SERVE_ANONYMOUS_READS => ServeAnonymousReads;
    /// The PEM file with the server's certificate chain.
    KACHE_SERVE_TLS_CERT => ServeTlsCert;
    /// The PEM file with the certificate's private key. kache only ever shows its path.
    KACHE_SERVE_TLS_KEY => ServeTlsKey;
    /// The PEM file with the authorities whose client certificates are accepted.
    KACHE_SERVE_TLS_CLIENT_CA => ServeTlsClientCa;
    /// `true`: the first of two settings that allow a public address without TLS or
    /// authentication.
    KACHE_SERVE_ALLOW_INSECURE => ServeAllowInsecure;
    /// The second of these settings: it repeats the address.
    KACHE_SERVE_INSECURE_ADDRESS => ServeInsecureAddress;
    /// The user's configuration file, in place of `$XDG_CONFIG_HOME/kache/config.toml`. The file
    /// must exist.
    KACHE_CONFIG;
    /// `never`: compiler calls and `kache verify` neither use nor start a daemon; each opens the
    /// store itself.
    KACHE_DAEMON;
    /// Cargo's home, whose `config.toml` `kache init` changes; by default `~/.cargo`.
    CARGO_HOME;
    /// The wrapper that cargo calls, whatever cargo's configuration names; `kache init` and
    /// `kache doctor` read it.
    RUSTC_WRAPPER;
    /// Overrides `build.rustc-wrapper` of cargo's configuration; `kache init` and `kache doctor`
    /// read it.
    CARGO_BUILD_RUSTC_WRAPPER;
    /// Whether cargo compiles incrementally; `kache doctor` reads it.
    CARGO_INCREMENTAL;
    /// Set by CI services; `KACHE_PROGRESS=auto` depends on it, and remotes may be written to only
    /// where it is set (`writes_if`).
    CI;
    /// The access key for S3, where `KACHE_S3_ACCESS_KEY` and a profile are not set.
    AWS_ACCESS_KEY_ID;
    /// The secret of `AWS_ACCESS_KEY_ID`. kache never shows it.
    AWS_SECRET_ACCESS_KEY;
    /// The session token of `AWS_ACCESS_KEY_ID`. kache never shows it.
    AWS_SESSION_TOKEN;
    /// The profile with the credentials for S3, where no setting names one.
    AWS_PROFILE;
    /// AWS's configuration file; by default `~/.aws/config`.
    AWS_CONFIG_FILE;
    /// AWS's file with credentials; by default `~/.aws/credentials`.
    AWS_SHARED_CREDENTIALS_FILE;
    /// The role for S3 that `AWS_WEB_IDENTITY_TOKEN_FILE` proves.
    AWS_ROLE_ARN;
    /// The name of sessions with this role.
    AWS_ROLE_SESSION_NAME;
    /// The file with a token that AWS exchanges for credentials.
    AWS_WEB_IDENTITY_TOKEN_FILE;
    /// The URL of the service that exchanges this token.
    AWS_ENDPOINT_URL_STS;
    /// Where a container of AWS gets its credentials.
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI;
    /// Where another container gets its credentials.
    AWS_CONTAINER_CREDENTIALS_FULL_URI;
    /// The token for this place. kache never shows it.
    AWS_CONTAINER_AUTHORIZATION_TOKEN;
    /// The file with this token.
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE;
    /// The directories with programs; `kache init` searches them for `kache`, and a remote's
    /// `token_command` is searched there.
    PATH;
    /// The home directory; defaults of the `XDG_` variables lie in it.
    HOME;
    /// The directory with configuration files; by default `~/.config`.
    XDG_CONFIG_HOME;
    /// The directory with caches; by default `~/.cache`.
    XDG_CACHE_HOME;
    /// The directory with logs; by default `~/.local/state`.
    XDG_STATE_HOME;
}

/// The prefix of all variables that belong to kache.
pub(super) const PREFIX: &str = "KACHE_";

/// The prefix of variables that the tools of AWS read.
pub(super) const AWS_PREFIX: &str = "AWS_";

/// Whether a variable can influence a call's settings. A call has about a hundred variables, so
/// this looks at the first letter before it compares names.
pub(super) fn may_matter(name: &OsStr) -> bool {
    let name = name.as_bytes();
    match name.first() {
        Some(b'K') => name.starts_with(PREFIX.as_bytes()),
        Some(b'H') => name == HOME.name.as_bytes(),
        Some(b'X') => name.starts_with(b"XDG_"),
        Some(b'A') => name.starts_with(AWS_PREFIX.as_bytes()),
        _ => false,
    }
}

/// Returns all variables of this process.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
pub fn of_process() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Returns the variable that sets this key.
pub(super) fn of_key(key: Key) -> Variable {
    *ALL.iter()
        .find(|variable| variable.key == Some(key))
        .expect("every key has a variable, which a test checks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_influences_a_call_may_matter() {
        // Only commands read these, and `log.progress` reads `CI` itself. A remote that depends on a
        // variable names it.
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
    fn the_variables_of_the_client_are_documented() {
        for name in kache_client::variables::ALL {
            assert!(ALL.iter().any(|variable| variable.name == *name), "{name}");
        }
    }

    #[test]
    fn every_key_has_one_variable() {
        for key in Key::ALL {
            let variables: Vec<_> = ALL.iter().filter(|variable| variable.key == Some(*key)).collect();
            assert_eq!(variables.len(), 1, "{}", key.name());
            assert!(of_key(*key).name.starts_with(PREFIX));
        }
    }
}
