//! What the configuration means: typed settings for the daemon, checked against each other.
//!
//! Pure. It also says them back as environment variables, which is how a starter hands them
//! to the daemon: whole, absolute, and independent of files and directories (DMN-01).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_client::DaemonAddress;

use super::diagnostic::{ConfigError, ConfigErrors, Site};
use super::env_vars::KACHE_CONFIG;
use super::key::{Audience, Key};
use super::load::{Config, Origin};
use super::serve::{ListenAddress, MetricsDoor, ServeSettings, TlsSettings};
use super::value::{Level, Value};

/// The smallest store that is any use: an empty database takes most of it.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// Everything a daemon is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its store and its sockets are.
    pub address: DaemonAddress,
    /// What the store may occupy.
    pub max_size_bytes: u64,
    /// What stays free on the volume.
    pub reserve_bytes: u64,
    /// After how long without a request it leaves; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// What it logs.
    pub log: LogSettings,
    /// Whom it serves.
    pub serve: ServeSettings,
    /// All that, as variables.
    variables: Vec<(OsString, OsString)>,
}

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// On standard error.
    pub level: Level,
    /// In the file.
    pub file_level: Level,
    /// The file; `None` where there is no directory for it.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Reads them off a configuration.
    pub fn new(config: &Config) -> Result<Self, ConfigErrors> {
        let reader = Reader { config };
        let Some(cache_dir) = reader.path(Key::CacheDir) else { return Err(nowhere_to_cache().into()) };
        let address = DaemonAddress::new(&cache_dir, reader.path(Key::DaemonSocketDir).as_deref());
        let max_size_bytes = reader.size(Key::CacheMaxSize);
        if max_size_bytes < CACHE_BYTES_MIN {
            return Err(too_small(config).into());
        }
        let log = LogSettings {
            level: reader.level(Key::LogLevel),
            file_level: reader.level(Key::LogFileLevel),
            file: reader.path(Key::LogFile).or_else(|| usual_log_file(config, &address)),
        };
        let idle_timeout = reader.idle_timeout();
        let serve = reader.serve()?;
        let variables = variables(config, &address, idle_timeout, log.file.as_deref());
        let reserve_bytes = reader.size(Key::CacheReserve);
        Ok(Settings { address, max_size_bytes, reserve_bytes, idle_timeout, log, serve, variables })
    }

    /// The whole environment of a daemon with these settings.
    pub fn to_variables(&self) -> Vec<(OsString, OsString)> {
        self.variables.clone()
    }
}

fn nowhere_to_cache() -> ConfigError {
    ConfigError {
        site: Site::Nowhere,
        what: "there is no place for the cache: neither `HOME` nor `XDG_CACHE_HOME` is set".to_owned(),
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
        remedy: "give it at least 1MiB; some gigabytes are useful".to_owned(),
    }
}

/// One file a store, so that two daemons never rotate each other's.
fn usual_log_file(config: &Config, address: &DaemonAddress) -> Option<PathBuf> {
    let name = address.dir().file_name()?.to_string_lossy().into_owned();
    Some(config.dirs.state.as_ref()?.join(format!("kache/kached-{name}.log")))
}

/// Every key of the daemon's that has a value, and no files besides. What a call may set, the
/// call itself brings (DMN-01).
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
        // An empty list cannot be said in a variable, and is the default.
        other => config
            .get(other)
            .map(|resolved| resolved.value.clone())
            .filter(|value| *value != Value::Names(vec![])),
    };
    let keys = Key::ALL.iter().filter(|key| key.audience() == Audience::Daemon);
    let pairs = keys.filter_map(|key| Some((key.variable().name.into(), value(*key)?.to_variable())));
    pairs.chain([(KACHE_CONFIG.name.into(), "/dev/null".into())]).collect()
}

/// Values by kind. Defaults are there for all kinds but paths and addresses, which a test
/// checks.
struct Reader<'a> {
    config: &'a Config,
}

impl Reader<'_> {
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

    /// A server stays unless it is told to go, since nobody can start it from afar.
    fn idle_timeout(&self) -> Option<Duration> {
        let resolved = self.config.get(Key::DaemonIdleTimeout)?;
        let serves = self.address(Key::ServeListen).or_else(|| self.address(Key::ServeHttpListen)).is_some();
        match &resolved.value {
            Value::Duration(time) if time.is_zero() => None,
            Value::Duration(_) if serves && resolved.origin == Origin::Default => None,
            Value::Duration(time) => Some(*time),
            _ => None,
        }
    }

    fn serve(&self) -> Result<ServeSettings, ConfigErrors> {
        let metrics = match self.value(Key::ServeMetrics) {
            Some(Value::Metrics(metrics)) => metrics.clone(),
            _ => MetricsDoor::default(),
        };
        let hosts = match self.value(Key::ServeHosts) {
            Some(Value::Names(names)) => names.clone(),
            _ => Vec::new(),
        };
        Ok(ServeSettings {
            listen: self.address(Key::ServeListen),
            http_listen: self.address(Key::ServeHttpListen),
            metrics,
            hosts,
            read_only: self.flag(Key::ServeReadOnly),
            tls: self.tls()?,
            trust_uploads: self.flag(Key::ServeTrustUploads),
            tokens: self.path(Key::ServeTokens),
            anonymous_reads: self.flag(Key::ServeAnonymousReads),
            allow_insecure: self.flag(Key::ServeAllowInsecure),
            insecure_address: self.address(Key::ServeInsecureAddress),
        })
    }

    /// A certificate is nothing without its key.
    fn tls(&self) -> Result<Option<TlsSettings>, ConfigErrors> {
        let (cert, key) = (self.path(Key::ServeTlsCert), self.path(Key::ServeTlsKey));
        let client_ca = self.path(Key::ServeTlsClientCa);
        let lacking = |present: Key, missing: Key| ConfigError {
            site: site_of(self.config, present),
            what: format!("`{}` is set and `{}` is not", present.name(), missing.name()),
            remedy: format!("set `{}` as well, or neither", missing.name()),
        };
        match (cert, key, client_ca) {
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsSettings { cert, key, client_ca })),
            (Some(_), None, _) => Err(lacking(Key::ServeTlsCert, Key::ServeTlsKey).into()),
            (None, Some(_), _) => Err(lacking(Key::ServeTlsKey, Key::ServeTlsCert).into()),
            (None, None, Some(_)) => Err(lacking(Key::ServeTlsClientCa, Key::ServeTlsCert).into()),
            (None, None, None) => Ok(None),
        }
    }
}
