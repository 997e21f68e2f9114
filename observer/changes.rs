//! Functions that remove, move or link files or change the directory: they show that a place was there.
//!
//! What a compile removes that it did not make was there before and is gone afterwards, so that nobody can look
//! at it again: such a compile is not stored.

use core::ffi::{CStr, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;

use crate::writes::{Before, note_place};
use crate::{AT_FDCWD, Kind, Out, Path, THERE, find, not_there, note, note_path};

/// Functions that are handed on, with what is noted afterwards.
macro_rules! followed {
    ($($name:ident ($($arg:ident: $type:ty),*) -> $out:ty, $failed:expr, |$answer:ident| $note:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $out {
                static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = find(&NEXT, name);
                if next.is_null() {
                    not_there();
                    return $failed;
                }
                // SAFETY: the function behind ours has our type, and gets what we got.
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

followed! {
    link(from: Path, to: Path) -> c_int, -1, |answer| moved(answer, AT_FDCWD, from, AT_FDCWD, to);
    linkat(old: c_int, from: Path, dir: c_int, to: Path, flags: c_int) -> c_int, -1,
        |answer| moved(answer, old, crate::named(from), dir, to);
    remove(path: Path) -> c_int, -1, |answer| gone(answer, AT_FDCWD, path);
    rename(from: Path, to: Path) -> c_int, -1, |answer| moved(answer, AT_FDCWD, from, AT_FDCWD, to);
    renameat(old: c_int, from: Path, dir: c_int, to: Path) -> c_int, -1, |answer| moved(answer, old, from, dir, to);
    renameat2(old: c_int, from: Path, dir: c_int, to: Path, flags: c_uint) -> c_int, -1,
        |answer| moved(answer, old, from, dir, to);
    rmdir(path: Path) -> c_int, -1, |answer| gone(answer, AT_FDCWD, path);
    statfs(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statfs64(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statvfs(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    statvfs64(path: Path, out: Out) -> c_int, -1, |answer| note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
    unlink(path: Path) -> c_int, -1, |answer| gone(answer, AT_FDCWD, path);
    unlinkat(dir: c_int, path: Path, flags: c_int) -> c_int, -1, |answer| gone(answer, dir, path);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn chdir(path: Path) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let next = find(&NEXT, c"chdir");
    if next.is_null() {
        return not_there();
    }
    note_place(path);
    // SAFETY: the function behind ours has our type, and gets what we got.
    unsafe {
        let next: unsafe extern "C" fn(Path) -> c_int = transmute(next);
        next(path)
    }
}

/// Nothing is learnt where nothing was there.
pub(crate) fn gone(answer: c_int, dir: c_int, path: Path) {
    if answer == 0 {
        note_path(Kind::Looked, false, dir, path);
    }
}

/// What has another name now is what was under the first one.
pub(crate) fn moved(answer: c_int, old: c_int, from: Path, dir: c_int, to: Path) {
    gone(answer, old, from);
    note_path(Kind::Written, answer < 0, dir, to);
}

// A file that the C library opens, or a directory that it goes to, for a program which is started.
followed! {
    posix_spawn_file_actions_addchdir(actions: Out, path: Path) -> c_int, 38, |answer| note_place(path);
    posix_spawn_file_actions_addchdir_np(actions: Out, path: Path) -> c_int, 38, |answer| note_place(path);
    posix_spawn_file_actions_addopen(actions: Out, fd: c_int, path: Path, flags: c_int, mode: c_uint) -> c_int, 38,
        |answer| Before::open(AT_FDCWD, path, flags).note(false, AT_FDCWD, path);
}

/// Files that the C library reads by itself.
const USERS: &[u8] = b"/etc/passwd";
const GROUPS: &[u8] = b"/etc/group";
const TIME_ZONE: &[u8] = b"/etc/localtime";

fn reads(file: &[u8]) {
    note(Kind::Read, THERE, &[file], &[]);
}

followed! {
    getgrgid(id: c_uint) -> Out, null_mut(), |answer| reads(GROUPS);
    getgrgid_r(id: c_uint, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| reads(GROUPS);
    getgrnam(name: Path) -> Out, null_mut(), |answer| reads(GROUPS);
    getgrnam_r(name: Path, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| reads(GROUPS);
    getpwent() -> Out, null_mut(), |answer| reads(USERS);
    getpwnam(name: Path) -> Out, null_mut(), |answer| reads(USERS);
    getpwnam_r(name: Path, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| reads(USERS);
    getpwuid(id: c_uint) -> Out, null_mut(), |answer| reads(USERS);
    getpwuid_r(id: c_uint, a: Out, b: Out, c: usize, d: Out) -> c_int, 38, |answer| reads(USERS);
    localtime(at: *const c_long) -> Out, null_mut(), |answer| reads(TIME_ZONE);
    localtime_r(at: *const c_long, out: Out) -> Out, null_mut(), |answer| reads(TIME_ZONE);
    mktime(at: Out) -> c_long, -1, |answer| reads(TIME_ZONE);
}
