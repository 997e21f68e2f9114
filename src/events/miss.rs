//! What a lookup that found nothing leaves in an event.

use super::change::Change;
use super::event::{Event, Outcome};
use crate::lookup::Miss;

/// Nothing with this query was compiled before.
pub const NEW: &str = "new";
/// It was, and something that the compiler saw then is not as it was.
pub const CHANGED: &str = "changed";
/// The same was compiled, and its result is gone.
pub const EVICTED: &str = "evicted";
/// The same was compiled, and two results of it disagreed.
pub const QUARANTINED: &str = "quarantined";

impl Event {
    /// Notes why nothing was found: reason, words and differences.
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

    /// Notes that the result of this action was found and could not be used: a file of it is not
    /// what was stored any more.
    pub fn note_spoiled(&mut self, action: &str) {
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
    fn every_miss_says_why() {
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
