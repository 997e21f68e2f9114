//! `SIGSYS` is the observer's while a process is dispatched: it is never blocked, since the kernel ends
//! who cannot be told, and what the program wants to do with it is remembered and obeyed for signals
//! that others send.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::{transmute, zeroed};
use core::ptr::{null, null_mut};

use crate::objects::Range;
use crate::raw::is_armed;
use crate::{find, not_there};

pub(crate) const SIGSYS: c_int = 31;

const SIG_UNBLOCK: c_int = 1;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SA_SIGINFO: c_int = 4;

/// A set of signals, as the C library has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SignalSet([u64; 16]);

impl SignalSet {
    const BIT: u64 = 1 << (SIGSYS - 1);

    fn without_ours(mut self) -> SignalSet {
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

/// What the program wants to do with `SIGSYS`.
struct Wanted(UnsafeCell<SignalAction>);

// SAFETY: two threads that set what a signal does at once would disagree without us, too.
unsafe impl Sync for Wanted {}

// SAFETY: zeros are the default action.
static WANTED: Wanted = Wanted(UnsafeCell::new(unsafe { zeroed() }));

/// Whether the functions for threads and signals are in this text, as is the case from glibc 2.34 on.
pub(crate) fn are_of(libc: &Range) -> bool {
    let create = find(&crate::PTHREAD_CREATE, c"pthread_create");
    let mask = find(&crate::PTHREAD_SIGMASK, c"pthread_sigmask");
    libc.contains(create as usize) && libc.contains(mask as usize)
}

/// Sets what a signal does, and says what it did.
///
/// # Safety
///
/// The handler has the type that the flags demand.
pub(crate) unsafe fn replace(signal: c_int, action: &SignalAction) -> Option<SignalAction> {
    let next = find(&crate::SIGACTION, c"sigaction");
    if next.is_null() {
        return None;
    }
    // SAFETY: the function behind ours has our type, and both structures are whole.
    unsafe {
        let next: Action = transmute(next);
        let mut before = zeroed();
        (next(signal, action, &raw mut before) == 0).then_some(before)
    }
}

/// Remembers what the program wants.
pub(crate) fn keep(action: &SignalAction) {
    // SAFETY: as for `Wanted`.
    unsafe { *WANTED.0.get() = *action };
}

/// Lets the signal come.
pub(crate) fn unblock() {
    let next = find(&crate::PTHREAD_SIGMASK, c"pthread_sigmask");
    if !next.is_null() {
        let mut ours = SignalSet([0; 16]);
        ours.0[0] = SignalSet::BIT;
        // SAFETY: the function behind ours has this type, and the set is whole.
        unsafe {
            let next: Mask = transmute(next);
            next(SIG_UNBLOCK, &raw const ours, null_mut());
        }
    }
}

/// A signal that somebody else sent: it does what the program wants.
///
/// # Safety
///
/// The arguments are those of a handler.
pub(crate) unsafe fn hand_on(signal: c_int, info: *mut c_void, context: *mut c_void) {
    // SAFETY: as for `Wanted`; the handler has the type that its flags demand.
    unsafe {
        let wanted = *WANTED.0.get();
        match (wanted.handler, wanted.flags & SA_SIGINFO) {
            (SIG_IGN, _) => {}
            (SIG_DFL, _) => {
                // Sent once more, it ends the process as it would have done.
                crate::raw::give_up(crate::requests::number::RT_SIGACTION);
                replace(SIGSYS, &wanted);
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

/// What the program wants to do with the signal, kept or handed on.
unsafe fn act(signal: c_int, action: *const SignalAction, before: *mut SignalAction) -> c_int {
    let next = find(&crate::SIGACTION, c"sigaction");
    if next.is_null() {
        return not_there();
    }
    // SAFETY: the function behind ours has our type; the structures are the caller's or whole.
    unsafe {
        let next: Action = transmute(next);
        if !is_armed() {
            return next(signal, action, before);
        }
        if signal == SIGSYS {
            let wanted = *WANTED.0.get();
            if !action.is_null() {
                keep(&*action);
            }
            if !before.is_null() {
                *before = wanted;
            }
            return 0;
        }
        if action.is_null() {
            return next(signal, null(), before);
        }
        let mut changed = *action;
        changed.mask = changed.mask.without_ours();
        next(signal, &raw const changed, before)
    }
}

unsafe fn change_mask(next: *mut c_void, how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    if next.is_null() {
        return not_there();
    }
    // SAFETY: as above.
    unsafe {
        let next: Mask = transmute(next);
        if set.is_null() || how == SIG_UNBLOCK || !is_armed() {
            return next(how, set, before);
        }
        let changed = (*set).without_ours();
        next(how, &raw const changed, before)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const SignalAction,
    before: *mut SignalAction,
) -> c_int {
    // SAFETY: what we got.
    unsafe { act(signal, action, before) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __sigaction(
    signal: c_int,
    action: *const SignalAction,
    before: *mut SignalAction,
) -> c_int {
    // SAFETY: what we got.
    unsafe { act(signal, action, before) }
}

macro_rules! simple {
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
                    unsafe { act(signal, &raw const action, &raw mut before) };
                    return before.handler;
                }
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe {
                    core::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes())
                };
                let next = find(&crate::$slot, name);
                if next.is_null() {
                    not_there();
                    return SIG_ERR;
                }
                // SAFETY: the function behind ours has our type.
                unsafe {
                    let next: unsafe extern "C" fn(c_int, usize) -> usize = transmute(next);
                    next(signal, handler)
                }
            }
        )*
    };
}

simple! {
    SIGNAL signal
    SYSV_SIGNAL sysv_signal
    SYSV_SIGNAL __sysv_signal
    BSD_SIGNAL bsd_signal
    SIGSET sigset
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigprocmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    // SAFETY: what we got.
    unsafe { change_mask(find(&crate::SIGPROCMASK, c"sigprocmask"), how, set, before) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_sigmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int {
    // SAFETY: what we got.
    unsafe { change_mask(find(&crate::PTHREAD_SIGMASK, c"pthread_sigmask"), how, set, before) }
}
