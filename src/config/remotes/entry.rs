//! One remote as a file or variables describe it. Pure.

use std::path::PathBuf;

use kache_remote::Secret;
use toml::de::DeValue;

use crate::config::load::Origin;
use crate::config::value::{Value, ValueKind};

/// The most remotes that are read.
pub(in crate::config) const REMOTES_MAX: usize = 16;

/// What a remote is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    /// Builds fetch results from the remote and upload none.
    Read,
    /// Builds upload results to the remote and fetch none.
    Write,
    /// Builds fetch results from the remote and upload them.
    #[default]
    ReadWrite,
}

impl Access {
    const ALL: [Access; 3] = [Access::Read, Access::Write, Access::ReadWrite];

    /// The name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "read-write",
        }
    }
}

/// The settings of one remote. A field that is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct RemoteEntry {
    /// Where the remote is described.
    pub(in crate::config) origin: Origin,
    /// Whether this is `[cache.remote]`.
    pub(in crate::config) is_short: bool,
    /// A URL may hold a password.
    pub(super) url: Option<Secret>,
    pub(super) access: Access,
    pub(super) writes_if: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) token: Option<Secret>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) token_command: Vec<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) upload_inputs: bool,
    pub(super) allow_cleartext_credentials: bool,
    pub(super) connect_ms: Option<u64>,
    pub(super) lookup_ms: Option<u64>,
    pub(super) stall_ms: Option<u64>,
    pub(super) concurrency: Option<u64>,
    pub(super) compression_level: Option<u64>,
    pub(super) size_bytes_max: Option<u64>,
    pub(super) kind: Option<String>,
    pub(super) bucket: Option<String>,
    pub(super) prefix: Option<String>,
    /// A URL may hold a password, although none belongs here.
    pub(super) endpoint: Option<Secret>,
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    /// The access key for S3, which only variables hold.
    pub(super) access_key: Option<String>,
    pub(super) secret_key: Option<Secret>,
    /// Why a variable that belongs to this remote cannot be used.
    pub(super) problem: Option<String>,
}

impl RemoteEntry {
    /// Creates a remote of which nothing is known yet.
    pub(in crate::config) fn new(origin: Origin) -> RemoteEntry {
        RemoteEntry { origin, ..RemoteEntry::default() }
    }

    /// Sets a key of the table; `None` if the value is not one of this key.
    pub(in crate::config) fn set(&mut self, name: &str, value: &DeValue<'_>) -> Option<()> {
        match name {
            "url" => self.url = Some(secret(value)?),
            "access" => self.access = access(value)?,
            "writes_if" => self.writes_if = Some(variable_name(value)?),
            "upload_inputs" => self.upload_inputs = value.as_bool()?,
            "instance" => self.instance = Some(text(value)?),
            "headers" => self.headers = headers(value)?,
            "token" => self.token = Some(secret(value)?),
            "token_file" => self.token_file = Some(path(value)?),
            "token_command" => self.token_command = words(value)?,
            "ca" => self.ca = Some(path(value)?),
            "cert" => self.cert = Some(path(value)?),
            "key" => self.key = Some(path(value)?),
            "allow_cleartext_credentials" => self.allow_cleartext_credentials = value.as_bool()?,
            "connect_ms" => self.connect_ms = Some(number(value)?),
            "lookup_ms" => self.lookup_ms = Some(number(value)?),
            "stall_ms" => self.stall_ms = Some(number(value)?),
            "concurrency" => self.concurrency = Some(number(value)?),
            "compression_level" => self.compression_level = Some(number(value).filter(|level| *level <= 22)?),
            "max_size" => self.size_bytes_max = Some(size(value)?),
            "type" => self.kind = Some(text(value)?),
            "bucket" => self.bucket = Some(text(value)?),
            "prefix" => self.prefix = Some(text(value)?),
            "endpoint" => self.endpoint = Some(secret(value)?),
            "region" => self.region = Some(text(value)?),
            "profile" => self.profile = Some(text(value)?),
            _ => return None,
        }
        Some(())
    }

    /// The paths in this entry, which may be relative to its file.
    pub(in crate::config) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.token_file, &mut self.ca, &mut self.cert, &mut self.key].into_iter().flatten()
    }

    /// The files that decide whether this remote can be used.
    pub(in crate::config) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.token_file, &self.ca, &self.cert, &self.key].into_iter().flatten()
    }

    /// The variables of a call that this entry depends on, by its own words.
    pub(in crate::config) fn variables(&self) -> impl Iterator<Item = &str> {
        let of_command = (!self.token_command.is_empty()).then_some("PATH");
        self.writes_if.as_deref().into_iter().chain(of_command)
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn secret(value: &DeValue<'_>) -> Option<Secret> {
    text(value).map(Secret::new)
}

fn path(value: &DeValue<'_>) -> Option<PathBuf> {
    match ValueKind::Path.read(value.as_str()?)? {
        Value::Path(path) => Some(path),
        _ => None,
    }
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer().filter(|number| number.radix() == 10)?;
    number.as_str().parse().ok()
}

/// A number of bytes, or a text with a unit.
fn size(value: &DeValue<'_>) -> Option<u64> {
    match value.as_str() {
        None => number(value),
        Some(text) => match ValueKind::Size.read(text)? {
            Value::Size(bytes) => Some(bytes),
            _ => None,
        },
    }
}

fn access(value: &DeValue<'_>) -> Option<Access> {
    let name = value.as_str()?;
    Access::ALL.into_iter().find(|access| access.name() == name)
}

fn variable_name(value: &DeValue<'_>) -> Option<String> {
    text(value).filter(|name| name.chars().all(|c| c.is_ascii_graphic() && c != '='))
}

fn words(value: &DeValue<'_>) -> Option<Vec<String>> {
    let words: Vec<String> = value
        .as_array()?
        .iter()
        .map(|word| word.get_ref().as_str().map(str::to_owned))
        .collect::<Option<_>>()?;
    words.first().is_some_and(|program| !program.is_empty()).then_some(words)
}

fn headers(value: &DeValue<'_>) -> Option<Vec<(String, Secret)>> {
    let header = |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        Some((name.get_ref().to_string(), Secret::new(value.get_ref().as_str()?)))
    };
    value.as_table()?.iter().map(header).collect()
}
