//! Where a call's time goes.

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
    /// Begins now.
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Phases { begun: now, last: now, done: Vec::new() }
    }

    /// What passed since the last phase's end was this one. A phase that comes again adds up.
    pub(super) fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        let passed = now - self.last;
        self.last = now;
        match self.done.iter_mut().find(|(done, _)| *done == phase) {
            Some((_, sum)) => *sum += passed,
            None => self.done.push((phase, passed)),
        }
    }

    /// How long it is since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// All phases, in order.
    pub(super) fn into_done(self) -> Vec<(Phase, Duration)> {
        self.done
    }
}
