//! A gate at which tests hold up threads, and with them stores.

use kache_cas::clock::Clock;
use parking_lot::{Condvar, Mutex};

/// Holds up the threads that pass it while it is closed.
#[derive(Default)]
pub(super) struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Closes or opens the gate.
    pub(super) fn set(&self, is_closed: bool) {
        *self.is_closed.lock() = is_closed;
        self.opened.notify_all();
    }

    /// Waits until the gate is open.
    pub(super) fn pass(&self) {
        self.opened.wait_while(&mut self.is_closed.lock(), |is_closed| *is_closed);
    }
}

/// A store asks its clock in every request, so it hangs while the gate is closed.
impl Clock for Gate {
    fn now_ms(&self) -> u64 {
        self.pass();
        1_790_000_000_000
    }
}
