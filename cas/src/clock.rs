//! The store's only source of time, passed in so that tests can move it.
//!
//! Times in the store are whole milliseconds since the Unix epoch: they are compared, persisted
//! and subtracted, never shown. The clock may jump in either direction, and all users of this
//! module allow for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of the present time, which may jump in either direction.
pub trait Clock: Send + Sync {
    /// Returns the milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The clock of the system. A time before 1970 counts as 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock set before 1970 reads as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        duration_ms(since_epoch)
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicU64,
}

impl ManualClock {
    /// Makes a clock that stands at this time.
    pub const fn at_ms(now_ms: u64) -> Self {
        ManualClock { now_ms: AtomicU64::new(now_ms) }
    }

    /// Moves the clock forward by whole milliseconds; the rest of `by` is dropped.
    pub fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(duration_ms(by), Ordering::Relaxed);
    }

    /// Sets the clock, possibly backwards, as happens to the clock of a machine.
    pub fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// A day in 2026, late enough for ages to be subtracted from it.
impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::at_ms(1_790_000_000_000)
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// Measures a duration. It is monotonic: changes of the system's clock do not affect it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts a measurement that `elapsed` reads.
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Returns a duration in whole milliseconds.
pub(crate) fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_it_is_set() {
        let clock = ManualClock::at_ms(5_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now_ms(), 7_000);
        clock.set_ms(1);
        assert_eq!(clock.now_ms(), 1);
    }

    #[test]
    fn the_system_clock_shows_a_plausible_date() {
        assert!(SystemClock.now_ms() > 1_700_000_000_000);
    }
}
