//! Which actions are verified. Pure: what is on record and a seed go in.

use std::collections::HashMap;

use crate::events::Event;

/// A checkout, by the directories of its roots.
pub(super) type Place = Vec<(String, String)>;

/// So many checkouts of one action are tried, the latest first.
const PLACES_MAX: usize = 4;

/// An action that can be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its digest, as hexadecimal.
    pub(super) action: String,
    /// The crate.
    pub(super) crate_name: String,
    /// Where it was asked for, the latest first.
    pub(super) places: Vec<Place>,
}

/// Which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Every one.
    All,
    /// Those of a crate.
    Crate(String),
    /// So many, by chance.
    Sample {
        /// How many.
        count: usize,
        /// What decides. The same picks the same from the same record.
        seed: u64,
    },
}

/// The actions on record, in the order in which they were first seen. What build scripts try
/// has no place that stays.
pub(super) fn candidates(events: &[Event]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let are_compiles = |event: &&Event| !event.action.is_empty() && event.kind != "probe";
    for event in events.iter().filter(are_compiles).filter(|event| !event.roots.is_empty()) {
        let index = *known.entry(&event.action).or_insert_with(|| {
            found.push(Candidate {
                action: event.action.clone(),
                crate_name: event.crate_name.clone(),
                places: Vec::new(),
            });
            found.len() - 1
        });
        let places = &mut found[index].places;
        places.retain(|place| *place != event.roots);
        places.insert(0, event.roots.clone());
        places.truncate(PLACES_MAX);
    }
    found
}

/// Those that are meant.
pub(super) fn chosen(mut candidates: Vec<Candidate>, which: &Which) -> Vec<Candidate> {
    match which {
        Which::All => {}
        Which::Crate(name) => {
            let plain = |name: &str| name.replace('-', "_");
            candidates.retain(|candidate| plain(&candidate.crate_name) == plain(name));
        }
        Which::Sample { count, seed } => {
            let rank = |candidate: &Candidate| mixed(*seed, &candidate.action);
            candidates.sort_by_cached_key(rank);
            candidates.truncate(*count);
        }
    }
    candidates
}

/// A number for this text that another seed makes another one: FNV-1a, then the last steps of
/// SplitMix64, since FNV leaves texts that are nearly alike nearly in order.
fn mixed(seed: u64, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut mixed = text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::Outcome;

    fn event(action: &str, name: &str, ws: &str) -> Event {
        Event {
            action: action.to_owned(),
            kind: "lib".to_owned(),
            roots: vec![("ws".to_owned(), ws.to_owned())],
            ..Event::new(UNIX_EPOCH, name, Outcome::Miss)
        }
    }

    #[test]
    fn an_action_is_there_once_with_its_latest_places_first() {
        let place = |ws: &str| vec![("ws".to_owned(), ws.to_owned())];
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
        let found = candidates(&events);
        assert_eq!(found.iter().map(|one| &*one.action).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found[0].places, [place("/a"), place("/b")]);
        let of_crate = chosen(found.clone(), &Which::Crate("y_z".to_owned()));
        assert_eq!(of_crate, found[1..]);
        assert_eq!(chosen(found.clone(), &Which::All), found);
    }

    #[test]
    fn a_seed_picks_the_same_and_another_one_does_not() {
        let events: Vec<_> = (0..50).map(|number| event(&format!("{number:064x}"), "x", "/a")).collect();
        let sample = |seed, count| {
            let chosen = chosen(candidates(&events), &Which::Sample { count, seed });
            chosen.into_iter().map(|one| one.action).collect::<Vec<_>>()
        };
        assert_eq!(sample(1, 5), sample(1, 5));
        assert_ne!(sample(1, 5), sample(2, 5));
        assert_eq!((sample(1, 5).len(), sample(1, 99).len()), (5, 50));
        assert_eq!(sample(1, 5), sample(1, 9)[..5]);
        // Every one has its turn.
        let picked: std::collections::BTreeSet<_> = (0..200).flat_map(|seed| sample(seed, 3)).collect();
        assert_eq!(picked.len(), 50);
    }
}
