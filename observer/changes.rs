//! Functions that remove, move or link files, change the current directory, or read files inside the C library.
//! Their success shows that a path existed.
//!
//! If a compile removes a file that it did not create, kache cannot examine that file afterwards, and so does not
//! store the result.

use core::ffi::{CStr, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;

use crate::writes::{OpenEffect, note_entered_directory};
use crate::{AT_FDCWD, Kind, Out, Path, THERE, fail_with_enosys, next_definition, note, note_path};

/// Defines functions that call the next definition and then evaluate an expression, which has the arguments and the
/// result. The second value is the result if the C library lacks the function.
macro_rules! interpose_then {
    ($($name:ident ($($arg:ident: $type:ty),*) -> $out:ty, $failed:expr, |$answer:ident| $note:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $out {
                static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = next_definition(&NEXT, name);
                if next.is_null() {
                    fail_with_enosys();
                    return $failed;
                }
                // SAFETY: the next definition has this type and gets the arguments of this call.
                let $answer = unsafe {
                    let next: unsafe extern "C" fn($($type),*) -> $out = transmute(next);
                    next($($arg),*)
                };
                $note;
                $answer
            }
        )*
    };
}

interpose_then! {
    link(from: Path, to: Path) -> c_int, -1, |answer| note_moved(answer, AT_FDCWD, from, AT_FDCWD, to);
    linkat(old: c_int, from: Path, dir: c_int, to: Path, flags: c_int) -> c_int, -1,
        |answer| note_moved(answer, old, crate::unless_empty(from), dir, to);
    remove(path: Path) -> c_int, -1, |answer| note_removed(answer, AT_FDCWD, path);
    rename(from: Path, to: Path) -> c_int, -1, |answer| note_moved(answer, AT_FDCWD, from, AT_FDCWD, to);
    renameat(old: c_int, from: Path, dir: c_int, to: Path) -> c_int, -1, |answer| note_moved(answer, old, from, dir, to);
    renameat2(old: c_int, from: Path, dir: c_int, to: Path, flags: c_uint) -> c_int, -1,
        |answer| note_moved(answer, old, from, dir, to);
    rmdir(path: Path) -> c_int, -1, |answer| note_removed(answer, AT_FDCWD, path);
    statfs(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statfs64(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statvfs(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statvfs64(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    unlink(path: Path) -> c_int, -1, |answer| note_removed(answer, AT_FDCWD, path);
    unlinkat(dir: c_int, path: Path, flags: c_int) -> c_int, -1, |answer| note_removed(answer, dir, path);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn chdir(path: Path) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let next = next_definition(&NEXT, c"chdir");
    if next.is_null() {
        return fail_with_enosys();
    }
    note_entered_directory(path);
    // SAFETY: the next definition has this type and gets the arguments of this call.
    unsafe {
        let next: unsafe extern "C" fn(Path) -> c_int = transmute(next);
        next(path)
    }
}

/// Notes a removal. A failed one is not noted: it tells the program nothing about the path.
pub(crate) fn note_removed(answer: c_int, dir: c_int, path: Path) {
    if answer == 0 {
        note_path(Kind::Looked, false, dir, path);
    }
}

/// Notes a rename or link: the first path existed, and the second one is new.
pub(crate) fn note_moved(answer: c_int, old: c_int, from: Path, dir: c_int, to: Path) {
    note_removed(answer, old, from);
    note_path(Kind::Written, answer < 0, dir, to);
}

// A file that `posix_spawn` opens, or a directory that it enters, for the program that it starts. 38 is `ENOSYS`.
interpose_then! {
    posix_spawn_file_actions_addchdir(actions: Out, path: Path) -> c_int, 38, |answer| note_entered_directory(path);
    posix_spawn_file_actions_addchdir_np(actions: Out, path: Path) -> c_int, 38, |answer| note_entered_directory(path);
    posix_spawn_file_actions_addopen(actions: Out, fd: c_int, path: Path, flags: c_int, mode: c_uint) -> c_int, 38,
        |answer| OpenEffect::open(AT_FDCWD, path, flags).note(false, AT_FDCWD, path);
}

// Files that the C library reads by itself.
const USERS: &[u8] = b"/etc/passwd";
const GROUPS: &[u8] = b"/etc/group";
const TIME_ZONE: &[u8] = b"/etc/localtime";

fn note_file_read(file: &[u8]) {
    note(Kind::Read, THERE, &[file], &[]);
}

interpose_then! {
    getgrgid(id: c_uint) -> Out, null_mut(), |answer| note_file_read(GROUPS);
    getgrgid_r(id: c_uint, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| note_file_read(GROUPS);
    getgrnam(name: Path) -> Out, null_mut(), |answer| note_file_read(GROUPS);
    getgrnam_r(name: Path, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| note_file_read(GROUPS);
    getpwent() -> Out, null_mut(), |answer| note_file_read(USERS);
    getpwnam(name: Path) -> Out, null_mut(), |answer| note_file_read(USERS);
    getpwnam_r(name: Path, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| note_file_read(USERS);
    getpwuid(id: c_uint) -> Out, null_mut(), |answer| note_file_read(USERS);
    getpwuid_r(id: c_uint, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| note_file_read(USERS);
    localtime(at: *const c_long) -> Out, null_mut(), |answer| note_file_read(TIME_ZONE);
    localtime_r(at: *const c_long, out: Out) -> Out, null_mut(), |answer| note_file_read(TIME_ZONE);
    mktime(at: Out) -> c_long, -1, |answer| note_file_read(TIME_ZONE);
}
