//! Libraries: those that a program is loaded with, and those that it loads while it runs.
//!
//! Nothing stands in front of `dlopen`, which looks at who calls it. What was loaded later is found when the
//! program ends, or before something is unloaded.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::ptr::{self, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::objects::{Each, LoadedObject, dl_iterate_phdr};
use crate::{Kind, THERE, find, not_there, note, record};

/// How many objects the program began with. They come first, and none of them is ever unloaded.
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);

extern "C" fn note_library(object: *const LoadedObject, _size: usize, seen: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker hands over an object that it knows, with a name or without. The counter is that of
    // the call below.
    let (name, seen) = unsafe { ((*object).name, &mut *seen.cast::<usize>()) };
    let kind = if *seen < FIRST.load(Ordering::Relaxed) { Kind::Loaded } else { Kind::Added };
    *seen += 1;
    // SAFETY: as above.
    unsafe {
        if !name.is_null() && *name == b'/' as c_char {
            note(kind, THERE, &[CStr::from_ptr(name).to_bytes()], &[]);
        }
    }
    0
}

/// The same, of what has come since the program began.
extern "C" fn note_added(object: *const LoadedObject, size: usize, seen: *mut c_void) -> c_int {
    // SAFETY: as above.
    let number = unsafe { &mut *seen.cast::<usize>() };
    if *number < FIRST.load(Ordering::Relaxed) {
        *number += 1;
        return 0;
    }
    note_library(object, size, seen)
}

fn each(run: Each) -> usize {
    let mut seen = 0usize;
    // SAFETY: the function keeps nothing of what it is handed.
    unsafe { dl_iterate_phdr(run, ptr::from_mut(&mut seen).cast()) };
    seen
}

/// Notes what the program was loaded with.
pub(crate) fn begin() {
    FIRST.store(each(note_library), Ordering::Relaxed);
}

extern "C" fn end() {
    if FIRST.load(Ordering::Relaxed) != usize::MAX && record().is_some() {
        each(note_added);
    }
}

#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

#[unsafe(no_mangle)]
unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let next = find(&NEXT, c"dlclose");
    if next.is_null() {
        return not_there();
    }
    end();
    // SAFETY: the function behind ours has our type, and gets what we got.
    unsafe {
        let next: unsafe extern "C" fn(*mut c_void) -> c_int = transmute(next);
        next(handle)
    }
}
