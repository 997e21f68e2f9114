//! How much of a folder was last used when, and what must go to hold its limit. Pure.

use std::time::{Duration, SystemTime};

/// The length of one step of ages.
const STEP: Duration = Duration::from_secs(60);

/// The number of steps: ninety days. What is older counts as the oldest.
const STEPS: usize = 90 * 24 * 60;

/// How much younger than a blob a result may be that goes with it. A result is written just after its blobs.
const RESULTS_YOUNGER: usize = 10;

/// How far ahead of the folder's clock a date may be. Machines set dates in steps, and clocks are adjusted.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// The age of a file, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// This many steps, or more if it is the last one.
    Steps(usize),
    /// The date is ahead of the folder's clock, so it says nothing.
    Unknown,
}

impl Age {
    /// Returns the age of a file that was last used at this date.
    pub(super) fn of(used: SystemTime, now: SystemTime) -> Age {
        match now.duration_since(used) {
            Ok(age) => Age::Steps(((age.as_secs() / STEP.as_secs()) as usize).min(STEPS - 1)),
            Err(ahead) if ahead.duration() <= AHEAD_MAX => Age::Steps(0),
            Err(_) => Age::Unknown,
        }
    }

    /// Returns the step under which the file is counted. One of unknown age counts as just used.
    fn step(self) -> usize {
        match self {
            Age::Steps(step) => step,
            Age::Unknown => 0,
        }
    }
}

/// The sizes of all files, by their ages. It needs a megabyte, however many files there are.
#[derive(Debug)]
pub(super) struct Ages {
    bytes: Vec<u64>,
}

/// The files that a collection removes: the oldest ones, until enough bytes are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// The collection removes blobs of this age and older ones.
    from: usize,
    /// The collection ends when it has freed this many bytes.
    pub(super) bytes: u64,
}

impl Excess {
    /// Whether a blob of this age is removed, if enough is not free yet.
    pub(super) fn has_blob(&self, age: Age) -> bool {
        age.step() >= self.from
    }

    /// Whether a result of this age is removed, because its blobs may be.
    pub(super) fn has_result(&self, age: Age) -> bool {
        age.step() + RESULTS_YOUNGER >= self.from
    }
}

impl Default for Ages {
    fn default() -> Self {
        Ages { bytes: vec![0; STEPS] }
    }
}

impl Ages {
    /// Adds the size of a file to those of its age.
    pub(super) fn add(&mut self, age: Age, size_bytes: u64) {
        if let Some(bytes) = self.bytes.get_mut(age.step()) {
            *bytes += size_bytes;
        }
    }

    /// Returns what must go so that no more than this remains; `None` if nothing must.
    pub(super) fn excess(&self, size_bytes_max: u64) -> Option<Excess> {
        let all: u64 = self.bytes.iter().sum();
        let bytes = all.checked_sub(size_bytes_max).filter(|bytes| *bytes > 0)?;
        let mut older = 0;
        let oldest_first = self.bytes.iter().enumerate().rev();
        let mut with_older = oldest_first.map(|(step, bytes)| {
            older += bytes;
            (step, older)
        });
        let (from, _) = with_older.find(|(_, older)| *older >= bytes)?;
        Some(Excess { from, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = STEP;

    #[test]
    fn the_oldest_go_and_no_more_than_needed() {
        let mut ages = Ages::default();
        for (minutes, bytes) in [(0, 100), (60, 50), (6_000, 30), (900_000, 20)] {
            let now = SystemTime::now();
            ages.add(Age::of(now - minutes * MINUTE, now), bytes);
        }
        assert_eq!(ages.excess(200), None);
        assert_eq!(ages.excess(199), Some(Excess { from: STEPS - 1, bytes: 1 }));
        assert_eq!(ages.excess(170), Some(Excess { from: 6_000, bytes: 30 }));
        assert_eq!(ages.excess(0), Some(Excess { from: 0, bytes: 200 }));
        let excess = Excess { from: 60, bytes: 1 };
        assert!(excess.has_blob(Age::Steps(60)) && !excess.has_blob(Age::Steps(59)));
        assert!(excess.has_result(Age::Steps(50)) && !excess.has_result(Age::Steps(49)));
    }

    #[test]
    fn a_date_far_ahead_says_nothing() {
        let now = SystemTime::now();
        assert_eq!(Age::of(now + MINUTE, now), Age::Steps(0));
        assert_eq!(Age::of(now + 2 * AHEAD_MAX, now), Age::Unknown);
        assert_eq!(Age::of(SystemTime::UNIX_EPOCH, now), Age::Steps(STEPS - 1));
    }
}
