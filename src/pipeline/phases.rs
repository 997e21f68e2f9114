//! Measures how long each phase of a call takes.

use std::time::{Duration, Instant};

use crate::events::Phase;

/// A stopwatch that is read at the end of each phase.
#[derive(Clone, Debug)]
pub(super) struct Phases {
    begun: Instant,
    last: Instant,
    done: Vec<(Phase, Duration)>,
}

impl Phases {
    /// Starts a stopwatch in the first phase.
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Phases { begun: now, last: now, done: Vec::new() }
    }

    /// Ends a phase, which took the time since the last phase ended. The times of a phase that ends
    /// more than once are added up.
    pub(super) fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        let passed = now - self.last;
        self.last = now;
        match self.done.iter_mut().find(|(done, _)| *done == phase) {
            Some((_, sum)) => *sum += passed,
            None => self.done.push((phase, passed)),
        }
    }

    /// The time since the stopwatch was started.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The phases in the order in which they first ended.
    pub(super) fn into_done(self) -> Vec<(Phase, Duration)> {
        self.done
    }
}
