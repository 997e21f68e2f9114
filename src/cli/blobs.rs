//! Reads stored blobs for the commands that explain actions: through the running daemon, or
//! from the store itself if no daemon runs.
//!
//! Nothing in here starts a daemon or creates a store (DMN-06).

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use kache_cas::{DigestFunction, Hash, Store, StoreSettings, with_causes};
use kache_client::control::{Fetch, Fetched, reply, request};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent};

use super::failure::Failure;
use crate::config::Settings;
use crate::daemon as engine;
use crate::events::Event;
use crate::explain::{Blobs, ResultOrigins};

/// The place that blobs are read from.
pub(super) enum BlobSource {
    /// Blobs are requested from the running daemon.
    Daemon(Box<RefCell<DaemonConnection>>),
    /// The store. It stays open, and no daemon can open it, until this value is dropped.
    Store(Box<Store>),
    /// There is no store yet: every lookup finds nothing.
    Nothing,
}

impl BlobSource {
    /// Connects to the running daemon; `None` if no daemon runs.
    pub(super) fn of_daemon(settings: &Settings) -> Result<Option<BlobSource>, Failure> {
        match DaemonConnection::open(&settings.address, Intent::Look, soon()) {
            Ok(connection) => Ok(Some(BlobSource::Daemon(Box::new(RefCell::new(connection))))),
            Err(ConnectError::NotRunning) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Connects to the running daemon, or opens the store if no daemon runs. Never creates a
    /// store.
    pub(super) fn open(settings: &Settings) -> Result<BlobSource, Failure> {
        if let Some(source) = BlobSource::of_daemon(settings)? {
            return Ok(source);
        }
        let dir = settings.address.cache_dir();
        if !dir.join("VERSION").exists() {
            return Ok(BlobSource::Nothing);
        }
        let store_settings = StoreSettings {
            limit_bytes: settings.max_size_bytes,
            reserve_bytes: settings.reserve_bytes,
            ..StoreSettings::new(dir)
        };
        let store = Store::open(store_settings).map_err(|error| {
            Failure::new(format!("failed to open the store: {}", with_causes(&error)))
                .hint("`kache daemon start` may say more")
        })?;
        Ok(BlobSource::Store(Box::new(store)))
    }
}

impl BlobSource {
    /// Says whether results of this action are stored, and who stored them.
    pub(super) fn origins(&self, hash: Hash) -> Result<ResultOrigins, String> {
        match self {
            BlobSource::Daemon(connection) => {
                let Fetched { made_here, from_remote, uploaded, .. } =
                    fetch(&mut connection.borrow_mut(), hash)?;
                Ok(ResultOrigins { made_here, from_remote, uploaded })
            }
            BlobSource::Store(store) => engine::origins(store.actions(), hash),
            BlobSource::Nothing => Ok(ResultOrigins::default()),
        }
    }
}

impl Drop for BlobSource {
    fn drop(&mut self) {
        if let BlobSource::Store(store) = self {
            // Nothing was written. If closing fails, the next daemon takes the store for one
            // that was not closed and checks its newest blobs, which costs time and no data.
            let _ = store.close();
        }
    }
}

impl Blobs for BlobSource {
    fn get(&self, hash: Hash) -> Result<Option<Bytes>, String> {
        match self {
            BlobSource::Daemon(connection) => Ok(fetch(&mut connection.borrow_mut(), hash)?.content),
            BlobSource::Store(store) => engine::fetch(store.blobs(), hash),
            BlobSource::Nothing => Ok(None),
        }
    }
}

fn soon() -> Instant {
    Instant::now() + HELLO_WAIT_MAX
}

fn fetch(connection: &mut DaemonConnection, hash: Hash) -> Result<Fetched, String> {
    let fetch = Fetch { hash: Bytes::copy_from_slice(&hash.0) };
    match connection.request(request::Kind::Fetch(fetch), soon()) {
        Ok(reply::Kind::Fetched(fetched)) => Ok(fetched),
        Ok(reply::Kind::Failed(failed)) => Err(failed.message),
        Ok(_) => Err("the daemon sent an unexpected response".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The fewest digits of a hash by which an action is searched for in the event log.
const PREFIX_DIGITS_MIN: usize = 4;

/// Reads an action's digest as people write it: `blake3/hash/size`, `hash/size`, the hash, or
/// the first digits of the hash if exactly one action in the event log begins with them.
pub(super) fn resolve(text: &str, events: &[Event]) -> Result<Hash, Failure> {
    let bare = DigestFunction::ALL
        .iter()
        .find_map(|function| text.strip_prefix(&format!("{}/", function.name())))
        .unwrap_or(text);
    let hash = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    if let Ok(hash) = hash.parse() {
        return Ok(hash);
    }
    let is_prefix = hash.len() >= PREFIX_DIGITS_MIN && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_prefix {
        return Err(Failure::new(format!("`{text}` is not a digest")).hint(format!(
            "give 64 hexadecimal digits, or at least the first {PREFIX_DIGITS_MIN} digits of an action in the event log"
        )));
    }
    let actions = events.iter().filter_map(|event| event.action);
    let mut matches: Vec<Hash> = actions.filter(|action| action.to_hex().starts_with(&hash)).collect();
    matches.sort_unstable();
    matches.dedup();
    match matches[..] {
        [only] => Ok(only),
        [] => Err(Failure::new(format!("no action in the event log begins with `{hash}`"))
            .hint("`kache report --format json` shows the action of every call")),
        _ => Err(Failure::new(format!("{} actions in the event log begin with `{hash}`", matches.len()))
            .hint("give more digits")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::Outcome;

    #[test]
    fn a_digest_may_be_written_with_its_function_its_size_or_only_its_first_digits() {
        let [one, two] = ["ab12", "ab34"].map(|start| format!("{start}{}", "0".repeat(60)));
        let event = |action: &str| Event {
            action: action.parse().ok(),
            ..Event::new(UNIX_EPOCH, "x", Outcome::Miss)
        };
        let events = [event(&one), event(&two), event(&one), event("")];
        for text in [
            one.clone(),
            one.to_uppercase(),
            format!("{one}/77"),
            format!("blake3/{one}/77"),
            "ab12".to_owned(),
            one[..63].to_owned(),
        ] {
            assert_eq!(resolve(&text, &events).unwrap().to_hex(), one, "{text}");
        }
        for (text, expected) in [
            ("ab1", "`ab1` is not a digest"),
            ("xyz12345", "`xyz12345` is not a digest"),
            ("ffff", "no action in the event log begins with `ffff`"),
            ("", "`` is not a digest"),
        ] {
            assert_eq!(resolve(text, &events).unwrap_err().message, expected);
        }
        let events = [event(&one), event(&format!("ab12{}", "1".repeat(60)))];
        assert_eq!(
            resolve("ab12", &events).unwrap_err().message,
            "2 actions in the event log begin with `ab12`"
        );
    }
}
