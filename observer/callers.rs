//! Functions whose notes tell who called them: the compiler reads variables and the current directory in every
//! compile, and a proc macro that is loaded into it may read the same.
//!
//! A proc macro contains its own copy of the standard library and is loaded after the compiler has started. Its calls
//! therefore return to an address in an object that was not loaded at the start ([`is_loaded_late`]).

use core::ffi::{CStr, c_char, c_long};
use core::mem::transmute;
use core::ptr::null_mut;

use crate::objects::is_loaded_late;
use crate::syscalls::{escapes_observation, note_syscall, number, open_effect};
use crate::{ABSENT, AT_FDCWD, Head, Kind, THERE, next_definition, variable, write_note};

/// Defines functions that jump to a Rust function with the return address as an additional argument. `$x86` and
/// `$arm` are the registers of that argument: the one behind those that the C function has.
macro_rules! with_caller {
    ($($name:ident $x86:literal $arm:literal $function:ident;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                core::arch::naked_asm!(concat!("mov ", $x86, ", [rsp]"), "jmp {}", sym $function)
            }
            #[cfg(target_arch = "aarch64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                core::arch::naked_asm!(concat!("mov ", $arm, ", x30"), "b {}", sym $function)
            }
        )*
    };
}

with_caller! {
    getenv "rsi" "x1" get_variable;
    // `secure_getenv` hides variables only in set-user-ID programs, into which the observer is never loaded.
    secure_getenv "rsi" "x1" get_variable;
    getcwd "rdx" "x2" get_directory;
    get_current_dir_name "rdi" "x0" get_directory_name;
    realpath "rdx" "x2" get_real_path;
}

unsafe extern "C" fn get_variable(name: *const c_char, caller: usize) -> *mut c_char {
    // SAFETY: the program passes a string that ends in a zero, as the C library requires.
    let name = unsafe { CStr::from_ptr(name) };
    let value = variable(name);
    let outcome = if value.is_some() { THERE } else { ABSENT };
    let head = Head { kind: Kind::Variable, outcome, process: 0, mark: is_loaded_late(caller) };
    write_note(&head, &[name.to_bytes()], value.map_or(&[], CStr::to_bytes));
    value.map_or(null_mut(), |value| value.as_ptr().cast_mut())
}

unsafe extern "C" fn get_directory(out: *mut c_char, len: usize, caller: usize) -> *mut c_char {
    let next = next_definition(&crate::GETCWD, c"getcwd");
    if next.is_null() {
        crate::fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type.
    let path = unsafe {
        let next: unsafe extern "C" fn(*mut c_char, usize) -> *mut c_char = transmute(next);
        next(out, len)
    };
    note_directory(path, caller);
    path
}

unsafe extern "C" fn get_directory_name(caller: usize) -> *mut c_char {
    let next = next_definition(&crate::GET_CURRENT_DIR_NAME, c"get_current_dir_name");
    if next.is_null() {
        crate::fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type.
    let path = unsafe {
        let next: unsafe extern "C" fn() -> *mut c_char = transmute(next);
        next()
    };
    note_directory(path, caller);
    path
}

unsafe extern "C" fn get_real_path(path: *const c_char, out: *mut c_char, caller: usize) -> *mut c_char {
    let next = next_definition(&crate::REALPATH, c"realpath");
    if next.is_null() {
        crate::fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type.
    let real = unsafe {
        let next: unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut c_char = transmute(next);
        next(path, out)
    };
    crate::note_resolved(real.is_null(), path, is_loaded_late(caller));
    // SAFETY: null, or a string that the C library has just read.
    if !real.is_null() && unsafe { *path } != b'/' as c_char {
        // The result contains the current directory.
        crate::directory_of(AT_FDCWD, |dir| {
            let head =
                Head { kind: Kind::Directory, outcome: THERE, process: 0, mark: is_loaded_late(caller) };
            write_note(&head, &[dir], &[]);
        });
    }
    real
}

/// Notes the current directory that a call returned; null is a failed call.
pub(crate) fn note_directory(path: *const c_char, caller: usize) {
    if !path.is_null() {
        let head = Head { kind: Kind::Directory, outcome: THERE, process: 0, mark: is_loaded_late(caller) };
        // SAFETY: the C library's result ends in a zero.
        write_note(&head, &[unsafe { CStr::from_ptr(path) }.to_bytes()], &[]);
    }
}

/// System calls that the program makes through the C library's `syscall`. The C library itself does not use it.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    sysno: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let args = [a, b, c, d, e, f];
    if escapes_observation(sysno, &args) {
        crate::dispatch::stop_observing(sysno);
    }
    let effect = open_effect(sysno, &args);
    let exec = crate::exec::begin_syscall(sysno, &args);
    let [a, b, c, d, e, f] = exec.as_ref().map_or(args, |exec| exec.args(args));
    // SAFETY: the arguments are the program's.
    let answer = unsafe { crate::kernel::kernel!(sysno, a, b, c, d, e, f) };
    match exec {
        Some(exec) => exec.end(),
        None if answer == 0 && matches!(sysno, number::FORK | number::CLONE) => crate::dispatch::arm_thread(),
        None => note_syscall(sysno, &args, effect, answer, 0),
    }
    answer
}
