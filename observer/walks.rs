//! Functions that list an open directory, and functions of the C library that walk through whole trees.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::ptr::{null, null_mut};
use core::sync::atomic::AtomicPtr;

use crate::{
    AT_FDCWD, Kind, Out, Path, THERE, directory_of, fail_with_enosys, next_definition, note, note_path,
    record,
};

/// The next definition of an interposed function.
macro_rules! next {
    ($name:ident) => {{
        static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        // SAFETY: the only zero in the name is its last byte.
        next_definition(&NEXT, unsafe {
            CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes())
        })
    }};
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdopendir(fd: c_int) -> Out {
    let next = next!(fdopendir);
    if next.is_null() {
        fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type and gets the arguments of this call.
    let dir = unsafe {
        let next: unsafe extern "C" fn(c_int) -> Out = transmute(next);
        next(fd)
    };
    if !dir.is_null() && record().is_some() {
        // SAFETY: `errno` is a word of this thread.
        unsafe {
            let errno = *crate::__errno_location();
            note_listing(fd);
            *crate::__errno_location() = errno;
        }
    }
    dir
}

fn note_listing(fd: c_int) {
    directory_of(fd, |dir| note(Kind::Listed, THERE, &[dir], &[]));
}

/// Functions that open many files and directories inside the C library, where no function is interposed. The note
/// says that the program has read files which are not known.
macro_rules! unobservable {
    ($($name:ident ($($arg:ident: $type:ty),*) -> $out:ty, $failed:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $out {
                let next = next!($name);
                if next.is_null() {
                    fail_with_enosys();
                    return $failed;
                }
                note(Kind::Hidden, THERE, &[stringify!($name).as_bytes()], &[]);
                // SAFETY: the next definition has this type and gets the arguments of this call.
                unsafe {
                    let next: unsafe extern "C" fn($($type),*) -> $out = transmute(next);
                    next($($arg),*)
                }
            }
        )*
    };
}

unobservable! {
    fts_open(paths: Out, options: c_int, compare: Out) -> Out, null_mut();
    fts64_open(paths: Out, options: c_int, compare: Out) -> Out, null_mut();
    ftw(path: Path, each: Out, depth: c_int) -> c_int, -1;
    ftw64(path: Path, each: Out, depth: c_int) -> c_int, -1;
    glob(pattern: Path, flags: c_int, on_error: Out, out: Out) -> c_int, -1;
    glob64(pattern: Path, flags: c_int, on_error: Out, out: Out) -> c_int, -1;
    nftw(path: Path, each: Out, depth: c_int, flags: c_int) -> c_int, -1;
    nftw64(path: Path, each: Out, depth: c_int, flags: c_int) -> c_int, -1;
    scandirat(dir: c_int, path: Path, out: Out, filter: Out, order: Out) -> c_int, -1;
    scandirat64(dir: c_int, path: Path, out: Out, filter: Out, order: Out) -> c_int, -1;
    wordexp(words: Path, out: Out, flags: c_int) -> c_int, -1;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn canonicalize_file_name(path: Path) -> *mut c_char {
    let next = next!(canonicalize_file_name);
    if next.is_null() {
        fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type and gets the arguments of this call.
    let real = unsafe {
        let next: unsafe extern "C" fn(Path) -> *mut c_char = transmute(next);
        next(path)
    };
    crate::note_resolved(real.is_null(), path, true);
    real
}

/// Programs that were compiled with `_FORTIFY_SOURCE` call this instead of `realpath`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __realpath_chk(path: Path, out: *mut c_char, len: usize) -> *mut c_char {
    let next = next!(__realpath_chk);
    if next.is_null() {
        fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type and gets the arguments of this call.
    let real = unsafe {
        let next: unsafe extern "C" fn(Path, *mut c_char, usize) -> *mut c_char = transmute(next);
        next(path, out, len)
    };
    crate::note_resolved(real.is_null(), path, true);
    real
}
