//! How long a response may still be waited for.
//!
//! A response without a lowest speed may stand still for the stall limit again after every byte. One with a
//! lowest speed uses the limit up: each wait takes from it, and each byte gives back the time that it takes at
//! that speed. So a server that sends a byte now and then ends a request as soon as one that sends none.

use std::time::Duration;

use crate::options::RemoteLimits;

/// The time for which a response may still be waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    stall: Duration,
    /// The lowest speed; 0 if there is none.
    bytes_per_second: u64,
    left: Duration,
}

impl Pace {
    /// Creates the pace of a response with these limits.
    pub(crate) fn of(limits: &RemoteLimits) -> Pace {
        Pace::new(limits.stall, limits.bytes_per_second_min)
    }

    fn new(stall: Duration, bytes_per_second: u64) -> Pace {
        Pace { stall, bytes_per_second, left: stall }
    }

    /// Returns how long the next piece may be waited for.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// Says why a response that used up its time was not waited for any longer.
    pub(crate) fn failure(&self) -> String {
        if self.left == self.stall {
            return format!("no byte was sent or received for {:?}", self.stall);
        }
        format!("the response brought less than {} bytes a second", self.bytes_per_second)
    }

    /// Notes that a piece of so many bytes has arrived after this wait.
    pub(crate) fn note(&mut self, waited: Duration, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_second);
        let earned = micros.map_or(self.stall, Duration::from_micros);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.stall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(2);

    #[test]
    fn net_01_a_byte_now_and_then_does_not_renew_the_patience() {
        let mut pace = Pace::new(STALL, 1000);
        let interval = Duration::from_millis(900);
        let mut pieces = 0;
        while interval < pace.left() {
            pace.note(interval, 1);
            pieces += 1;
        }
        assert_eq!(pieces, 2);
        let mut without = Pace::new(STALL, 0);
        without.note(Duration::from_millis(1900), 1);
        assert_eq!(without.left(), STALL);
    }

    #[test]
    fn a_response_at_the_lowest_speed_never_ends_early() {
        let mut pace = Pace::new(STALL, 1000);
        for _ in 0..1000 {
            pace.note(Duration::from_millis(500), 500);
            assert_eq!(pace.left(), STALL);
        }
        // A fast beginning is no reason to wait longer later.
        pace.note(Duration::ZERO, 1 << 30);
        assert_eq!(pace.left(), STALL);
    }
}
