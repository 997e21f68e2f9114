//! Chooses the result that a client gets for an action.
//!
//! Results that were made on this machine lie under an instance name that no client can name
//! (`kache_cas::MADE_HERE`), so no upload replaces one (NET-08). A client that gives no instance name
//! gets such a result in preference to any upload for the same action, so that no client can
//! replace it for others. This also holds for the client that uploaded.

use kache_cas::{AccessKind, ActionCache, ActionKey, StoreError, StoredResult};

/// Looks an action up. Without an instance name, a result that was made here comes first.
pub(super) fn get(
    actions: &dyn ActionCache,
    key: &ActionKey,
    access: AccessKind,
) -> Result<Option<StoredResult>, StoreError> {
    if key.instance.is_empty() {
        let own = ActionKey::made_here(key.function, key.hash);
        // `Peek` is not counted, so one request counts as one lookup, whichever result it gets.
        if actions.get(&own, AccessKind::Peek)?.is_some()
            && let Some(stored) = actions.get(&own, access)?
        {
            return Ok(Some(stored));
        }
    }
    actions.get(key, access)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kache_cas::{DigestFunction, MADE_HERE, Store, StoreSettings};
    use kache_proto::reapi::ActionResult;

    use super::*;
    use crate::http_path;
    use crate::resource_name::check_instance;

    fn saying(text: &'static str) -> ActionResult {
        ActionResult { stdout_raw: text.into(), ..ActionResult::default() }
    }

    #[test]
    fn net_08_clients_read_what_was_made_here_before_what_clients_uploaded() {
        let store = Store::in_memory(StoreSettings::new("/nowhere"));
        let function = DigestFunction::Blake3;
        let own = ActionKey::made_here(function, function.hash(b"action"));
        let [unnamed, named] = ["", "main"].map(|name| ActionKey { instance: name.into(), ..own.clone() });
        let said = |key: &ActionKey| {
            let found = get(store.actions(), key, AccessKind::Use).unwrap();
            found.map(|stored| String::from_utf8(stored.decode().unwrap().stdout_raw.into()).unwrap())
        };
        assert_eq!(said(&unnamed), None);
        store.actions().put(&unnamed, &saying("uploaded")).unwrap();
        assert_eq!((said(&unnamed).as_deref(), said(&named)), (Some("uploaded"), None));
        store.actions().put(&own, &saying("made here")).unwrap();
        store.actions().put(&unnamed, &saying("uploaded again")).unwrap();
        assert_eq!((said(&unnamed).as_deref(), said(&named)), (Some("made here"), None));
        store.actions().remove(&own).unwrap();
        assert_eq!(said(&unnamed).as_deref(), Some("uploaded again"));
        let counters = store.counters();
        assert_eq!((counters.action_hits, counters.action_misses), (3, 3), "one for each request");
    }

    /// The name itself, and every spelling of it that a path or a message may bring.
    #[test]
    fn net_08_no_client_can_name_what_was_made_here() {
        assert!(check_instance(MADE_HERE).is_err());
        let hash = DigestFunction::Sha256.hash(b"action");
        let escaped: String = MADE_HERE.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let half = MADE_HERE.replace('a', "%61");
        for name in
            [MADE_HERE, &escaped, &half, &MADE_HERE.replace('/', "%2f"), &MADE_HERE.replace('/', "//")]
        {
            assert!(http_path::parse(&format!("/{name}/ac/{hash}")).is_err(), "{name}");
        }
        // Other letters are another name, and no instance name is folded or normalised.
        let other = MADE_HERE.to_uppercase();
        assert_ne!(
            ActionKey { instance: Arc::from(&*other), ..ActionKey::made_here(DigestFunction::Sha256, hash) },
            ActionKey::made_here(DigestFunction::Sha256, hash)
        );
    }
}
