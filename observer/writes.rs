//! Functions that open files for writing. Whether a file existed before decides whether the program may have read old
//! content.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;

use crate::{
    AT_FDCWD, FACCESSAT, Kind, O_ACCMODE, O_CREAT, O_TMPFILE, O_TRUNC, Out, Path, fail_with_enosys,
    next_definition, note_path, resolved,
};

const O_EXCL: c_int = 0o200;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: c_int = 0o400000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: c_int = 0o100000;
const O_WRONLY: c_int = 1;
const F_OK: c_int = 0;

/// The effect of opening a file, as far as it decides what the program may learn.
#[derive(Clone, Copy)]
pub(crate) struct OpenEffect {
    /// The access to the content; `None` if the file gets no name, or nothing is opened.
    content: Option<Kind>,
    /// Whether the call treats a symbolic link at this path in another way than its target.
    tells_links: bool,
}

impl OpenEffect {
    pub(crate) const NONE: OpenEffect = OpenEffect { content: None, tells_links: false };

    /// The effect of `open` with these flags. Must be called before `open`, because it looks whether the file exists.
    pub(crate) fn open(dir: c_int, path: Path, flags: c_int) -> OpenEffect {
        if flags & O_TMPFILE == O_TMPFILE {
            return OpenEffect::NONE;
        }
        let is_new = flags & O_TRUNC != 0 || flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        let content = if flags & O_ACCMODE == 0 && flags & (O_CREAT | O_TRUNC) == 0 {
            Kind::Read
        } else if is_new || !exists(dir, path) {
            Kind::Written
        } else {
            Kind::Updated
        };
        OpenEffect { content: Some(content), tells_links: flags & O_NOFOLLOW != 0 }
    }

    /// The effect of `fopen` with this mode.
    fn stream(path: Path, mode: Path) -> OpenEffect {
        if path.is_null() || mode.is_null() {
            return OpenEffect::NONE;
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
        OpenEffect::open(AT_FDCWD, path, flags)
    }

    /// Notes the path with the outcome of the call.
    pub(crate) fn note(self, has_failed: bool, dir: c_int, path: Path) {
        let Some(content) = self.content else { return };
        if self.tells_links {
            note_path(Kind::Unfollowed, has_failed, dir, path);
        }
        note_path(content, has_failed, dir, path);
    }
}

/// Whether a path exists. Keeps `errno`.
fn exists(dir: c_int, path: Path) -> bool {
    let Some(next) = resolved(&FACCESSAT).filter(|_| !path.is_null()) else { return false };
    // SAFETY: the next definition has this type, and the path is about to be opened. `errno` is a word of this
    // thread.
    unsafe {
        let errno = *crate::__errno_location();
        let next: unsafe extern "C" fn(c_int, Path, c_int, c_int) -> c_int = transmute(next);
        let answer = next(dir, path, F_OK, 0);
        *crate::__errno_location() = errno;
        answer == 0
    }
}

/// Notes whether a directory exists, before the program makes it the current one: afterwards the program's relative
/// path would be resolved from there. Keeps `errno`.
pub(crate) fn note_entered_directory(path: Path) {
    // SAFETY: `errno` is a word of this thread.
    unsafe {
        let errno = *crate::__errno_location();
        if let Some(next) = resolved(&FACCESSAT).filter(|_| !path.is_null()) {
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
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = next_definition(&NEXT, name);
                if next.is_null() {
                    fail_with_enosys();
                    return null_mut();
                }
                let effect = OpenEffect::stream($path, $mode);
                // SAFETY: the next definition has this type and gets the arguments of this call.
                let file = unsafe {
                    let next: unsafe extern "C" fn(Path, Path $(, streams!(@ $more))?) -> Out = transmute(next);
                    next($path, $mode $(, $more)?)
                };
                effect.note(file.is_null(), AT_FDCWD, $path);
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

macro_rules! path_writers {
    ($($name:ident ($path:ident, $more:ident: $type:ty), $flags:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($path: Path, $more: $type) -> c_int {
                static NEXT: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = next_definition(&NEXT, name);
                if next.is_null() {
                    return fail_with_enosys();
                }
                let effect = OpenEffect::open(AT_FDCWD, $path, $flags);
                // SAFETY: the next definition has this type and gets the arguments of this call.
                let answer = unsafe {
                    let next: unsafe extern "C" fn(Path, $type) -> c_int = transmute(next);
                    next($path, $more)
                };
                effect.note(answer < 0, AT_FDCWD, $path);
                answer
            }
        )*
    };
}

// A truncated file keeps its beginning, which the program may read.
path_writers! {
    creat(path, mode: c_uint), O_WRONLY | O_CREAT | O_TRUNC;
    creat64(path, mode: c_uint), O_WRONLY | O_CREAT | O_TRUNC;
    truncate(path, len: c_long), O_WRONLY;
    truncate64(path, len: c_long), O_WRONLY;
}

/// Functions that create a file under a new name, which the C library writes into the template.
macro_rules! temporary {
    ($($name:ident ($template:ident $(, $more:ident)*) -> $out:ty, $failed:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($template: *mut c_char $(, $more: c_int)*) -> $out {
                static NEXT: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = next_definition(&NEXT, name);
                if next.is_null() {
                    fail_with_enosys();
                    return $failed;
                }
                // SAFETY: the next definition has this type and gets the arguments of this call.
                let result = unsafe {
                    let next: unsafe extern "C" fn(*mut c_char $(, temporary!(@ $more))*) -> $out = transmute(next);
                    next($template $(, $more)*)
                };
                if result != $failed {
                    note_path(Kind::Written, false, AT_FDCWD, $template);
                }
                result
            }
        )*
    };
    (@ $more:ident) => { c_int };
}

temporary! {
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
