//! Which text in memory belongs to what: the C library, the dynamic linker, and what was there when
//! the program began.

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

/// How many objects of a program are told apart. One that has more was not made by a linker of rustc's;
/// what does not fit counts as if it had been loaded later, which says too much and never too little.
const OBJECTS_MAX: usize = 256;

/// Loadable segments, and those that are executed.
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;

/// The dynamic linker's place, by the kernel.
const AT_BASE: usize = 7;

/// The function that the dynamic linker calls for each loaded object.
pub(crate) type Each = extern "C" fn(*const LoadedObject, usize, *mut c_void) -> c_int;

#[link(name = "c")]
unsafe extern "C" {
    fn getauxval(of: usize) -> usize;
    pub(crate) fn dl_iterate_phdr(each: Each, data: *mut c_void) -> c_int;
}

/// A segment as the program's own header describes it.
#[repr(C)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    file_len: usize,
    len: usize,
    align: usize,
}

/// Addresses from one to before another.
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

    /// Where it begins, and how long it is.
    pub(crate) fn span(&self) -> (usize, usize) {
        let start = self.start.load(Ordering::Relaxed);
        (start, self.end.load(Ordering::Relaxed) - start)
    }

    /// Whether an address lies in it.
    pub(crate) fn contains(&self, address: usize) -> bool {
        (self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).contains(&address)
    }
}

/// The text of the C library.
pub(crate) static LIBC: Range = Range::none();
/// The text of the dynamic linker.
pub(crate) static LINKER: Range = Range::none();
/// What was there when the program began.
static FIRST: [Range; OBJECTS_MAX] = [const { Range::none() }; OBJECTS_MAX];
static FIRST_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Learns what the program consists of. `of_libc` is a function of the C library.
pub(crate) fn learn(of_libc: *const c_void) {
    // SAFETY: it takes a number and returns one.
    let linker = unsafe { getauxval(AT_BASE) };
    let mut wanted = [of_libc as usize, linker];
    // SAFETY: the function uses the array during the call only.
    unsafe { dl_iterate_phdr(learn_object, wanted.as_mut_ptr().cast()) };
}

extern "C" fn learn_object(object: *const LoadedObject, _size: usize, wanted: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker describes an object that it has loaded, and `learn` passes this array.
    let (object, [of_libc, linker]) = unsafe { (&*object, *wanted.cast::<[usize; 2]>()) };
    let segments: *const Segment = object.segments.cast();
    for index in 0..usize::from(object.segment_count) {
        // SAFETY: there are so many of them.
        let segment = unsafe { &*segments.add(index) };
        if segment.kind != PT_LOAD || segment.flags & PF_X == 0 {
            continue;
        }
        let start = object.addr.wrapping_add(segment.address);
        let end = start.wrapping_add(segment.len);
        if (start..end).contains(&of_libc) {
            LIBC.set(start, end);
        }
        // The kernel names the beginning of the file, which lies before its text.
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

/// Whether text at this address came after the program had begun: for a compiler that is a proc macro,
/// or a library of one.
pub(crate) fn is_late(address: usize) -> bool {
    let count = FIRST_COUNT.load(Ordering::Acquire);
    // Before it is known what there is, only what was there from the beginning can run.
    count > 0 && !FIRST[..count].iter().any(|range| range.contains(address))
}
