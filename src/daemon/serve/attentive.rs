//! A byte stream whose reader looks again for a moment before its thread goes to sleep.
//!
//! A client that asks one thing after the other has its next question ready within
//! microseconds, and waking a thread, on a processor that has gone idle by then, takes longer
//! than answering. So after a small request of a client that was brisk, its connection comes
//! back as soon as the thread has nothing else to do and has looked at all its sockets.
//!
//! Invariant: that ends after `LINGER_MAX`. Each time it was for nothing, twice as many waits
//! are slept through before the next one, and only `HITS_FOR_A_MISS` that were not make up for
//! it; so a client with pauses, or one that waits for this very processor, costs next to
//! nothing, and one that says nothing costs nothing.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{Duplex, writes_pass};

/// For how long a thread stays awake for one connection. On a machine that is otherwise idle,
/// a client needs half of it to wake up.
pub const LINGER_MAX: Duration = Duration::from_micros(100);

/// A client is brisk if it asked within this time, with all the sleeping and waking in it.
const BRISK_MAX: Duration = Duration::from_micros(250);

/// What comes in larger parts is an upload, and whoever stores it needs the processor.
const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// After so many times for nothing, the pauses grow no longer: one wait in a thousand.
const MISSES_MAX: u32 = 10;

/// So many waits that were worth it make up for one that was not.
const HITS_FOR_A_MISS: u32 = 16;

/// A stream that is read attentively.
pub struct Attentive<S> {
    stream: S,
    attention: Attention,
}

impl<S> Attentive<S> {
    /// Reads this stream.
    pub fn new(stream: S) -> Self {
        Attentive { stream, attention: Attention::default() }
    }
}

/// Whether it pays to stay awake, from how it went before.
#[derive(Debug, Default)]
struct Attention {
    /// Since when nothing comes.
    since: Option<Instant>,
    lingers: bool,
    is_brisk: bool,
    misses: u32,
    /// Since the last miss was made up for.
    hits: u32,
    /// So many waits are slept through before the next one that is not.
    sleeps: u32,
}

impl Attention {
    /// Something came.
    fn came(&mut self, now: Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.is_brisk = now.saturating_duration_since(since) <= BRISK_MAX;
        }
        self.is_brisk &= bytes <= REQUEST_BYTES_MAX;
        if std::mem::take(&mut self.lingers) {
            self.hits += 1;
            if self.hits == HITS_FOR_A_MISS {
                self.misses = self.misses.saturating_sub(1);
                self.hits = 0;
            }
        }
    }

    /// Nothing is there; whether to look again at once.
    fn looks_again(&mut self, now: Instant) -> bool {
        if let Some(since) = self.since {
            if self.lingers && now.saturating_duration_since(since) > LINGER_MAX {
                self.lingers = false;
                self.misses = (self.misses + 1).min(MISSES_MAX);
                self.hits = 0;
                self.sleeps = (1 << self.misses) - 1;
            }
            return self.lingers;
        }
        self.since = Some(now);
        self.lingers = self.is_brisk && self.sleeps == 0;
        self.sleeps = self.sleeps.saturating_sub(1);
        self.lingers
    }
}

impl<S: Duplex> AsyncRead for Attentive<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            this.attention.came(Instant::now(), buffer.filled().len() - before);
        } else if this.attention.looks_again(Instant::now()) {
            // Asked once, this has the task come back after the runtime has looked at its sockets.
            let _ = pin!(tokio::task::yield_now()).poll(context);
        }
        outcome
    }
}

writes_pass!(Attentive);

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets requests of so many bytes come, each so long after the one before was read, and
    /// gives for how many of the waits the thread stayed awake at first, and for how long.
    fn waits(attention: &mut Attention, requests: usize, gap: Duration, bytes: usize) -> (usize, Duration) {
        const GLANCE: Duration = Duration::from_micros(1);
        let (mut now, mut lingered, mut awake) = (Instant::now(), 0, Duration::ZERO);
        for _ in 0..requests {
            let until = now + gap;
            lingered += usize::from(attention.looks_again(now));
            while now < until && attention.looks_again(now) {
                now += GLANCE;
                awake += GLANCE;
            }
            now = until;
            attention.came(now, bytes);
        }
        (lingered, awake)
    }

    const SOON: Duration = Duration::from_micros(40);
    const REQUEST: usize = 100;

    #[test]
    fn a_brisk_client_is_waited_for_from_its_second_request_on() {
        let mut attention = Attention::default();
        let (lingered, awake) = waits(&mut attention, 1000, SOON, REQUEST);
        assert_eq!((lingered, awake), (999, SOON * 999));
    }

    #[test]
    fn one_wait_is_bounded() {
        let mut attention = Attention::default();
        waits(&mut attention, 2, SOON, REQUEST);
        let (lingered, awake) = waits(&mut attention, 1, Duration::from_secs(600), REQUEST);
        assert_eq!(lingered, 1);
        assert!(awake <= LINGER_MAX + Duration::from_micros(2), "{awake:?}");
    }

    #[test]
    fn a_client_with_pauses_costs_next_to_nothing() {
        let mut attention = Attention::default();
        waits(&mut attention, 2, SOON, REQUEST);
        for gap in [LINGER_MAX * 2, Duration::from_millis(1), Duration::from_secs(60)] {
            let (lingered, _) = waits(&mut attention, 10_000, gap, REQUEST);
            assert!(lingered < 25, "{lingered} of 10,000 waits, {gap:?} each");
        }
        let (lingered, _) = waits(&mut attention, 20_000, SOON, REQUEST);
        assert!(lingered > 15_000, "brisk again, it is waited for again: {lingered} times");
    }

    #[test]
    fn now_and_then_is_not_often_enough() {
        let mut attention = Attention::default();
        let mut lingered = 0;
        for _ in 0..1000 {
            lingered += waits(&mut attention, 9, SOON, REQUEST).0;
            lingered += waits(&mut attention, 1, LINGER_MAX * 2, REQUEST).0;
        }
        assert!(lingered < 300, "{lingered} of 10,000 waits");
    }

    #[test]
    fn uploads_and_first_requests_are_slept_through() {
        let mut attention = Attention::default();
        assert!(!attention.looks_again(Instant::now()));
        let (lingered, _) = waits(&mut attention, 1000, SOON, REQUEST_BYTES_MAX + 1);
        assert_eq!(lingered, 0);
    }
}
