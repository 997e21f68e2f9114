//! Every key that can be set, with what belongs there and who may set it.

use super::env_vars::{self, Variable};
use super::value::Kind;

/// Who may set a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anyone: a project's file too.
    Project,
    /// A project's file may set it only together with `cache.dir`: the limits of a store
    /// belong to whom the store belongs to. A checkout must not shrink the store that all
    /// others share.
    ProjectWithDir,
    /// The user alone: a file that came with a checkout must not open ports or move logs.
    User,
}

/// Whom a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The daemon, which is handed it when it starts, and the commands.
    Daemon,
    /// One compiler call: it is read for each, from that call's environment and directory
    /// (DMN-01), and the daemon is never handed it.
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
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Key] = &[$(Key::$variant),+];

            /// As it is written in a file, with dots.
            pub fn name(self) -> &'static str {
                match self { $(Key::$variant => $name),+ }
            }

            /// What belongs there.
            pub fn kind(self) -> Kind {
                match self { $(Key::$variant => Kind::$kind),+ }
            }

            /// Who may set it.
            pub fn scope(self) -> Scope {
                match self { $(Key::$variant => Scope::$scope),+ }
            }

            /// Whom it is for.
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

/// The most letters by which a name may be off and still be recognised.
const TYPO_DISTANCE_MAX: usize = 3;

impl Key {
    /// The key of this name.
    pub fn by_name(name: &str) -> Option<Key> {
        Key::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// Whether this is the name of a table that holds keys.
    pub fn is_table(name: &str) -> bool {
        Key::ALL.iter().any(|key| key.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The key that was probably meant.
    pub fn nearest(name: &str) -> Option<Key> {
        let by_distance = |key: &Key| distance(name, key.name());
        let nearest = Key::ALL.iter().copied().min_by_key(by_distance)?;
        (by_distance(&nearest) <= TYPO_DISTANCE_MAX).then_some(nearest)
    }

    /// Whether what several places say adds up, in place of the first one winning. So it is
    /// for everything that can only make kache more careful: a project's file cannot take
    /// away what the user's says (KEY-20, KEY-21).
    pub fn is_additive(self) -> bool {
        matches!(
            self.kind(),
            Kind::PathGlobs | Kind::Patterns | Kind::VariableNames | Kind::Paths | Kind::Text
        )
    }

    /// The variable that sets it.
    pub fn variable(self) -> Variable {
        env_vars::of_key(self)
    }
}

/// How many letters must be changed, added or left out to get from one to the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_recognised() {
        for (typo, meant) in [
            ("cache.maxsize", Some(Key::CacheMaxSize)),
            ("cache.dirr", Some(Key::CacheDir)),
            ("serve.tls.crt", Some(Key::ServeTlsCert)),
            ("something.else", None),
        ] {
            assert_eq!(Key::nearest(typo), meant, "{typo}");
        }
    }

    #[test]
    fn distances() {
        for (left, right, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), expected);
        }
    }

    #[test]
    fn tables_are_known() {
        assert!(Key::is_table("serve") && Key::is_table("serve.tls"));
        assert!(!Key::is_table("serve.tls.cert") && !Key::is_table("ser") && !Key::is_table(""));
    }
}
