//! The table of all configuration keys: the kind of each value, who may set it, and whether it is
//! for the daemon or for a call.

use super::env_vars::{self, Variable};
use super::value::ValueKind;

/// The places in which a key may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user, and a project's file.
    Project,
    /// The user, and a project's file that also sets `cache.dir`. A checkout may limit a store of
    /// its own, but must not shrink the store that all projects share.
    ProjectWithDir,
    /// The user only. A file that came with a checkout must not open ports or move logs.
    User,
}

/// The reader of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The commands and the daemon, which gets the value when it is started.
    Daemon,
    /// A compiler call. The value is read for each call from its own environment and directory,
    /// and never handed to the daemon at its start (DMN-01).
    Call,
}

macro_rules! keys {
    ($($name:literal $variant:ident $kind:ident $scope:ident $audience:ident;)+) => {
        /// A configuration key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`")] $variant),+
        }

        impl Key {
            /// All keys, in the order in which they are shown.
            pub const ALL: &[Key] = &[$(Key::$variant),+];

            /// The name as written in a file, such as `cache.max_size`.
            pub fn name(self) -> &'static str {
                match self { $(Key::$variant => $name),+ }
            }

            /// The kind of the values.
            pub fn kind(self) -> ValueKind {
                match self { $(Key::$variant => ValueKind::$kind),+ }
            }

            /// Returns the places in which the key may be set.
            pub fn scope(self) -> Scope {
                match self { $(Key::$variant => Scope::$scope),+ }
            }

            /// Returns the program that reads the key.
            pub fn audience(self) -> Audience {
                match self { $(Key::$variant => Audience::$audience),+ }
            }
        }
    };
}

keys! {
    "cache.dir" CacheDir Path Project Daemon;
    "cache.max_size" CacheMaxSize Size ProjectWithDir Daemon;
    "cache.reserve" CacheReserve Size ProjectWithDir Daemon;
    "cache.disabled" CacheDisabled Bool Project Call;
    "cache.cache_executables" CacheExecutables Bool Project Call;
    "cache.incremental_edits" CacheIncrementalEdits Bool Project Call;
    "cache.clean_incremental" CacheCleanIncremental Bool User Call;
    "cache.seed" CacheSeed Bool Project Call;
    "cache.sharing" CacheSharing Sharing Project Call;
    "cache.exclude" CacheExclude PathGlobs Project Call;
    "cache.bypass_crates" CacheBypassCrates Patterns Project Call;
    "cache.bypass_argv" CacheBypassArgv Patterns Project Call;
    "cache.bypass_env" CacheBypassEnv Patterns Project Call;
    "cache.key_salt" CacheKeySalt Text Project Call;
    "cache.key_env_vars" CacheKeyEnvVars VariableNames Project Call;
    "cache.verify_sample" CacheVerifySample Count User Call;
    "cache.fallback" CacheFallback Program User Call;
    "cache.compression_level" CacheCompressionLevel Count User Call;
    "cache.s3_concurrency" CacheS3Concurrency Count User Call;
    "cache.s3_pool_idle_secs" CacheS3PoolIdleSecs Count User Call;
    "paths.normalize" PathsNormalize Bool Project Call;
    "paths.base_dirs" PathsBaseDirs Paths Project Call;
    "daemon.idle_timeout" DaemonIdleTimeout Duration User Daemon;
    "daemon.socket_dir" DaemonSocketDir Path User Daemon;
    "log.level" LogLevel Level User Daemon;
    "log.file_level" LogFileLevel Level User Daemon;
    "log.file" LogFile Path User Daemon;
    "log.progress" LogProgress Progress User Call;
    "serve.listen" ServeListen Address User Daemon;
    "serve.http_listen" ServeHttpListen Address User Daemon;
    "serve.metrics" ServeMetrics Metrics User Daemon;
    "serve.hosts" ServeHosts Names User Daemon;
    "serve.read_only" ServeReadOnly Bool User Daemon;
    "serve.trust_uploads" ServeTrustUploads Bool User Daemon;
    "serve.tokens" ServeTokens Path User Daemon;
    "serve.anonymous_reads" ServeAnonymousReads Bool User Daemon;
    "serve.allow_insecure" ServeAllowInsecure Bool User Daemon;
    "serve.insecure_address" ServeInsecureAddress Address User Daemon;
    "serve.tls.cert" ServeTlsCert Path User Daemon;
    "serve.tls.key" ServeTlsKey Path User Daemon;
    "serve.tls.client_ca" ServeTlsClientCa Path User Daemon;
}

/// The most letters that may be wrong in a name for which another name is suggested.
const TYPO_DISTANCE_MAX: usize = 3;

/// Returns the key that the user probably meant by `name`; `None` if no name is similar enough.
pub(super) fn nearest_by_name<'a, K>(
    name: &str,
    keys: &'a [K],
    name_of: impl Fn(&K) -> &'static str,
) -> Option<&'a K> {
    let by_distance = |key: &&K| strsim::levenshtein(name, name_of(key));
    keys.iter().min_by_key(by_distance).filter(|nearest| by_distance(nearest) <= TYPO_DISTANCE_MAX)
}

impl Key {
    /// Returns the key with this name.
    pub fn by_name(name: &str) -> Option<Key> {
        Key::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// Whether this is the name of a table of keys, such as `cache` or `serve.tls`.
    pub fn is_table(name: &str) -> bool {
        Key::ALL.iter().any(|key| key.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Returns the key that the user probably meant; `None` if no name is similar enough.
    pub fn nearest(name: &str) -> Option<Key> {
        nearest_by_name(name, Key::ALL, |key| key.name()).copied()
    }

    /// Whether the values of all layers add up, instead of the first one winning. This holds for
    /// keys that can only make kache cache less or key on more, so that a project's file cannot
    /// remove what the user has set (KEY-20, KEY-21).
    pub fn is_additive(self) -> bool {
        matches!(
            self.kind(),
            ValueKind::PathGlobs
                | ValueKind::Patterns
                | ValueKind::VariableNames
                | ValueKind::Paths
                | ValueKind::Text
        )
    }

    /// Returns the environment variable that sets the key.
    pub fn variable(self) -> Variable {
        env_vars::of_key(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_key_is_suggested_for_a_typo() {
        for (typo, meant) in [
            ("cache.maxsize", Some(Key::CacheMaxSize)),
            ("cache.dirr", Some(Key::CacheDir)),
            ("serve.tls.crt", Some(Key::ServeTlsCert)),
            // One letter is changed, one added and one left out; then one more is wrong.
            ("cash.max_sizee", Some(Key::CacheMaxSize)),
            ("cash.maxsizee", None),
            // A letter counts once, however many bytes it has.
            ("cache.diß", Some(Key::CacheDir)),
            ("cßßhß.dir", Some(Key::CacheDir)),
            ("something.else", None),
        ] {
            assert_eq!(Key::nearest(typo), meant, "{typo}");
        }
    }

    #[test]
    fn tables_are_known() {
        assert!(Key::is_table("serve") && Key::is_table("serve.tls"));
        assert!(!Key::is_table("serve.tls.cert") && !Key::is_table("ser") && !Key::is_table(""));
    }
}
