//! A byte stream that is polled again for a moment before its thread goes to sleep.
//!
//! A client that sends one small request after the other has the next one ready within
//! microseconds, and waking a thread whose processor has gone idle takes longer than
//! answering. So after a small request of a fast client, its connection is polled again as
//! soon as the thread has nothing else to do and has looked at all its sockets.
//!
//! Invariant: one such wait polls for at most `POLL_MAX`. After a wait in which nothing came,
//! the next `2^failures - 1` waits sleep at once, and only `SUCCESSES_PER_FAILURE` successful
//! waits take one failure back. So a client with pauses, or one that needs this very
//! processor, costs almost nothing, and an idle client costs nothing.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{Duplex, writes_pass};

/// How long a thread stays awake for one connection. On a machine that is otherwise idle, a
/// client needs about half of this to wake up and send its next request.
pub const POLL_MAX: Duration = Duration::from_micros(100);

/// A client is fast if its last request came within this time, including the time that both
/// sides needed to wake up.
const FAST_CLIENT_MAX: Duration = Duration::from_micros(250);

/// A larger read is part of an upload, and storing it needs the processor.
const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// With this many failures, one wait in about a thousand polls; it becomes no rarer.
const FAILURES_MAX: u32 = 10;

/// How many successful waits take one failure back.
const SUCCESSES_PER_FAILURE: u32 = 16;

/// A stream whose reads may busy-poll. Writes are passed on.
pub struct BusyPollStream<S> {
    stream: S,
    policy: BusyPollPolicy,
}

impl<S> BusyPollStream<S> {
    /// Wraps a stream from which nothing has been read.
    pub fn new(stream: S) -> Self {
        BusyPollStream { stream, policy: BusyPollPolicy::default() }
    }
}

/// Decides whether a wait polls or sleeps, by how earlier waits ended. It reads no clock.
#[derive(Debug, Default)]
struct BusyPollPolicy {
    /// When the current wait began; `None` while there is something to read.
    since: Option<Instant>,
    /// Whether the current wait polls.
    is_polling: bool,
    is_client_fast: bool,
    /// Waits that polled and got nothing, less those that were made up for.
    failures: u32,
    /// Successful waits since the last failure was taken back.
    successes: u32,
    /// How many waits sleep at once before the next one polls.
    waits_to_skip: u32,
}

impl BusyPollPolicy {
    /// Notes that this many bytes were read.
    fn received(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.is_client_fast = now.saturating_duration_since(since) <= FAST_CLIENT_MAX;
        }
        self.is_client_fast &= bytes <= REQUEST_BYTES_MAX;
        if std::mem::take(&mut self.is_polling) {
            self.successes += 1;
            if self.successes == SUCCESSES_PER_FAILURE {
                self.failures = self.failures.saturating_sub(1);
                self.successes = 0;
            }
        }
    }

    /// Notes that there was nothing to read, and returns whether to poll again at once.
    fn polls_again(&mut self, now: Instant) -> bool {
        if let Some(since) = self.since {
            if self.is_polling && now.saturating_duration_since(since) > POLL_MAX {
                self.is_polling = false;
                self.failures = (self.failures + 1).min(FAILURES_MAX);
                self.successes = 0;
                self.waits_to_skip = (1 << self.failures) - 1;
            }
            return self.is_polling;
        }
        self.since = Some(now);
        self.is_polling = self.is_client_fast && self.waits_to_skip == 0;
        self.waits_to_skip = self.waits_to_skip.saturating_sub(1);
        self.is_polling
    }
}

impl<S: Duplex> AsyncRead for BusyPollStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            this.policy.received(Instant::now(), buffer.filled().len() - before);
        } else if this.policy.polls_again(Instant::now()) {
            // Polling this future once reschedules the task behind the other ready tasks, after
            // the runtime has looked at its sockets. The future itself is not needed any more.
            let _ = pin!(tokio::task::yield_now()).poll(context);
        }
        outcome
    }
}

writes_pass!(BusyPollStream);

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates requests of `bytes`, each `gap` after the one before was read. Returns how many
    /// of the waits polled, and for how long altogether.
    fn waits(policy: &mut BusyPollPolicy, requests: usize, gap: Duration, bytes: usize) -> (usize, Duration) {
        const POLL: Duration = Duration::from_micros(1);
        let (mut now, mut polled, mut awake) = (Instant::now(), 0, Duration::ZERO);
        for _ in 0..requests {
            let until = now + gap;
            polled += usize::from(policy.polls_again(now));
            while now < until && policy.polls_again(now) {
                now += POLL;
                awake += POLL;
            }
            now = until;
            policy.received(now, bytes);
        }
        (polled, awake)
    }

    const SOON: Duration = Duration::from_micros(40);
    const REQUEST: usize = 100;

    #[test]
    fn a_fast_client_is_polled_for_from_its_second_request_on() {
        let mut policy = BusyPollPolicy::default();
        let (polled, awake) = waits(&mut policy, 1000, SOON, REQUEST);
        assert_eq!((polled, awake), (999, SOON * 999));
    }

    #[test]
    fn one_wait_polls_for_a_bounded_time() {
        let mut policy = BusyPollPolicy::default();
        waits(&mut policy, 2, SOON, REQUEST);
        let (polled, awake) = waits(&mut policy, 1, Duration::from_secs(600), REQUEST);
        assert_eq!(polled, 1);
        assert!(awake <= POLL_MAX + Duration::from_micros(2), "{awake:?}");
    }

    #[test]
    fn a_client_with_pauses_is_seldom_polled_for() {
        let mut policy = BusyPollPolicy::default();
        waits(&mut policy, 2, SOON, REQUEST);
        for gap in [POLL_MAX * 2, Duration::from_millis(1), Duration::from_secs(60)] {
            let (polled, _) = waits(&mut policy, 10_000, gap, REQUEST);
            assert!(polled < 25, "{polled} of 10,000 waits, {gap:?} each");
        }
        let (polled, _) = waits(&mut policy, 20_000, SOON, REQUEST);
        assert!(polled > 15_000, "fast again, it is polled for again: {polled} times");
    }

    #[test]
    fn a_client_that_is_often_slow_is_seldom_polled_for() {
        let mut policy = BusyPollPolicy::default();
        let mut polled = 0;
        for _ in 0..1000 {
            polled += waits(&mut policy, 9, SOON, REQUEST).0;
            polled += waits(&mut policy, 1, POLL_MAX * 2, REQUEST).0;
        }
        assert!(polled < 300, "{polled} of 10,000 waits");
    }

    #[test]
    fn uploads_and_first_requests_are_not_polled_for() {
        let mut policy = BusyPollPolicy::default();
        assert!(!policy.polls_again(Instant::now()));
        let (polled, _) = waits(&mut policy, 1000, SOON, REQUEST_BYTES_MAX + 1);
        assert_eq!(polled, 0);
    }
}
