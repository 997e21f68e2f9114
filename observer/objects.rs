//! The address ranges of machine code: that of the C library, that of the dynamic linker, and those of all objects
//! that were loaded when the program started.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

/// The beginning of the C library's `dl_phdr_info`.
#[repr(C)]
pub(crate) struct LoadedObject {
    pub(crate) addr: usize,
    pub(crate) name: *const c_char,
    segments: *const c_void,
    segment_count: u16,
}

/// How many code ranges of the start are kept. Code beyond that counts as loaded later, which makes kache observe
/// more than necessary, never less.
const OBJECTS_MAX: usize = 256;

// A loadable segment, and the flag of one that is executed.
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;

/// Asks `getauxval` for the address at which the kernel loaded the dynamic linker.
const AT_BASE: usize = 7;

/// The function that the dynamic linker calls for each loaded object.
pub(crate) type ObjectCallback = extern "C" fn(*const LoadedObject, usize, *mut c_void) -> c_int;

#[link(name = "c")]
unsafe extern "C" {
    fn getauxval(of: usize) -> usize;
    pub(crate) fn dl_iterate_phdr(each: ObjectCallback, data: *mut c_void) -> c_int;
}

/// An ELF program header, which describes one segment.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    file_len: usize,
    len: usize,
    align: usize,
}

/// A range of addresses, set once.
pub(crate) struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Range {
    const fn none() -> Range {
        Range { start: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    fn set(&self, start: usize, end: usize) {
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
    }

    /// Its first address and its length.
    pub(crate) fn span(&self) -> (usize, usize) {
        let start = self.start.load(Ordering::Relaxed);
        (start, self.end.load(Ordering::Relaxed) - start)
    }

    /// Whether it contains an address.
    pub(crate) fn contains(&self, address: usize) -> bool {
        (self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).contains(&address)
    }
}

/// The code of the C library.
pub(crate) static LIBC: Range = Range::none();
/// The code of the dynamic linker.
pub(crate) static LINKER: Range = Range::none();
/// The code that was loaded when the program started.
static FIRST: [Range; OBJECTS_MAX] = [const { Range::none() }; OBJECTS_MAX];
static FIRST_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Records the code ranges of the program. `of_libc` is a function of the C library.
pub(crate) fn learn(of_libc: *const c_void) {
    // SAFETY: `getauxval` takes and returns a number.
    let linker = unsafe { getauxval(AT_BASE) };
    let mut wanted = [of_libc as usize, linker];
    // SAFETY: the callback uses the array only during the call.
    unsafe { dl_iterate_phdr(learn_object, wanted.as_mut_ptr().cast()) };
}

extern "C" fn learn_object(object: *const LoadedObject, _size: usize, wanted: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker describes an object that it has loaded, and `learn` passes this array.
    let (object, [of_libc, linker]) = unsafe { (&*object, *wanted.cast::<[usize; 2]>()) };
    let segments: *const ProgramHeader = object.segments.cast();
    for index in 0..usize::from(object.segment_count) {
        // SAFETY: the index is below `segment_count`.
        let segment = unsafe { &*segments.add(index) };
        if segment.kind != PT_LOAD || segment.flags & PF_X == 0 {
            continue;
        }
        let start = object.addr.wrapping_add(segment.address);
        let end = start.wrapping_add(segment.len);
        if (start..end).contains(&of_libc) {
            LIBC.set(start, end);
        }
        // `AT_BASE` is the address of the whole object, which begins before its code.
        if object.addr == linker && linker != 0 {
            LINKER.set(start, end);
        }
        let at = FIRST_COUNT.load(Ordering::Relaxed);
        if let Some(range) = FIRST.get(at) {
            range.set(start, end);
            FIRST_COUNT.store(at + 1, Ordering::Release);
        }
    }
    0
}

/// Whether the code at this address was loaded after the program had started. In a compiler that is a proc macro,
/// or a library of one.
pub(crate) fn is_loaded_late(address: usize) -> bool {
    let count = FIRST_COUNT.load(Ordering::Acquire);
    // Before `learn` has run, only code from the start can run.
    count > 0 && !FIRST[..count].iter().any(|range| range.contains(address))
}
