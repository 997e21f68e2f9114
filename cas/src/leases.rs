//! How long an entry (a blob or an action result) is kept: its last use and its lease.
//!
//! An entry has a lease for one of two reasons. An *upload* gives a blob [`UPLOAD_GRACE`], until
//! the result that names it arrives. A *promise* is longer: a client was told that the entry
//! exists and may fetch it within [`PROMISE_LEASE`]. Both are kept as one date; they are told
//! apart by how far that date lies past the last use.
//!
//! A [`Retention`] is a value, not a registry: each implementation keeps one for every entry.
//! Invariant: an access never shortens a lease and never makes an entry older.

use std::time::Duration;

use crate::clock::duration_ms;
use crate::store::{AccessKind, PROMISE_LEASE};

/// How long an uploaded blob is kept although no result names it yet. A build uploads its outputs
/// first and the result that names them last; a quarter of an hour covers a slow link.
pub const UPLOAD_GRACE: Duration = Duration::from_secs(15 * 60);

/// How much longer than [`PROMISE_LEASE`] a promise is recorded. A second access within this time
/// needs no new record, because the rest of the recorded lease still covers a whole promise. This
/// is why a hit of an often used action costs one lookup and no write.
pub const RENEWAL_SLACK: Duration = Duration::from_secs(15 * 60);

/// A lease that ends later than this from now was written under a wrong clock and is ignored:
/// otherwise one bad date could keep the store full for years. A clock that is corrected by hours
/// or days (a time zone, a machine that slept) breaks no promise.
pub const LEASE_HONOURED_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The last use of an entry and the end of its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The time of the last use, in milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// The end of the lease, in milliseconds since the Unix epoch; zero if there never was one.
    pub leased_until_ms: u64,
}

impl Retention {
    /// Returns the retention of a blob that has just arrived: used now, leased for [`UPLOAD_GRACE`].
    pub fn uploaded(now_ms: u64) -> Self {
        Retention { used_ms: now_ms, leased_until_ms: now_ms.saturating_add(duration_ms(UPLOAD_GRACE)) }
    }

    /// Returns the retention of an entry that is used now and has no lease.
    pub fn used(now_ms: u64) -> Self {
        Retention { used_ms: now_ms, leased_until_ms: 0 }
    }

    /// Returns what the retention becomes when the entry is accessed now.
    #[must_use]
    pub fn accessed(self, access: AccessKind, now_ms: u64) -> Self {
        let lease_ms = match access {
            AccessKind::Peek => return self,
            AccessKind::Use => 0,
            AccessKind::Promise => now_ms.saturating_add(duration_ms(PROMISE_LEASE + RENEWAL_SLACK)),
        };
        self.followed_by(Retention { used_ms: now_ms, leased_until_ms: lease_ms })
    }

    /// Combines this retention with one that was noted later.
    ///
    /// Usually that is the later use and the later end of lease. A clock that has gone back makes
    /// it harder: `later` was noted after `self` but has an earlier `used_ms`. The later use is
    /// then kept, and a promise would reach less far past it, so that it looked like an upload's
    /// grace. Therefore the promise is moved to keep its full length past the last use.
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

    /// Tells whether the lease reaches further past the last use than an upload's grace does.
    pub fn is_longer_than_grace(&self) -> bool {
        self.lease_ms() > duration_ms(UPLOAD_GRACE)
    }

    fn lease_ms(&self) -> u64 {
        self.leased_until_ms.saturating_sub(self.used_ms)
    }

    /// Combines two retentions in any order: the later use and the later end of lease.
    #[must_use]
    pub fn merged(self, other: Retention) -> Self {
        Retention {
            used_ms: self.used_ms.max(other.used_ms),
            leased_until_ms: self.leased_until_ms.max(other.leased_until_ms),
        }
    }

    /// Tells whether a lease of either kind is running.
    pub fn is_leased(&self, now_ms: u64) -> bool {
        let honoured_until_ms = now_ms.saturating_add(duration_ms(LEASE_HONOURED_MAX));
        now_ms < self.leased_until_ms && self.leased_until_ms <= honoured_until_ms
    }

    /// Tells whether a promise to a client is running. An upload's grace does not count: it covers
    /// the time until a result names the blob, and from then on the result keeps the blob. In its
    /// last quarter of an hour a promise may look like a grace; that time is [`RENEWAL_SLACK`],
    /// which no client was promised.
    pub fn is_promised(&self, now_ms: u64) -> bool {
        self.is_leased(now_ms) && self.is_longer_than_grace()
    }

    /// Returns how long ago the last use was; zero if the clock has gone back since.
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
    fn an_access_never_shortens_a_lease() {
        let promised = Retention::default().accessed(AccessKind::Promise, NOW_MS);
        // The clock went back.
        assert_eq!(promised.accessed(AccessKind::Use, NOW_MS - 50_000), promised);
        assert_eq!(promised.accessed(AccessKind::Promise, NOW_MS - 50_000), promised);
        assert_eq!(promised.age_ms(NOW_MS - 50_000), 0);
    }

    #[test]
    fn sto_04_a_promise_is_recognised_after_the_clock_went_back() {
        for hours in [1, 3, 4, 70] {
            let then_ms = NOW_MS - hours * 60 * 60 * 1000;
            let promised = Retention::uploaded(NOW_MS).accessed(AccessKind::Promise, then_ms);
            let last_ms = then_ms + duration_ms(PROMISE_LEASE);
            assert!(promised.is_promised(then_ms) && promised.is_promised(last_ms), "{hours} hours");
            assert_eq!(promised.followed_by(promised), promised);
        }
        // With a clock that goes on, later accesses change no promise.
        let promised = Retention::uploaded(NOW_MS).accessed(AccessKind::Promise, NOW_MS + 1_000);
        let used = promised.accessed(AccessKind::Use, NOW_MS + 60_000);
        assert_eq!(used, Retention { used_ms: NOW_MS + 60_000, ..promised });
        assert_eq!(promised.leased_until_ms, NOW_MS + 1_000 + duration_ms(PROMISE_LEASE + RENEWAL_SLACK));
    }

    #[test]
    fn a_lease_from_a_wrong_clock_is_ignored() {
        let year_ms = 365 * 24 * 60 * 60 * 1000;
        let wrong = Retention::default().accessed(AccessKind::Promise, NOW_MS + year_ms);
        assert!(!wrong.is_leased(NOW_MS));
        assert!(wrong.is_leased(NOW_MS + year_ms));
    }

    #[test]
    fn an_upload_grace_is_no_promise_and_a_promise_holds_for_three_hours() {
        let uploaded = Retention::uploaded(NOW_MS);
        assert!(uploaded.is_leased(NOW_MS) && !uploaded.is_promised(NOW_MS));
        assert!(!uploaded.accessed(AccessKind::Use, NOW_MS + 60_000).is_promised(NOW_MS + 60_000));
        let promised = uploaded.accessed(AccessKind::Promise, NOW_MS);
        let last_ms = NOW_MS + duration_ms(PROMISE_LEASE) - 1;
        assert!(promised.is_promised(last_ms));
        assert!(promised.accessed(AccessKind::Use, last_ms).is_promised(last_ms));
    }

    #[test]
    fn an_upload_is_leased_for_its_grace() {
        let retention = Retention::uploaded(NOW_MS);
        assert!(retention.is_leased(NOW_MS + duration_ms(UPLOAD_GRACE) - 1));
        assert!(!retention.is_leased(NOW_MS + duration_ms(UPLOAD_GRACE)));
    }
}
