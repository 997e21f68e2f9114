//! Files that are opened to be written: whether they were there before says what a program may have read.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;

use crate::{
    AT_FDCWD, FACCESSAT, Kind, O_ACCMODE, O_CREAT, O_TMPFILE, O_TRUNC, Out, Path, find, next_of, not_there,
    note_path,
};

const O_EXCL: c_int = 0o200;
const O_WRONLY: c_int = 1;
const F_OK: c_int = 0;

/// What a file that is about to be opened was before, as far as that tells what may be read of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It is opened to be read.
    Read,
    /// It was there, and what is in it stays.
    There,
    /// It was not there, or loses what was in it.
    Nothing,
    /// It gets no name.
    Nameless,
}

impl Before {
    pub(crate) fn open(dir: c_int, path: Path, flags: c_int) -> Before {
        if flags & O_TMPFILE == O_TMPFILE {
            return Before::Nameless;
        }
        if flags & O_ACCMODE == 0 && flags & (O_CREAT | O_TRUNC) == 0 {
            return Before::Read;
        }
        let is_new = flags & O_TRUNC != 0 || flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        if is_new || !is_there(dir, path) { Before::Nothing } else { Before::There }
    }

    /// `r` reads, `w` empties, and everything else keeps what is there.
    fn stream(path: Path, mode: Path) -> Before {
        if path.is_null() || mode.is_null() {
            return Before::Nameless;
        }
        // SAFETY: the caller passes strings that end in a zero, as the C library requires.
        let mode = unsafe { CStr::from_ptr(mode) }.to_bytes();
        let has = |letter: u8| mode.contains(&letter);
        let flags = match mode.first() {
            Some(b'r') if !has(b'+') => 0,
            Some(b'r') => O_WRONLY,
            Some(b'a') => O_WRONLY | O_CREAT,
            _ if has(b'x') => O_WRONLY | O_CREAT | O_EXCL,
            _ => O_WRONLY | O_CREAT | O_TRUNC,
        };
        Before::open(AT_FDCWD, path, flags)
    }

    /// Notes how it went.
    pub(crate) fn note(self, has_failed: bool, dir: c_int, path: Path) {
        let kind = match self {
            Before::Read => Kind::Read,
            Before::There => Kind::Updated,
            Before::Nothing => Kind::Written,
            Before::Nameless => return,
        };
        note_path(kind, has_failed, dir, path);
    }
}

/// Whether there is something at a path. Keeps `errno`.
fn is_there(dir: c_int, path: Path) -> bool {
    let Some(next) = next_of(&FACCESSAT).filter(|_| !path.is_null()) else { return false };
    // SAFETY: the function behind ours has this type, and the path is about to be opened. `errno` is a word of this
    // thread.
    unsafe {
        let errno = *crate::__errno_location();
        let next: unsafe extern "C" fn(c_int, Path, c_int, c_int) -> c_int = transmute(next);
        let answer = next(dir, path, F_OK, 0);
        *crate::__errno_location() = errno;
        answer == 0
    }
}

/// Notes whether a place is there, before somebody goes to it: afterwards a relative path counts from there, and
/// links on the way do not show any more. Keeps `errno`.
pub(crate) fn note_place(path: Path) {
    // SAFETY: `errno` is a word of this thread.
    unsafe {
        let errno = *crate::__errno_location();
        if let Some(next) = next_of(&FACCESSAT).filter(|_| !path.is_null()) {
            let next: unsafe extern "C" fn(c_int, Path, c_int, c_int) -> c_int = transmute(next);
            let answer = next(AT_FDCWD, path, F_OK, 0);
            note_path(Kind::Looked, answer < 0, AT_FDCWD, path);
        }
        *crate::__errno_location() = errno;
    }
}

macro_rules! streams {
    ($($name:ident ($path:ident, $mode:ident $(, $more:ident)?);)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($path: Path, $mode: Path $(, $more: Out)?) -> Out {
                static NEXT: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = find(&NEXT, name);
                if next.is_null() {
                    not_there();
                    return null_mut();
                }
                let before = Before::stream($path, $mode);
                // SAFETY: the function behind ours has our type, and gets what we got.
                let file = unsafe {
                    let next: unsafe extern "C" fn(Path, Path $(, streams!(@ $more))?) -> Out = transmute(next);
                    next($path, $mode $(, $more)?)
                };
                before.note(file.is_null(), AT_FDCWD, $path);
                file
            }
        )*
    };
    (@ $more:ident) => { Out };
}

streams! {
    fopen(path, mode);
    fopen64(path, mode);
    freopen(path, mode, file);
    freopen64(path, mode, file);
}

macro_rules! changed {
    ($($name:ident ($path:ident, $more:ident: $type:ty), $flags:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($path: Path, $more: $type) -> c_int {
                static NEXT: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = find(&NEXT, name);
                if next.is_null() {
                    return not_there();
                }
                let before = Before::open(AT_FDCWD, $path, $flags);
                // SAFETY: the function behind ours has our type, and gets what we got.
                let answer = unsafe {
                    let next: unsafe extern "C" fn(Path, $type) -> c_int = transmute(next);
                    next($path, $more)
                };
                before.note(answer < 0, AT_FDCWD, $path);
                answer
            }
        )*
    };
}

// A file that is cut short keeps its beginning, which the program may read.
changed! {
    creat(path, mode: c_uint), O_WRONLY | O_CREAT | O_TRUNC;
    creat64(path, mode: c_uint), O_WRONLY | O_CREAT | O_TRUNC;
    truncate(path, len: c_long), O_WRONLY;
    truncate64(path, len: c_long), O_WRONLY;
}

/// Files that get a name which nobody had before: the C library puts it into the template.
macro_rules! made {
    ($($name:ident ($template:ident $(, $more:ident)*) -> $out:ty, $failed:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($template: *mut c_char $(, $more: c_int)*) -> $out {
                static NEXT: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = find(&NEXT, name);
                if next.is_null() {
                    not_there();
                    return $failed;
                }
                // SAFETY: the function behind ours has our type, and gets what we got.
                let made = unsafe {
                    let next: unsafe extern "C" fn(*mut c_char $(, made!(@ $more))*) -> $out = transmute(next);
                    next($template $(, $more)*)
                };
                if made != $failed {
                    note_path(Kind::Written, false, AT_FDCWD, $template);
                }
                made
            }
        )*
    };
    (@ $more:ident) => { c_int };
}

made! {
    mkdtemp(template) -> *mut c_char, null_mut();
    mkostemp(template, flags) -> c_int, -1;
    mkostemp64(template, flags) -> c_int, -1;
    mkostemps(template, ending, flags) -> c_int, -1;
    mkostemps64(template, ending, flags) -> c_int, -1;
    mkstemp(template) -> c_int, -1;
    mkstemp64(template) -> c_int, -1;
    mkstemps(template, ending) -> c_int, -1;
    mkstemps64(template, ending) -> c_int, -1;
}
