//! The settings with which a remote is opened and used.

use std::sync::Arc;
use std::time::Duration;

use kache_remote::{
    Authentication, Compression, Location, RemoteLimits, RemoteOptions, S3Location, S3Options, Secret,
    TlsIdentity, TlsOptions, TokenCommand,
};

use super::combine::Remotes;
use super::entry::{Access, RemoteEntry};
use super::token_file;
use crate::config::env_vars::{KACHE_S3_ACCESS_KEY, KACHE_S3_SECRET_KEY};
use crate::config::key::Key;
use crate::config::load::Config;
use crate::config::value::Value;

/// The time for a connection.
const CONNECT_MS_DEFAULT: u64 = 1000;

/// How long a call waits for one lookup.
const LOOKUP_MS_DEFAULT: u64 = 250;

/// How long a build session waits in all.
const STALL_MS_DEFAULT: u64 = 2000;

/// The longest time that can be set: an hour.
const TIME_MS_MAX: u64 = 60 * 60 * 1000;

/// The most requests under way at once that can be set.
const CONCURRENCY_MAX: u64 = 1024;

/// The highest level of zstd.
const LEVEL_MAX: u64 = 22;

/// Where the results of this program lie in a bucket whose prefix is not set.
const PREFIX_DEFAULT: &str = "artifacts";

/// One remote of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// The place of the remote.
    pub location: Location,
    /// What it is opened with.
    pub options: RemoteOptions,
    /// Whether results are fetched from it.
    pub reads: bool,
    /// Whether results are uploaded to it.
    pub writes: bool,
    /// Whether the inputs of actions are uploaded, too.
    pub uploads_inputs: bool,
    /// How long a call waits for the answer to one lookup.
    pub lookup_max: Duration,
    /// The most time that one build session loses to the remote.
    pub stall_max: Duration,
}

/// Returns the remotes of a configuration, and one sentence for each problem. This reads the files with tokens
/// and looks at those with certificates.
pub fn remotes(config: &Config) -> (Arc<[RemoteSettings]>, Vec<String>) {
    let Remotes { entries, problems, .. } = &config.remotes;
    let mut problems = problems.clone();
    if entries.is_empty() {
        return (Arc::default(), problems);
    }
    let reader = EntryReader { config, remotes: &config.remotes };
    let mut settings = Vec::with_capacity(entries.len());
    for entry in entries {
        match reader.settings(entry) {
            Ok(one) => settings.push(one),
            Err(why) => problems.push(format!("the remote of {} is not used: {why}", entry.origin)),
        }
    }
    (settings.into(), problems)
}

struct EntryReader<'a> {
    config: &'a Config,
    remotes: &'a Remotes,
}

impl EntryReader<'_> {
    fn settings(&self, entry: &RemoteEntry) -> Result<RemoteSettings, String> {
        if let Some(problem) = &entry.problem {
            return Err(problem.clone());
        }
        let (location, of_url) = location(entry)?;
        if entry.size_bytes_max.is_some() && !matches!(location, Location::Dir(_)) {
            return Err("it has a `max_size`, which only folders (`file:///`) have; remove it".to_owned());
        }
        let options = RemoteOptions {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: entry.instance.clone().unwrap_or_default(),
            headers: entry.headers.clone(),
            authentication: self.authentication(entry, of_url)?,
            tls: tls(entry)?,
            limits: self.limits(entry, &location),
            compression: self.compression(entry),
            size_bytes_max: entry.size_bytes_max,
            s3: if matches!(location, Location::S3(_)) { self.s3(entry)? } else { S3Options::default() },
        };
        let has_credentials = options.authentication.is_some() || !options.headers.is_empty();
        if has_credentials && location.is_cleartext_to_another_machine() && !entry.allow_cleartext_credentials
        {
            return Err(format!(
                "credentials would go to `{location}` without encryption; use TLS, or set `allow_cleartext_credentials`"
            ));
        }
        kache_remote::check(&location, &options).map_err(|error| error.to_string())?;
        let is_allowed = entry.writes_if.as_deref().is_none_or(|name| self.remotes.is_set(name));
        let writes = entry.access != Access::Read && is_allowed && !self.remotes.is_read_only;
        Ok(RemoteSettings {
            location,
            options,
            reads: entry.access != Access::Write,
            writes,
            uploads_inputs: writes && entry.upload_inputs,
            lookup_max: time(entry.lookup_ms, LOOKUP_MS_DEFAULT),
            stall_max: time(entry.stall_ms, STALL_MS_DEFAULT),
        })
    }

    fn authentication(
        &self,
        entry: &RemoteEntry,
        of_url: Option<Authentication>,
    ) -> Result<Option<Authentication>, String> {
        let of_file = entry.token_file.as_deref().map(token_file::read).transpose()?;
        let command = (!entry.token_command.is_empty()).then(|| TokenCommand {
            argv: entry.token_command.clone(),
            environment: self.command_environment(),
        });
        let bearers = entry.token.clone().into_iter().chain(of_file).map(Authentication::Bearer);
        let mut all = of_url.into_iter().chain(bearers).chain(command.map(Authentication::Command));
        match (all.next(), all.next()) {
            (one, None) => Ok(one),
            (_, Some(_)) => Err(
                "it has several of `token`, `token_file`, `token_command` and a password; keep one of them"
                    .to_owned(),
            ),
        }
    }

    /// The variables for a command that prints a token: its own configuration lies below the home directory.
    fn command_environment(&self) -> Vec<(String, Secret)> {
        let home = self.remotes.aws.iter().filter(|(name, _)| name == "HOME");
        self.remotes.path.iter().chain(home).cloned().collect()
    }

    fn limits(&self, entry: &RemoteEntry, location: &Location) -> RemoteLimits {
        let default = RemoteLimits::default();
        let (concurrency, idle) = match location {
            Location::S3(_) => (
                self.count(Key::CacheS3Concurrency),
                self.count(Key::CacheS3PoolIdleSecs).map_or(default.idle, seconds),
            ),
            _ => (None, default.idle),
        };
        let concurrency = entry.concurrency.or(concurrency).map(|number| number.clamp(1, CONCURRENCY_MAX));
        RemoteLimits {
            connect: time(entry.connect_ms, CONNECT_MS_DEFAULT),
            concurrency: concurrency.map_or(default.concurrency, |number| number as usize),
            idle,
            ..default
        }
    }

    fn compression(&self, entry: &RemoteEntry) -> Compression {
        match entry.compression_level.or_else(|| self.count(Key::CacheCompressionLevel)) {
            None => Compression::default(),
            Some(0) => Compression::None,
            Some(level) => Compression::Zstd(level.min(LEVEL_MAX) as i32),
        }
    }

    fn s3(&self, entry: &RemoteEntry) -> Result<S3Options, String> {
        let access_key = match (&entry.access_key, &entry.secret_key) {
            (Some(key), Some(secret)) => Some((key.clone(), secret.clone())),
            (None, None) => None,
            _ => {
                let (key, secret) = (KACHE_S3_ACCESS_KEY.name, KACHE_S3_SECRET_KEY.name);
                return Err(format!("only one of {key} and {secret} is set; set both or none"));
            }
        };
        Ok(S3Options {
            endpoint: entry.endpoint.as_ref().map(|endpoint| endpoint.reveal().to_owned()),
            region: entry.region.clone(),
            profile: entry.profile.clone(),
            access_key,
            environment: self.remotes.aws.clone(),
        })
    }

    fn count(&self, key: Key) -> Option<u64> {
        match self.config.get(key).map(|resolved| &resolved.value) {
            Some(Value::Count(number)) => Some(*number),
            _ => None,
        }
    }
}

fn time(ms: Option<u64>, default: u64) -> Duration {
    Duration::from_millis(ms.unwrap_or(default).clamp(1, TIME_MS_MAX))
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number.min(TIME_MS_MAX / 1000))
}

/// Returns where the remote is, and the user and password that its URL holds.
fn location(entry: &RemoteEntry) -> Result<(Location, Option<Authentication>), String> {
    if let Some(kind) = entry.kind.as_deref()
        && kind != "s3"
    {
        return Err("its `type` is not `s3`; name any other kind of remote by `url`".to_owned());
    }
    match (&entry.url, &entry.bucket) {
        (Some(_), Some(_)) => Err("it has a `url` and a `bucket`; keep one of them".to_owned()),
        (Some(url), None) => Location::parse(url.reveal()).map_err(|error| error.to_string()),
        (None, Some(bucket)) => {
            let prefix = entry.prefix.as_deref().unwrap_or(PREFIX_DEFAULT);
            let location = S3Location::new(bucket, prefix).map_err(|error| error.to_string())?;
            Ok((Location::S3(location), None))
        }
        (None, None) => Err("it has neither a `url` nor a `bucket`".to_owned()),
    }
}

fn tls(entry: &RemoteEntry) -> Result<TlsOptions, String> {
    let identity = match (&entry.cert, &entry.key) {
        (Some(cert), Some(key)) => Some(TlsIdentity { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        (Some(_), None) => return Err("it has a `cert` without a `key`".to_owned()),
        (None, Some(_)) => return Err("it has a `key` without a `cert`".to_owned()),
    };
    Ok(TlsOptions { ca: entry.ca.clone(), identity })
}
