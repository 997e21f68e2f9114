//! Prints remotes as TOML, without secrets. Pure.

use std::fmt::Write as _;
use std::path::Path;

use kache_remote::{Location, Secret};

use super::combine::Remotes;
use super::entry::{Access, RemoteEntry};
use super::keys::KEYS;
use crate::config::value::Value;

/// What stands in place of a secret.
const HIDDEN: &str = "...";

/// Lists the remotes as tables with their origins.
pub(in crate::config) fn list(remotes: &Remotes) -> String {
    let mut list = String::new();
    for entry in &remotes.entries {
        let _ = write!(list, "\n[[remote]]  # {}\n", entry.origin);
        for (name, value) in values(entry) {
            let _ = writeln!(list, "{name} = {value}");
        }
    }
    list
}

/// Returns the values of a remote's key such as `remote.url` or `cache.remote.bucket`, one for each remote that sets
/// it, in their order and without quotes. Secrets have three dots in their place. `None` if there is no such key.
pub(in crate::config) fn values_of(remotes: &Remotes, name: &str) -> Option<Vec<String>> {
    let (key, is_short) = match name.strip_prefix("cache.remote.") {
        Some(key) => (key, true),
        None => (name.strip_prefix("remote.")?, false),
    };
    if KEYS.iter().all(|known| known.name != key) {
        return None;
    }
    let entries = remotes.entries.iter().filter(|entry| entry.is_short || !is_short);
    let set = entries.filter_map(|entry| values(entry).into_iter().find(|(known, _)| *known == key));
    Some(set.map(|(_, value)| unquoted(value)).collect())
}

/// Returns a text without the quotes of TOML, and any other value as it is.
fn unquoted(value: String) -> String {
    match format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value")) {
        Some(toml::Value::String(text)) => text,
        _ => value,
    }
}

/// The keys that are set, with their values as TOML.
fn values(entry: &RemoteEntry) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.as_deref().map(quoted);
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_deref().map(Path::display).map(|p| quoted(&p.to_string()))
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let access = (entry.access != Access::default()).then(|| quoted(entry.access.name()));
    let headers: toml::Table =
        entry.headers.iter().map(|(name, _)| (name.clone(), toml::Value::from(HIDDEN))).collect();
    let headers = (!headers.is_empty()).then(|| toml::Value::from(headers).to_string());
    let command =
        (!entry.token_command.is_empty()).then(|| toml::Value::from(entry.token_command.clone()).to_string());
    let allows = entry.allow_cleartext_credentials.then(|| "true".to_owned());
    let pairs = [
        ("url", entry.url.as_ref().map(url)),
        ("type", text(&entry.kind)),
        ("bucket", text(&entry.bucket)),
        ("prefix", text(&entry.prefix)),
        ("endpoint", entry.endpoint.as_ref().map(url)),
        ("region", text(&entry.region)),
        ("profile", text(&entry.profile)),
        ("access", access),
        ("writes_if", text(&entry.writes_if)),
        ("upload_inputs", entry.upload_inputs.then(|| "true".to_owned())),
        ("instance", text(&entry.instance)),
        ("headers", headers),
        ("token", entry.token.as_ref().map(|_| quoted(HIDDEN))),
        ("token_file", path(&entry.token_file)),
        ("token_command", command),
        ("ca", path(&entry.ca)),
        ("cert", path(&entry.cert)),
        ("key", path(&entry.key)),
        ("allow_cleartext_credentials", allows),
        ("connect_ms", number(entry.connect_ms)),
        ("lookup_ms", number(entry.lookup_ms)),
        ("stall_ms", number(entry.stall_ms)),
        ("concurrency", number(entry.concurrency)),
        ("max_size", entry.size_bytes_max.map(|bytes| quoted(&Value::Size(bytes).to_string()))),
        ("compression_level", number(entry.compression_level)),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Shows a URL without a user and a password. One that cannot be understood is not shown at all, because
/// nobody knows which part of it is a password.
fn url(url: &Secret) -> String {
    match Location::parse(url.reveal()) {
        Ok((location, _)) => quoted(&location.to_string()),
        Err(_) => quoted(HIDDEN),
    }
}
