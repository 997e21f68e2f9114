//! Chooses the actions to verify from the event log. Pure: the same events, selection and seed
//! give the same actions.

use std::collections::HashMap;

use kache_cas::Hash;

use crate::events::{Event, PROBE};

/// The directories of a checkout, as pairs of a role and a path.
pub(super) type CheckoutRoots = Vec<(String, String)>;

/// The most checkouts in which one action is tried, the latest first.
const CHECKOUTS_MAX: usize = 4;

/// An action of the event log that can be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordedAction {
    /// The hash of the action's digest.
    pub(super) action: Hash,
    pub(super) crate_name: String,
    /// The checkouts whose calls had this action, the latest first.
    pub(super) checkouts: Vec<CheckoutRoots>,
}

/// The actions that the user wants to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// Every recorded action is verified.
    All,
    /// The actions of the crate with this name.
    Crate(String),
    /// A random sample of the recorded actions is verified.
    Sample {
        /// The size of the sample.
        count: usize,
        /// The same seed chooses the same sample from the same event log.
        seed: u64,
    },
}

/// Returns the actions of the event log in the order in which they first occur. Probes of build
/// scripts are left out, because their directories do not stay.
pub(super) fn recorded_actions(events: &[Event]) -> Vec<RecordedAction> {
    let mut actions: Vec<RecordedAction> = Vec::new();
    let mut indices: HashMap<Hash, usize> = HashMap::new();
    let is_compile = |event: &&Event| event.kind != PROBE && !event.roots.is_empty();
    for event in events.iter().filter(is_compile) {
        let Some(action) = event.action else { continue };
        let index = *indices.entry(action).or_insert_with(|| {
            actions.push(RecordedAction { action, crate_name: event.name.clone(), checkouts: Vec::new() });
            actions.len() - 1
        });
        // A checkout that is listed already moves to the front, because it was just used.
        let checkouts = &mut actions[index].checkouts;
        checkouts.retain(|checkout| *checkout != event.roots);
        checkouts.insert(0, event.roots.clone());
        checkouts.truncate(CHECKOUTS_MAX);
    }
    actions
}

/// Keeps the selected actions.
pub(super) fn select(mut actions: Vec<RecordedAction>, selection: &Selection) -> Vec<RecordedAction> {
    match selection {
        Selection::All => {}
        Selection::Crate(name) => {
            let normal = |name: &str| name.replace('-', "_");
            actions.retain(|action| normal(&action.crate_name) == normal(name));
        }
        Selection::Sample { count, seed } => {
            let rank = |action: &RecordedAction| seeded_hash(*seed, &action.action.to_hex());
            actions.sort_by_cached_key(rank);
            actions.truncate(*count);
        }
    }
    actions
}

/// Hashes a text so that another seed gives another order: FNV-1a, then the last steps of
/// SplitMix64, because FNV alone leaves nearly equal texts nearly in order.
fn seeded_hash(seed: u64, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut mixed = text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use kache_cas::DigestFunction;

    use super::*;
    use crate::events::Outcome;

    fn hash(name: &str) -> Hash {
        DigestFunction::Blake3.hash(name.as_bytes())
    }

    fn event(action: &str, name: &str, ws: &str) -> Event {
        Event {
            action: (!action.is_empty()).then(|| hash(action)),
            kind: "lib".to_owned(),
            roots: vec![("ws".to_owned(), ws.to_owned())],
            ..Event::new(UNIX_EPOCH, name, Outcome::Miss)
        }
    }

    #[test]
    fn each_action_occurs_once_with_its_latest_checkout_first() {
        let checkout = |ws: &str| vec![("ws".to_owned(), ws.to_owned())];
        let nowhere = Event { roots: Vec::new(), ..event("c", "x", "") };
        let probe = Event { kind: "probe".to_owned(), ..event("d", "x", "/a") };
        let events = [
            event("a", "x", "/a"),
            event("", "x", "/a"),
            event("b", "y-z", "/a"),
            event("a", "x", "/b"),
            event("a", "x", "/a"),
            nowhere,
            probe,
        ];
        let actions = recorded_actions(&events);
        assert_eq!(actions.iter().map(|one| one.action).collect::<Vec<_>>(), [hash("a"), hash("b")]);
        assert_eq!(actions[0].checkouts, [checkout("/a"), checkout("/b")]);
        let of_crate = select(actions.clone(), &Selection::Crate("y_z".to_owned()));
        assert_eq!(of_crate, actions[1..]);
        assert_eq!(select(actions.clone(), &Selection::All), actions);
    }

    #[test]
    fn the_same_seed_chooses_the_same_sample_and_another_seed_another_one() {
        let events: Vec<_> = (0..50).map(|number| event(&format!("{number:064x}"), "x", "/a")).collect();
        let sample = |seed, count| {
            let selected = select(recorded_actions(&events), &Selection::Sample { count, seed });
            selected.into_iter().map(|one| one.action).collect::<Vec<_>>()
        };
        assert_eq!(sample(1, 5), sample(1, 5));
        assert_ne!(sample(1, 5), sample(2, 5));
        assert_eq!((sample(1, 5).len(), sample(1, 99).len()), (5, 50));
        assert_eq!(sample(1, 5), sample(1, 9)[..5]);
        // With enough seeds every action is chosen.
        let picked: std::collections::BTreeSet<_> = (0..200).flat_map(|seed| sample(seed, 3)).collect();
        assert_eq!(picked.len(), 50);
    }
}
