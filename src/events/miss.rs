//! The reason of a miss, as it is recorded in an event.

use kache_cas::Hash;

use super::change::Change;
use super::event::{Event, Outcome};
use super::reason::{EventReason, MissReason};
use crate::lookup::LookupMiss;

impl Event {
    /// Sets the reason, the detail and the changes of a miss.
    pub fn note_miss(&mut self, miss: &LookupMiss) {
        let (reason, detail) = match miss {
            LookupMiss::NewQuery => {
                (MissReason::New, "nothing with these arguments and inputs was compiled before".to_owned())
            }
            LookupMiss::Changed(differences) => {
                self.changes = differences.iter().map(Change::from).collect();
                let first = self.changes.first().map(Change::to_string);
                (MissReason::Changed, first.unwrap_or_else(|| "something changed".to_owned()))
            }
            LookupMiss::Evicted(action) => {
                self.nearest = Some(action.hash);
                (
                    MissReason::Evicted,
                    "the same was compiled before, and its result is no longer in the store".to_owned(),
                )
            }
            LookupMiss::Quarantined(action) => {
                self.nearest = Some(action.hash);
                (
                    MissReason::Quarantined,
                    "two compiles of the same disagreed, so neither result is used".to_owned(),
                )
            }
        };
        self.reason = Some(EventReason::Miss(reason));
        self.detail = detail;
    }

    /// Turns a hit into a miss, because a blob of the action's result was changed or removed and could
    /// not be restored.
    pub fn note_unusable_result(&mut self, action: Hash) {
        self.outcome = Outcome::Miss;
        self.action = None;
        self.nearest = Some(action);
        self.reason = Some(EventReason::Miss(MissReason::Evicted));
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
        let changed = LookupMiss::Changed(vec![Difference { before: env("a"), now: Some(env("b")) }]);
        for (miss, reason, nearest, changes) in [
            (LookupMiss::NewQuery, MissReason::New, None, 0),
            (changed, MissReason::Changed, None, 1),
            (LookupMiss::Changed(Vec::new()), MissReason::Changed, None, 0),
            (LookupMiss::Evicted(action), MissReason::Evicted, Some(action.hash), 0),
            (LookupMiss::Quarantined(action), MissReason::Quarantined, Some(action.hash), 0),
        ] {
            let mut event = Event::new(UNIX_EPOCH, "x", Outcome::Miss);
            event.note_miss(&miss);
            let reason = Some(EventReason::Miss(reason));
            assert_eq!((event.reason, event.nearest, event.changes.len()), (reason, nearest, changes));
            assert!(!event.detail.is_empty());
        }
    }
}
