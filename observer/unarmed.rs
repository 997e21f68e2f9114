//! Where the kernel does not turn system calls into signals for a processor, nothing is dispatched.

use core::ffi::c_long;

use crate::note_unseen;

/// Arms nothing: this processor has no way to observe raw system calls.
pub(crate) fn arm() -> bool {
    false
}

pub(crate) fn arm_thread() {}

pub(crate) fn follow_forks() {}

/// Says that something escapes the observer.
pub(crate) fn give_up(asked: c_long) {
    note_unseen(asked);
}
