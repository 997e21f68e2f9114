//! The observer's own system calls, which are not noted.

use core::ffi::{c_int, c_long, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::__errno_location;

/// The C library's `syscall`, once it is resolved. A dispatched thread must use it: a system call instruction in this
/// library would raise `SIGSYS`, whose handler is this library's.
static THROUGH_LIBC: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// A failed system call returns a negated error number up to this one.
const ERRNO_MAX: isize = 4095;

/// Makes all later system calls through this function, which is the C library's `syscall`.
pub(crate) fn call_through_libc(function: *mut c_void) {
    THROUGH_LIBC.store(function, Ordering::Release);
}

/// Makes a system call with up to six arguments. Returns the kernel's result, or -1 and sets `errno`.
macro_rules! kernel {
    ($number:expr $(, $arg:expr)*) => {
        $crate::kernel::ask($number, [$($arg as usize),*])
    };
}
pub(crate) use kernel;

/// Makes a system call, for [`kernel!`].
///
/// # Safety
///
/// The arguments must be valid for this system call.
pub(crate) unsafe fn ask<const COUNT: usize>(number: c_long, args: [usize; COUNT]) -> c_long {
    let mut all = [0; 6];
    all[..COUNT].copy_from_slice(&args);
    let function = THROUGH_LIBC.load(Ordering::Acquire);
    let [a, b, c, d, e, f] = all;
    if !function.is_null() {
        // SAFETY: it is the C library's `syscall`, which takes what the kernel takes.
        return unsafe {
            let function: unsafe extern "C" fn(c_long, ...) -> c_long = transmute(function);
            function(number, a, b, c, d, e, f)
        };
    }
    // SAFETY: the caller guarantees valid arguments.
    let answer = unsafe { enter(number, all) };
    if (-ERRNO_MAX..0).contains(&answer) {
        // SAFETY: `errno` is a word of this thread.
        unsafe { *__errno_location() = -answer as c_int };
        return -1;
    }
    answer as c_long
}

/// Executes the system call instruction and returns the kernel's result as it is, for calls before the C library's
/// `syscall` is resolved.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn enter(number: c_long, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let answer;
    // SAFETY: the kernel changes these registers alone.
    unsafe {
        core::arch::asm!(
            "syscall", inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    answer
}

/// Executes the system call instruction and returns the kernel's result as it is, for calls before the C library's
/// `syscall` is resolved.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn enter(number: c_long, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let answer;
    // SAFETY: the kernel changes this register alone.
    unsafe {
        core::arch::asm!(
            "svc #0", in("x8") number as isize, inlateout("x0") a as isize => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack),
        );
    }
    answer
}
