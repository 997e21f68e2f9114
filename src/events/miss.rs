//! The reason of a miss, as it is recorded in an event.

use super::change::Change;
use super::event::{Event, Outcome};
use crate::lookup::Miss;

/// The query was never compiled before.
pub const NEW: &str = "new";
/// The query was compiled before, and something that the compiler observed has changed.
pub const CHANGED: &str = "changed";
/// The action was compiled before, and its result is no longer in the store.
pub const EVICTED: &str = "evicted";
/// The action was compiled before, and two of its results differ.
pub const QUARANTINED: &str = "quarantined";

impl Event {
    /// Sets the reason, the detail and the changes of a miss.
    pub fn note_miss(&mut self, miss: &Miss) {
        let (reason, detail) = match miss {
            Miss::NewQuery => (NEW, "nothing with these arguments and inputs was compiled before".to_owned()),
            Miss::Changed(differences) => {
                self.changes = differences.iter().map(Change::from).collect();
                let first = self.changes.first().map(Change::to_string);
                (CHANGED, first.unwrap_or_else(|| "something changed".to_owned()))
            }
            Miss::Evicted(action) => {
                self.nearest = action.hash.to_hex();
                (EVICTED, "the same was compiled before, and its result is no longer in the store".to_owned())
            }
            Miss::Quarantined(action) => {
                self.nearest = action.hash.to_hex();
                (QUARANTINED, "two compiles of the same disagreed, so neither result is used".to_owned())
            }
        };
        self.reason = reason.to_owned();
        self.detail = detail;
    }

    /// Turns a hit into a miss, because a blob of the action's result was changed or removed and could
    /// not be restored.
    pub fn note_unusable_result(&mut self, action: &str) {
        self.outcome = Outcome::Miss;
        self.action = String::new();
        self.nearest = action.to_owned();
        self.reason = EVICTED.to_owned();
        self.detail =
            "the same was compiled before, and a file of its result was written to or removed since"
                .to_owned();
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use kache_cas::{Digest, DigestFunction};

    use super::*;
    use crate::action::Observation;
    use crate::lookup::Difference;

    #[test]
    fn every_miss_has_a_reason() {
        let action = Digest::of(DigestFunction::Blake3, b"action");
        let env = |value: &str| Observation::Env { name: "X".to_owned(), value: Some(value.into()) };
        let changed = Miss::Changed(vec![Difference { before: env("a"), now: Some(env("b")) }]);
        for (miss, reason, nearest, changes) in [
            (Miss::NewQuery, NEW, String::new(), 0),
            (changed, CHANGED, String::new(), 1),
            (Miss::Changed(Vec::new()), CHANGED, String::new(), 0),
            (Miss::Evicted(action), EVICTED, action.hash.to_hex(), 0),
            (Miss::Quarantined(action), QUARANTINED, action.hash.to_hex(), 0),
        ] {
            let mut event = Event::new(UNIX_EPOCH, "x", Outcome::Miss);
            event.note_miss(&miss);
            assert_eq!((&*event.reason, event.nearest, event.changes.len()), (reason, nearest, changes));
            assert!(!event.detail.is_empty());
        }
    }
}
