//! Notes the libraries that a program starts with, and those that it loads later.
//!
//! `dlopen` is not interposed, because it searches libraries relative to its caller. Libraries that were loaded
//! later are listed when the program ends, and before each `dlclose`.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::ptr::{self, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::objects::{LoadedObject, ObjectCallback, dl_iterate_phdr};
use crate::{Kind, THERE, fail_with_enosys, next_definition, note, record};

/// The number of objects that the program started with. The dynamic linker lists them first and never unloads them.
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);

extern "C" fn note_library(object: *const LoadedObject, _size: usize, index: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a loaded object, whose name may be null, and the counter of `each`.
    let (name, index) = unsafe { ((*object).name, &mut *index.cast::<usize>()) };
    let kind = if *index < FIRST.load(Ordering::Relaxed) { Kind::Loaded } else { Kind::Added };
    *index += 1;
    // SAFETY: as above.
    unsafe {
        if !name.is_null() && *name == b'/' as c_char {
            note(kind, THERE, &[CStr::from_ptr(name).to_bytes()], &[]);
        }
    }
    0
}

/// Does the same as [`note_library`], only for objects that were loaded after the start.
extern "C" fn note_added(object: *const LoadedObject, size: usize, index: *mut c_void) -> c_int {
    // SAFETY: as above.
    let at = unsafe { &mut *index.cast::<usize>() };
    if *at < FIRST.load(Ordering::Relaxed) {
        *at += 1;
        return 0;
    }
    note_library(object, size, index)
}

/// Calls `run` for each loaded object, and returns how many of them `run` has counted.
fn each(run: ObjectCallback) -> usize {
    let mut index = 0usize;
    // SAFETY: the callback keeps no pointer.
    unsafe { dl_iterate_phdr(run, ptr::from_mut(&mut index).cast()) };
    index
}

/// Notes the libraries that the program started with.
pub(crate) fn begin() {
    FIRST.store(each(note_library), Ordering::Relaxed);
}

/// Notes the libraries that were loaded later.
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
    let next = next_definition(&NEXT, c"dlclose");
    if next.is_null() {
        return fail_with_enosys();
    }
    end();
    // SAFETY: the next definition has this type and gets the arguments of this call.
    unsafe {
        let next: unsafe extern "C" fn(*mut c_void) -> c_int = transmute(next);
        next(handle)
    }
}
