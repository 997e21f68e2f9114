//! Where the commands that explain actions get bytes from: the daemon that runs, or the store
//! itself where none does. They start no daemon.

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use kache_cas::{DigestFunction, Hash, Store, StoreSettings};
use kache_client::control::{Fetch, Fetched, reply, request};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent};

use super::failure::Failure;
use crate::config::Settings;
use crate::daemon as engine;
use crate::events::Event;
use crate::explain::{Blobs, Origins};

/// A way to a store's bytes.
pub(super) enum Source {
    /// The daemon that runs.
    Daemon(Box<RefCell<DaemonConnection>>),
    /// The store, opened for as long as this lives; no daemon can have it meanwhile.
    Store(Box<Store>),
    /// There is no store.
    Nothing,
}

impl Source {
    /// The daemon's, where one runs.
    pub(super) fn of_daemon(settings: &Settings) -> Result<Option<Source>, Failure> {
        match DaemonConnection::open(&settings.address, Intent::Look, soon()) {
            Ok(connection) => Ok(Some(Source::Daemon(Box::new(RefCell::new(connection))))),
            Err(ConnectError::NotRunning) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The daemon's, or the store's own. A store that was never begun is not begun for this.
    pub(super) fn open(settings: &Settings) -> Result<Source, Failure> {
        if let Some(source) = Source::of_daemon(settings)? {
            return Ok(source);
        }
        let dir = settings.address.cache_dir();
        if !dir.join("VERSION").exists() {
            return Ok(Source::Nothing);
        }
        let store_settings = StoreSettings {
            limit_bytes: settings.max_size_bytes,
            reserve_bytes: settings.reserve_bytes,
            ..StoreSettings::new(dir)
        };
        let store = Store::open(store_settings).map_err(|error| {
            Failure::new(format!("failed to open the store: {error}")).hint("`kache daemon start` says more")
        })?;
        Ok(Source::Store(Box::new(store)))
    }
}

impl Source {
    /// Where the results of an action are from.
    pub(super) fn origins(&self, hash: Hash) -> Result<Origins, String> {
        match self {
            Source::Daemon(connection) => {
                let Fetched { made_here, uploaded, .. } = ask(&mut connection.borrow_mut(), hash)?;
                Ok(Origins { made_here, uploaded })
            }
            Source::Store(store) => engine::origins(store.actions(), hash),
            Source::Nothing => Ok(Origins::default()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Store(store) = self {
            // Nothing was written, so at worst the next start looks at more than it need.
            let _ = store.close();
        }
    }
}

impl Blobs for Source {
    fn get(&self, hash: Hash) -> Result<Option<Bytes>, String> {
        match self {
            Source::Daemon(connection) => Ok(ask(&mut connection.borrow_mut(), hash)?.content),
            Source::Store(store) => engine::fetch(store.blobs(), hash),
            Source::Nothing => Ok(None),
        }
    }
}

fn soon() -> Instant {
    Instant::now() + HELLO_WAIT_MAX
}

fn ask(connection: &mut DaemonConnection, hash: Hash) -> Result<Fetched, String> {
    let fetch = Fetch { hash: Bytes::copy_from_slice(&hash.0) };
    match connection.request(request::Kind::Fetch(fetch), soon()) {
        Ok(reply::Kind::Fetched(fetched)) => Ok(fetched),
        Ok(reply::Kind::Failed(failed)) => Err(failed.message),
        Ok(_) => Err("the daemon answered something else".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// How many digits of a digest are enough to look for it on record.
const PREFIX_DIGITS_MIN: usize = 4;

/// An action by its digest, as people write it: `blake3/hash/size`, `hash/size`, the hash, or
/// its beginning if it is on record.
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
        return Err(Failure::new(format!("`{text}` is no digest"))
            .hint("64 hexadecimal digits are expected, or the first of an action that is on record"));
    }
    let mut found: Vec<&str> =
        events.iter().map(|event| &*event.action).filter(|action| action.starts_with(&hash)).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [only] => only.parse().map_err(Failure::new),
        [] => Err(Failure::new(format!("no action on record begins with `{hash}`"))
            .hint("`kache report --format json` shows the actions of every call")),
        _ => Err(Failure::new(format!("{} actions on record begin with `{hash}`", found.len()))
            .hint("give more digits")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::Outcome;

    #[test]
    fn a_digest_is_read_as_people_write_it() {
        let [one, two] = ["ab12", "ab34"].map(|start| format!("{start}{}", "0".repeat(60)));
        let event =
            |action: &str| Event { action: action.to_owned(), ..Event::new(UNIX_EPOCH, "x", Outcome::Miss) };
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
            ("ab1", "`ab1` is no digest"),
            ("xyz12345", "`xyz12345` is no digest"),
            ("ffff", "no action on record begins with `ffff`"),
            ("", "`` is no digest"),
        ] {
            assert_eq!(resolve(text, &events).unwrap_err().message, expected);
        }
        let events = [event(&one), event(&format!("ab12{}", "1".repeat(60)))];
        assert_eq!(resolve("ab12", &events).unwrap_err().message, "2 actions on record begin with `ab12`");
    }
}
