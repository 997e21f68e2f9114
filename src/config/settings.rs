//! The settings of the daemon, typed and checked against each other.
//!
//! Pure. The settings can also be written as environment variables: with these a starter hands
//! them to the daemon, complete, absolute and independent of files and directories (DMN-01).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_client::DaemonAddress;
use kache_serve::{ListenAddress, ListenOptions, MetricsAddress, TlsOptions};

use super::diagnostic::{ConfigError, ConfigErrors, Site};
use super::env_vars::KACHE_CONFIG;
use super::key::{Audience, Key};
use super::load::{Config, Origin};
use super::value::{Level, Value};

/// The smallest limit of a store. An empty database occupies most of it.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// The settings of a daemon and of the commands that talk to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directories of the store and of the sockets.
    pub address: DaemonAddress,
    /// `cache.max_size`: the limit for the space that the store occupies.
    pub max_size_bytes: u64,
    /// `cache.reserve`: the space that stays free on the volume.
    pub reserve_bytes: u64,
    /// `daemon.idle_timeout`: the daemon stops after this time without a request; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The settings under `log.` that concern the daemon.
    pub log: LogSettings,
    /// The other settings under `serve.`: where the server listens and whom it admits. Every
    /// combination is accepted here; `kache_serve::bind` rejects those that are not safe.
    pub serve: ListenOptions,
    /// `serve.trust_uploads`: compiles use results that clients have uploaded.
    pub trusts_uploads: bool,
    /// All these settings as environment variables.
    variables: Vec<(OsString, OsString)>,
}

/// The levels of log messages and the log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The level for standard error.
    pub level: Level,
    /// The level for the log file.
    pub file_level: Level,
    /// The path of the log file; `None` if no directory for it is known.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Takes the daemon's settings from a configuration, or returns the mistakes in them.
    pub fn new(config: &Config) -> Result<Self, ConfigErrors> {
        let reader = SettingsReader { config };
        let Some(cache_dir) = reader.path(Key::CacheDir) else { return Err(no_cache_dir().into()) };
        let address = DaemonAddress::new(&cache_dir, reader.path(Key::DaemonSocketDir).as_deref());
        let max_size_bytes = reader.size(Key::CacheMaxSize);
        if max_size_bytes < CACHE_BYTES_MIN {
            return Err(too_small(config).into());
        }
        let log = LogSettings {
            level: reader.level(Key::LogLevel),
            file_level: reader.level(Key::LogFileLevel),
            file: reader.path(Key::LogFile).or_else(|| default_log_file(config, &address)),
        };
        let idle_timeout = reader.idle_timeout();
        let serve = reader.serve()?;
        let trusts_uploads = reader.flag(Key::ServeTrustUploads);
        let variables = variables(config, &address, idle_timeout, log.file.as_deref());
        let reserve_bytes = reader.size(Key::CacheReserve);
        Ok(Settings {
            address,
            max_size_bytes,
            reserve_bytes,
            idle_timeout,
            log,
            serve,
            trusts_uploads,
            variables,
        })
    }

    /// Returns the whole environment of a daemon with these settings.
    pub fn to_variables(&self) -> Vec<(OsString, OsString)> {
        self.variables.clone()
    }
}

fn no_cache_dir() -> ConfigError {
    ConfigError {
        site: Site::Nowhere,
        what: "no cache directory is known: neither `HOME` nor `XDG_CACHE_HOME` is set".to_owned(),
        remedy: "set KACHE_CACHE_DIR".to_owned(),
    }
}

fn site_of(config: &Config, key: Key) -> Site {
    match config.get(key).map(|resolved| &resolved.origin) {
        Some(Origin::Variable(name)) => Site::Variable(name),
        Some(Origin::File { path, line }) => Site::File { path: path.clone(), line: *line, column: 1 },
        Some(Origin::Default) | None => Site::Nowhere,
    }
}

fn too_small(config: &Config) -> ConfigError {
    ConfigError {
        site: site_of(config, Key::CacheMaxSize),
        what: format!("`cache.max_size` is less than CACHE_BYTES_MIN ({CACHE_BYTES_MIN}) allows"),
        remedy: "set at least 1MiB; several gigabytes are useful".to_owned(),
    }
}

/// The default path of the log file. Each store has its own, because two daemons must not rotate
/// the same file.
fn default_log_file(config: &Config, address: &DaemonAddress) -> Option<PathBuf> {
    let name = address.dir().file_name()?.to_string_lossy().into_owned();
    Some(config.dirs.state.as_ref()?.join(format!("kache/kached-{name}.log")))
}

/// Returns the environment that a daemon is started with: every key of the daemon that has a value,
/// and an empty configuration file. Keys of calls are left out, because each call brings its own
/// (DMN-01).
fn variables(
    config: &Config,
    address: &DaemonAddress,
    idle_timeout: Option<Duration>,
    log_file: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let value = |key: Key| match key {
        Key::CacheDir => Some(Value::Path(address.cache_dir().to_owned())),
        Key::DaemonIdleTimeout => Some(Value::Duration(idle_timeout.unwrap_or_default())),
        Key::LogFile => log_file.map(|path| Value::Path(path.to_owned())),
        // An empty list cannot be written in a variable, but it is the default.
        other => config
            .get(other)
            .map(|resolved| resolved.value.clone())
            .filter(|value| *value != Value::Names(vec![])),
    };
    // `/dev/null` is an empty file: without it the daemon would read the user's file again, which
    // may have changed since the starter read it.
    let keys = Key::ALL.iter().filter(|key| key.audience() == Audience::Daemon);
    let pairs = keys.filter_map(|key| Some((key.variable().name.into(), value(*key)?.to_variable())));
    pairs.chain([(KACHE_CONFIG.name.into(), "/dev/null".into())]).collect()
}

/// Reads values by their kind. Every key has a default, except those of paths and addresses; a
/// test checks that.
struct SettingsReader<'a> {
    config: &'a Config,
}

impl SettingsReader<'_> {
    fn value(&self, key: Key) -> Option<&Value> {
        self.config.get(key).map(|resolved| &resolved.value)
    }

    fn path(&self, key: Key) -> Option<PathBuf> {
        if let Some(Value::Path(path)) = self.value(key) { Some(path.clone()) } else { None }
    }

    fn address(&self, key: Key) -> Option<ListenAddress> {
        if let Some(Value::Address(address)) = self.value(key) { Some(address.clone()) } else { None }
    }

    fn size(&self, key: Key) -> u64 {
        if let Some(Value::Size(bytes)) = self.value(key) { *bytes } else { 0 }
    }

    fn flag(&self, key: Key) -> bool {
        self.value(key) == Some(&Value::Bool(true))
    }

    fn level(&self, key: Key) -> Level {
        if let Some(Value::Level(level)) = self.value(key) { *level } else { Level::Warn }
    }

    /// A daemon that serves TCP has no timeout by default, because its remote clients cannot start
    /// it again.
    fn idle_timeout(&self) -> Option<Duration> {
        let resolved = self.config.get(Key::DaemonIdleTimeout)?;
        let serves = self.address(Key::ServeListen).or_else(|| self.address(Key::ServeHttpListen)).is_some();
        // The value that is handed to a daemon is no default for it, whatever it was here. So the
        // decision is made once, before the start, and 0 stands for no timeout.
        match &resolved.value {
            Value::Duration(time) if time.is_zero() => None,
            Value::Duration(_) if serves && resolved.origin == Origin::Default => None,
            Value::Duration(time) => Some(*time),
            _ => None,
        }
    }

    fn serve(&self) -> Result<ListenOptions, ConfigErrors> {
        let metrics = match self.value(Key::ServeMetrics) {
            Some(Value::Metrics(metrics)) => metrics.clone(),
            _ => MetricsAddress::default(),
        };
        let hosts = match self.value(Key::ServeHosts) {
            Some(Value::Names(names)) => names.clone(),
            _ => Vec::new(),
        };
        Ok(ListenOptions {
            listen: self.address(Key::ServeListen),
            http_listen: self.address(Key::ServeHttpListen),
            metrics,
            hosts,
            read_only: self.flag(Key::ServeReadOnly),
            tls: self.tls()?,
            tokens: self.path(Key::ServeTokens),
            anonymous_reads: self.flag(Key::ServeAnonymousReads),
            allow_insecure: self.flag(Key::ServeAllowInsecure),
            insecure_address: self.address(Key::ServeInsecureAddress),
        })
    }

    /// A certificate needs its key, and an authority for clients needs both.
    fn tls(&self) -> Result<Option<TlsOptions>, ConfigErrors> {
        let (cert, key) = (self.path(Key::ServeTlsCert), self.path(Key::ServeTlsKey));
        let client_ca = self.path(Key::ServeTlsClientCa);
        let lacking = |present: Key, missing: Key| ConfigError {
            site: site_of(self.config, present),
            what: format!("`{}` is set but `{}` is not", present.name(), missing.name()),
            remedy: format!("set `{}` too, or neither of them", missing.name()),
        };
        match (cert, key, client_ca) {
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsOptions { cert, key, client_ca })),
            (Some(_), None, _) => Err(lacking(Key::ServeTlsCert, Key::ServeTlsKey).into()),
            (None, Some(_), _) => Err(lacking(Key::ServeTlsKey, Key::ServeTlsCert).into()),
            (None, None, Some(_)) => Err(lacking(Key::ServeTlsClientCa, Key::ServeTlsCert).into()),
            (None, None, None) => Ok(None),
        }
    }
}
