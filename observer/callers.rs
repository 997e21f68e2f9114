//! Requests of which it matters who makes them: a compiler asks for variables and for the current
//! directory in every compile, and a proc macro in it may ask for the same.
//!
//! A proc macro is loaded after the compiler has begun, with a standard library of its own, so that its
//! requests come from text that was not there before.

use core::ffi::{CStr, c_char, c_long};
use core::mem::transmute;
use core::ptr::null_mut;

use crate::objects::is_late;
use crate::requests::{before, is_beyond_sight, note_request, number};
use crate::{ABSENT, AT_FDCWD, Head, Kind, THERE, find, variable, write_note};

/// A function that is told who called it, as one argument more.
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
    // The library is not loaded into a program that runs with another user's rights, which is when the C
    // library would say nothing.
    secure_getenv "rsi" "x1" get_variable;
    getcwd "rdx" "x2" get_directory;
    get_current_dir_name "rdi" "x0" get_directory_name;
    realpath "rdx" "x2" get_real_path;
}

unsafe extern "C" fn get_variable(name: *const c_char, caller: usize) -> *mut c_char {
    // SAFETY: whoever asks passes a string that ends in a zero, as the C library requires.
    let name = unsafe { CStr::from_ptr(name) };
    let value = variable(name);
    let outcome = if value.is_some() { THERE } else { ABSENT };
    let head = Head { kind: Kind::Variable, outcome, process: 0, mark: is_late(caller) };
    write_note(&head, &[name.to_bytes()], value.map_or(&[], CStr::to_bytes));
    value.map_or(null_mut(), |value| value.as_ptr().cast_mut())
}

unsafe extern "C" fn get_directory(out: *mut c_char, len: usize, caller: usize) -> *mut c_char {
    let next = find(&crate::GETCWD, c"getcwd");
    if next.is_null() {
        crate::not_there();
        return null_mut();
    }
    // SAFETY: the function behind ours has this type.
    let place = unsafe {
        let next: unsafe extern "C" fn(*mut c_char, usize) -> *mut c_char = transmute(next);
        next(out, len)
    };
    note_directory(place, caller);
    place
}

unsafe extern "C" fn get_directory_name(caller: usize) -> *mut c_char {
    let next = find(&crate::GET_CURRENT_DIR_NAME, c"get_current_dir_name");
    if next.is_null() {
        crate::not_there();
        return null_mut();
    }
    // SAFETY: the function behind ours has this type.
    let place = unsafe {
        let next: unsafe extern "C" fn() -> *mut c_char = transmute(next);
        next()
    };
    note_directory(place, caller);
    place
}

unsafe extern "C" fn get_real_path(path: *const c_char, out: *mut c_char, caller: usize) -> *mut c_char {
    let next = find(&crate::REALPATH, c"realpath");
    if next.is_null() {
        crate::not_there();
        return null_mut();
    }
    // SAFETY: the function behind ours has this type.
    let place = unsafe {
        let next: unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut c_char = transmute(next);
        next(path, out)
    };
    crate::note_path(Kind::Looked, place.is_null(), AT_FDCWD, path);
    // SAFETY: null, or a string that the C library has just read.
    if !place.is_null() && unsafe { *path } != b'/' as c_char {
        // It says where the current directory is, as well.
        crate::directory_of(AT_FDCWD, |dir| {
            let head = Head { kind: Kind::Directory, outcome: THERE, process: 0, mark: is_late(caller) };
            write_note(&head, &[dir], &[]);
        });
    }
    place
}

pub(crate) fn note_directory(place: *const c_char, caller: usize) {
    if !place.is_null() {
        let head = Head { kind: Kind::Directory, outcome: THERE, process: 0, mark: is_late(caller) };
        // SAFETY: the C library's answer ends in a zero.
        write_note(&head, &[unsafe { CStr::from_ptr(place) }.to_bytes()], &[]);
    }
}

/// The C library's way to the kernel. Its own calls do not pass here.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    asked: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let args = [a, b, c, d, e, f];
    if is_beyond_sight(asked, &args) {
        crate::raw::give_up(asked);
    }
    let before = before(asked, &args);
    let exec = crate::exec::begin_request(asked, &args);
    let [a, b, c, d, e, f] = exec.as_ref().map_or(args, |exec| exec.args(args));
    // SAFETY: what the program asks for.
    let answer = unsafe { crate::kernel::kernel!(asked, a, b, c, d, e, f) };
    match exec {
        Some(exec) => exec.end(),
        None if answer == 0 && matches!(asked, number::FORK | number::CLONE) => crate::raw::arm_thread(),
        None => note_request(asked, &args, before, answer, 0),
    }
    answer
}
