//! The time that the calls of one build session have lost to one remote (NET-01).
//!
//! A call loses time while it waits for the remote beyond what a healthy answer takes, and the whole time of a
//! request that failed. Calls that wait together lose the time once: the union of their times counts, and not
//! the sum.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time that was lost to one remote in one build session, with its limit.
#[derive(Debug)]
pub struct StallClock {
    limit: Duration,
    stalls: Mutex<Stalls>,
}

impl StallClock {
    /// Creates a clock of a build session that has lost no time.
    pub fn new(limit: Duration) -> Arc<StallClock> {
        Arc::new(StallClock { limit, stalls: Mutex::default() })
    }

    /// Returns the most time that may be lost.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the limit is reached. The remote is not asked any more in this build session then.
    pub fn is_spent(&self) -> bool {
        self.left().is_zero()
    }

    /// Loses time from now on, until the limit is reached or the future is dropped.
    pub async fn lose(self: &Arc<Self>) {
        let _running = RunningStall::begin(self);
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            // Other calls that wait, too, can only make the rest longer than this, because what they lose at the
            // same time counts once.
            tokio::time::sleep(left).await;
        }
    }

    /// Notes that all the time from `start` until now was lost.
    pub fn note_lost(&self, start: Instant) {
        self.stalls.lock().add(start, Instant::now());
    }

    /// Returns the time that may still be lost.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.stalls.lock().total(Instant::now()))
    }
}

/// A stall that lasts until this value is dropped.
struct RunningStall {
    clock: Arc<StallClock>,
    start: Instant,
}

impl RunningStall {
    fn begin(clock: &Arc<StallClock>) -> RunningStall {
        let start = Instant::now();
        clock.stalls.lock().running.push(start);
        RunningStall { clock: Arc::clone(clock), start }
    }
}

impl Drop for RunningStall {
    fn drop(&mut self) {
        let mut stalls = self.clock.stalls.lock();
        if let Some(index) = stalls.running.iter().position(|start| *start == self.start) {
            stalls.running.swap_remove(index);
        }
        stalls.add(self.start, Instant::now());
    }
}

/// Times at which calls lost time.
#[derive(Debug, Default)]
struct Stalls {
    /// The times that are over, sorted. No two of them overlap.
    past: Vec<(Instant, Instant)>,
    /// The beginnings of those that last.
    running: Vec<Instant>,
}

impl Stalls {
    fn add(&mut self, mut start: Instant, mut end: Instant) {
        self.past.retain(|&(from, to)| {
            let is_apart = to < start || end < from;
            if !is_apart {
                start = start.min(from);
                end = end.max(to);
            }
            is_apart
        });
        let index = self.past.partition_point(|&(from, _)| from < start);
        self.past.insert(index, (start, end));
    }

    fn total(&self, now: Instant) -> Duration {
        let running = self.running.iter().min().copied().unwrap_or(now);
        let before = |&(from, to): &(Instant, Instant)| to.min(running).saturating_duration_since(from);
        self.past.iter().map(before).sum::<Duration>() + now.saturating_duration_since(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_union_of_times_counts() {
        let zero = Instant::now();
        let mut stalls = Stalls::default();
        for (from, to, total) in [
            (1000, 1100, 100),
            (1500, 1600, 200),
            (1050, 1150, 250),
            (1000, 1150, 250),
            (1200, 1200, 250),
            (900, 1700, 800),
            (0, 10, 810),
        ] {
            stalls.add(zero + ms(from), zero + ms(to));
            assert_eq!(stalls.total(zero + ms(2000)), ms(total), "{from} to {to}");
        }
        stalls.running = vec![zero + ms(1900), zero + ms(1600)];
        assert_eq!(stalls.total(zero + ms(2000)), ms(1110));
    }

    #[tokio::test(start_paused = true)]
    async fn net_01_calls_that_wait_together_lose_their_time_once() {
        let clock = StallClock::new(LIMIT);
        let begun = Instant::now();
        let lose = |until: u64| tokio::time::timeout(ms(until), clock.lose());
        let (one, two, three) = tokio::join!(lose(500), lose(900), lose(100));
        assert!(one.is_err() && two.is_err() && three.is_err());
        assert_eq!(clock.left(), LIMIT - ms(900));
        // Nothing is lost while no call waits.
        tokio::time::sleep(ms(10_000)).await;
        assert_eq!(clock.left(), LIMIT - ms(900));
        clock.note_lost(begun + ms(800));
        assert!(clock.is_spent());
        clock.lose().await;
        assert_eq!(begun.elapsed(), ms(10_900));
    }
}
