//! Replaces `dispatch.rs` on processors for which the kernel has no Syscall User Dispatch: raw system calls are not
//! observed there.

use core::ffi::c_long;

use crate::note_unobservable_syscall;

/// Returns that raw system calls are not observed.
pub(crate) fn arm() -> bool {
    false
}

pub(crate) fn arm_thread() {}

pub(crate) fn follow_forks() {}

/// Notes that the program cannot be observed after this system call.
pub(crate) fn stop_observing(sysno: c_long) {
    note_unobservable_syscall(sysno);
}
