//! When a thing was last used, and until when it is promised to somebody.
//!
//! A value, not a registry: each implementation keeps one [`Retention`] per action and per
//! blob, persisted or not, and asks it these questions. Pins (a restore that is under way)
//! are not here; they live as long as a call does.
//!
//! Invariant: a mention never shortens a lease and never makes a thing older.

use std::time::Duration;

use crate::clock::duration_ms;
use crate::store::{AccessKind, PROMISE_LEASE};

/// How long an uploaded blob is kept that nothing names yet. A build uploads its outputs
/// first and the result that names them last; a quarter of an hour covers a slow link.
pub const UPLOAD_GRACE: Duration = Duration::from_secs(15 * 60);

/// How much longer than [`PROMISE_LEASE`] a promise is recorded. A thing mentioned again
/// within this time needs no new record: what is left is still a whole promise. It is what
/// makes a hot action's hit cost one lookup.
pub const RENEWAL_SLACK: Duration = Duration::from_secs(15 * 60);

/// A lease that ends later than this from now was written under a clock that was wrong,
/// and is not honoured: else one bad date could fill the store for years. Clocks that are
/// put right by hours or days (a time zone, a machine that slept) break no promise.
pub const LEASE_HONOURED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// When a thing was last used and until when it is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The last use, in milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// The end of its lease; zero where there never was one.
    pub leased_until_ms: u64,
}

impl Retention {
    /// A blob that has just arrived: used now, and leased for the upload's grace.
    pub fn uploaded(now_ms: u64) -> Self {
        Retention { used_ms: now_ms, leased_until_ms: now_ms.saturating_add(duration_ms(UPLOAD_GRACE)) }
    }

    /// A thing that was used now and promised to nobody.
    pub fn used(now_ms: u64) -> Self {
        Retention { used_ms: now_ms, leased_until_ms: 0 }
    }

    /// What it becomes through a mention.
    #[must_use]
    pub fn accessed(self, access: AccessKind, now_ms: u64) -> Self {
        let lease_ms = match access {
            AccessKind::Peek => return self,
            AccessKind::Use => 0,
            AccessKind::Promise => now_ms.saturating_add(duration_ms(PROMISE_LEASE + RENEWAL_SLACK)),
        };
        self.followed_by(Retention { used_ms: now_ms, leased_until_ms: lease_ms })
    }

    /// What it becomes through what was noted later. A promise is told from a grace by its length
    /// past the last use: where the clock has gone back since then, it keeps its length.
    #[must_use]
    pub fn followed_by(self, later: Retention) -> Self {
        let mut both = self.merged(later);
        let went_back_ms = self.used_ms.saturating_sub(later.used_ms);
        if later.is_longer_than_grace() && went_back_ms < duration_ms(LEASE_HONOURED_MAX / 2) {
            let until_ms = both.used_ms.saturating_add(later.lease_ms());
            both.leased_until_ms = both.leased_until_ms.max(until_ms);
        }
        both
    }

    /// Whether its lease reaches further past the last use than an upload's does.
    pub fn is_longer_than_grace(&self) -> bool {
        self.lease_ms() > duration_ms(UPLOAD_GRACE)
    }

    fn lease_ms(&self) -> u64 {
        self.leased_until_ms.saturating_sub(self.used_ms)
    }

    /// Both of them: the later use and the longer lease.
    #[must_use]
    pub fn merged(self, other: Retention) -> Self {
        Retention {
            used_ms: self.used_ms.max(other.used_ms),
            leased_until_ms: self.leased_until_ms.max(other.leased_until_ms),
        }
    }

    /// Whether a promise stands.
    pub fn is_leased(&self, now_ms: u64) -> bool {
        let honoured_until_ms = now_ms.saturating_add(duration_ms(LEASE_HONOURED_MAX));
        now_ms < self.leased_until_ms && self.leased_until_ms <= honoured_until_ms
    }

    /// Whether somebody was promised it. The grace of an upload is no promise: it covers the
    /// time until something names the blob, and what names it is then what keeps it. A
    /// promise is told from a grace by how far past the last use it reaches; in its last
    /// quarter of an hour, which is [`RENEWAL_SLACK`] and owed to nobody, it may look like one.
    pub fn is_promised(&self, now_ms: u64) -> bool {
        self.is_leased(now_ms) && self.is_longer_than_grace()
    }

    /// How long ago it was last used; nothing, where the clock has gone back since.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.used_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000_000;

    #[test]
    fn a_promise_holds_for_three_hours_and_a_use_for_none() {
        let used = Retention::default().accessed(AccessKind::Use, NOW_MS);
        assert!(!used.is_leased(NOW_MS) && used.used_ms == NOW_MS);
        let promised = used.accessed(AccessKind::Promise, NOW_MS);
        assert!(promised.is_leased(NOW_MS + duration_ms(PROMISE_LEASE)));
        assert!(!promised.is_leased(NOW_MS + duration_ms(PROMISE_LEASE + RENEWAL_SLACK)));
        assert_eq!(promised.accessed(AccessKind::Peek, NOW_MS + 1), promised);
    }

    #[test]
    fn a_mention_never_takes_away() {
        let promised = Retention::default().accessed(AccessKind::Promise, NOW_MS);
        // The clock went back.
        assert_eq!(promised.accessed(AccessKind::Use, NOW_MS - 50_000), promised);
        assert_eq!(promised.accessed(AccessKind::Promise, NOW_MS - 50_000), promised);
        assert_eq!(promised.age_ms(NOW_MS - 50_000), 0);
    }

    #[test]
    fn sto_04_a_promise_under_a_clock_that_went_back_is_one() {
        for hours in [1, 3, 4, 70] {
            let then_ms = NOW_MS - hours * 60 * 60 * 1000;
            let promised = Retention::uploaded(NOW_MS).accessed(AccessKind::Promise, then_ms);
            let last_ms = then_ms + duration_ms(PROMISE_LEASE);
            assert!(promised.is_promised(then_ms) && promised.is_promised(last_ms), "{hours} hours");
            assert_eq!(promised.followed_by(promised), promised);
        }
        // Mostly it goes on, and what comes later changes no promise.
        let promised = Retention::uploaded(NOW_MS).accessed(AccessKind::Promise, NOW_MS + 1_000);
        let used = promised.accessed(AccessKind::Use, NOW_MS + 60_000);
        assert_eq!(used, Retention { used_ms: NOW_MS + 60_000, ..promised });
        assert_eq!(promised.leased_until_ms, NOW_MS + 1_000 + duration_ms(PROMISE_LEASE + RENEWAL_SLACK));
    }

    #[test]
    fn a_lease_from_a_wrong_clock_is_not_honoured() {
        let year_ms = 365 * 24 * 60 * 60 * 1000;
        let wrong = Retention::default().accessed(AccessKind::Promise, NOW_MS + year_ms);
        assert!(!wrong.is_leased(NOW_MS));
        assert!(wrong.is_leased(NOW_MS + year_ms));
    }

    #[test]
    fn a_grace_is_no_promise_and_a_promise_is_one_for_its_three_hours() {
        let uploaded = Retention::uploaded(NOW_MS);
        assert!(uploaded.is_leased(NOW_MS) && !uploaded.is_promised(NOW_MS));
        assert!(!uploaded.accessed(AccessKind::Use, NOW_MS + 60_000).is_promised(NOW_MS + 60_000));
        let promised = uploaded.accessed(AccessKind::Promise, NOW_MS);
        let last_ms = NOW_MS + duration_ms(PROMISE_LEASE) - 1;
        assert!(promised.is_promised(last_ms));
        assert!(promised.accessed(AccessKind::Use, last_ms).is_promised(last_ms));
    }

    #[test]
    fn an_upload_has_its_grace() {
        let retention = Retention::uploaded(NOW_MS);
        assert!(retention.is_leased(NOW_MS + duration_ms(UPLOAD_GRACE) - 1));
        assert!(!retention.is_leased(NOW_MS + duration_ms(UPLOAD_GRACE)));
    }
}
