//! Keeps `SIGSYS` for the observer while a process is dispatched.
//!
//! The signal is never blocked, because the kernel ends a process to which it cannot deliver a dispatched call. The
//! action that the program sets for `SIGSYS` is remembered instead of installed, and applied to such signals that
//! do not come from dispatch.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::{transmute, zeroed};
use core::ptr::{null, null_mut};

use crate::dispatch::is_armed;
use crate::objects::Range;
use crate::{fail_with_enosys, next_definition};

pub(crate) const SIGSYS: c_int = 31;

const SIG_UNBLOCK: c_int = 1;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SA_SIGINFO: c_int = 4;

/// The C library's `sigset_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SignalSet([u64; 16]);

impl SignalSet {
    const BIT: u64 = 1 << (SIGSYS - 1);

    fn without_sigsys(mut self) -> SignalSet {
        self.0[0] &= !SignalSet::BIT;
        self
    }
}

/// The C library's form of `struct sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SignalAction {
    pub(crate) handler: usize,
    pub(crate) mask: SignalSet,
    pub(crate) flags: c_int,
    pub(crate) restorer: usize,
}

type Action = unsafe extern "C" fn(c_int, *const SignalAction, *mut SignalAction) -> c_int;
type Mask = unsafe extern "C" fn(c_int, *const SignalSet, *mut SignalSet) -> c_int;

/// The action that the program has set for `SIGSYS`.
struct ProgramAction(UnsafeCell<SignalAction>);

// SAFETY: a program whose threads set the action of one signal at the same time has this race without the observer,
// too.
unsafe impl Sync for ProgramAction {}

// SAFETY: zeros are the default action.
static PROGRAM_ACTION: ProgramAction = ProgramAction(UnsafeCell::new(unsafe { zeroed() }));

/// Whether the functions for threads and signals are in this code range, as they are from glibc 2.34 on.
pub(crate) fn has_thread_functions(libc: &Range) -> bool {
    let create = next_definition(&crate::PTHREAD_CREATE, c"pthread_create");
    let mask = next_definition(&crate::PTHREAD_SIGMASK, c"pthread_sigmask");
    libc.contains(create as usize) && libc.contains(mask as usize)
}

/// Sets the action of a signal, and returns the previous one. `None` if that failed.
///
/// # Safety
///
/// The handler must have the type that the flags demand.
pub(crate) unsafe fn replace(signal: c_int, action: &SignalAction) -> Option<SignalAction> {
    let next = next_definition(&crate::SIGACTION, c"sigaction");
    if next.is_null() {
        return None;
    }
    // SAFETY: the next definition has this type, and both structures are whole.
    unsafe {
        let next: Action = transmute(next);
        let mut before = zeroed();
        (next(signal, action, &raw mut before) == 0).then_some(before)
    }
}

/// Remembers the program's action for `SIGSYS`.
pub(crate) fn remember_program_action(action: &SignalAction) {
    // SAFETY: as for `ProgramAction`.
    unsafe { *PROGRAM_ACTION.0.get() = *action };
}

/// Unblocks `SIGSYS` for this thread.
pub(crate) fn unblock() {
    let next = next_definition(&crate::PTHREAD_SIGMASK, c"pthread_sigmask");
    if !next.is_null() {
        let mut set = SignalSet([0; 16]);
        set.0[0] = SignalSet::BIT;
        // SAFETY: the next definition has this type, and the set is whole.
        unsafe {
            let next: Mask = transmute(next);
            next(SIG_UNBLOCK, &raw const set, null_mut());
        }
    }
}

/// Handles a `SIGSYS` that dispatch did not raise, as the program's action demands.
///
/// # Safety
///
/// The arguments must be those that the kernel has passed to the handler.
pub(crate) unsafe fn deliver_to_program(signal: c_int, info: *mut c_void, context: *mut c_void) {
    // SAFETY: as for `ProgramAction`; the handler has the type that its flags demand.
    unsafe {
        let programs = *PROGRAM_ACTION.0.get();
        match (programs.handler, programs.flags & SA_SIGINFO) {
            (SIG_IGN, _) => {}
            (SIG_DFL, _) => {
                // With the default action installed, the same signal ends the process, as it would have without the
                // observer.
                crate::dispatch::stop_observing(crate::syscalls::number::RT_SIGACTION);
                replace(SIGSYS, &programs);
                raise(signal);
            }
            (handler, 0) => transmute::<usize, extern "C" fn(c_int)>(handler)(signal),
            (handler, _) => {
                transmute::<usize, extern "C" fn(c_int, *mut c_void, *mut c_void)>(handler)(
                    signal, info, context,
                );
            }
        }
    }
}

#[link(name = "c")]
unsafe extern "C" {
    fn raise(signal: c_int) -> c_int;
}

/// `sigaction`, which for `SIGSYS` reads and sets the remembered action.
unsafe fn set_action(signal: c_int, action: *const SignalAction, before: *mut SignalAction) -> c_int {
    let next = next_definition(&crate::SIGACTION, c"sigaction");
    if next.is_null() {
        return fail_with_enosys();
    }
    // SAFETY: the next definition has this type; the structures are the caller's or whole.
    unsafe {
        let next: Action = transmute(next);
        if !is_armed() {
            return next(signal, action, before);
        }
        if signal == SIGSYS {
            let programs = *PROGRAM_ACTION.0.get();
            if !action.is_null() {
                remember_program_action(&*action);
            }
            if !before.is_null() {
                *before = programs;
            }
            return 0;
        }
        if action.is_null() {
            return next(signal, null(), before);
        }
        let mut changed = *action;
        changed.mask = changed.mask.without_sigsys();
        next(signal, &raw const changed, before)
    }
}

/// `sigprocmask` and its kind, without `SIGSYS` in a set that would block it.
unsafe fn change_mask(next: *mut c_void, how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    if next.is_null() {
        return fail_with_enosys();
    }
    // SAFETY: as above.
    unsafe {
        let next: Mask = transmute(next);
        if set.is_null() || how == SIG_UNBLOCK || !is_armed() {
            return next(how, set, before);
        }
        let changed = (*set).without_sigsys();
        next(how, &raw const changed, before)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const SignalAction,
    before: *mut SignalAction,
) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { set_action(signal, action, before) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __sigaction(
    signal: c_int,
    action: *const SignalAction,
    before: *mut SignalAction,
) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { set_action(signal, action, before) }
}

macro_rules! signal_functions {
    ($($slot:ident $name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(signal: c_int, handler: usize) -> usize {
                const SIG_ERR: usize = usize::MAX;
                if is_armed() && signal == SIGSYS {
                    // SAFETY: zeros are the default action.
                    let (mut action, mut before): (SignalAction, SignalAction) = unsafe { zeroed() };
                    action.handler = handler;
                    // SAFETY: both are whole.
                    unsafe { set_action(signal, &raw const action, &raw mut before) };
                    return before.handler;
                }
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe {
                    core::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes())
                };
                let next = next_definition(&crate::$slot, name);
                if next.is_null() {
                    fail_with_enosys();
                    return SIG_ERR;
                }
                // SAFETY: the next definition has this type.
                unsafe {
                    let next: unsafe extern "C" fn(c_int, usize) -> usize = transmute(next);
                    next(signal, handler)
                }
            }
        )*
    };
}

signal_functions! {
    SIGNAL signal
    SYSV_SIGNAL sysv_signal
    SYSV_SIGNAL __sysv_signal
    BSD_SIGNAL bsd_signal
    SIGSET sigset
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigprocmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { change_mask(next_definition(&crate::SIGPROCMASK, c"sigprocmask"), how, set, before) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_sigmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { change_mask(next_definition(&crate::PTHREAD_SIGMASK, c"pthread_sigmask"), how, set, before) }
}
