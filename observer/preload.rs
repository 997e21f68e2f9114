//! The observer: a library that is loaded before all others into a compiler and into what it
//! starts, and notes which files and variables they ask for.
//!
//! A crate without dependencies, compiled by `build.rs` and carried by the engine. It stands
//! in front of functions of the C library, calls them, and notes their outcome in a file of
//! fixed size that is mapped into memory: one atomic addition and a copy for a note, and no
//! system call. `src/observer/record.rs` reads it.
//!
//! Invariants: a program sees what it would see without it, `errno` included. Nothing is
//! allocated and nothing waits: `rustc`'s allocator asks for a variable and for a link while
//! it holds its own lock. Where there is no file to note in, nothing is noted.
//!
//! `raw.rs` sees what a program asks the kernel for by itself, and `exec.rs` what it starts. What nobody
//! sees is noted as that. It cannot see what a program reads of `environ` by itself.

#![no_std]

mod callers;
mod changes;
mod exec;
mod kernel;
mod kernel_places;
mod libraries;
mod objects;
#[cfg(target_arch = "x86_64")]
mod raw;
#[cfg(not(target_arch = "x86_64"))]
#[path = "unarmed.rs"]
mod raw;
mod requests;
#[cfg(target_arch = "x86_64")]
mod signals;
mod walks;
mod writes;

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::{self, null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use kernel::kernel;

/// The variable that names the file to note in.
const VARIABLE: &CStr = c"__KACHE_RECORD";

/// What such a file begins with; whoever makes it writes this.
const MAGIC: [u8; 8] = *b"kacheob1";

/// Its header: magic, size, where the next note goes, whether one did not fit.
#[repr(C)]
struct Header {
    magic: [u8; 8],
    size: u32,
    next: AtomicU32,
    is_full: AtomicU32,
    unused: u32,
}

/// The head of a note. Two pieces of text follow; the kind is written last.
#[repr(C)]
struct Note {
    len: AtomicU32,
    process: u32,
    first_len: u32,
    second_len: u32,
    kind: AtomicU8,
    outcome: u8,
    /// Of a program that has begun, whether its system calls are dispatched; of a question, whether text
    /// asked it that came after the program had begun.
    mark: u8,
    unused: [u8; 5],
}

/// What a note is about.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    /// A program has begun, in this directory.
    Started = 1,
    /// A library that is loaded into it.
    Loaded = 2,
    /// A file that was opened to be read.
    Read = 3,
    /// Something that came to be, or lost what was in it before.
    Written = 4,
    /// A place that was asked about.
    Looked = 5,
    /// A directory that was listed.
    Listed = 6,
    /// A variable: its name, and its value if it is set.
    Variable = 7,
    /// A program that a process becomes; it has to say that it has begun.
    Executed = 8,
    /// A program did what cannot be observed: its path, and the number of the system call.
    Unseen = 9,
    /// A program asked which directory it is in.
    Directory = 10,
    /// A program read its whole environment from the kernel.
    Environment = 11,
    /// A file that was there when it was opened to be written, and that keeps what is in it.
    Updated = 20,
    /// A symbolic link that was read.
    Link = 21,
    /// A library that the program has loaded after it had begun.
    Added = 22,
    /// A function of this name, which reads what nobody sees.
    Hidden = 23,
}

/// How it went.
const THERE: u8 = 0;
const ABSENT: u8 = 1;
const FAILED: u8 = 2;

const ENOENT: c_int = 2;
const ENOTDIR: c_int = 20;
const ENOSYS: c_int = 38;
const AT_FDCWD: c_int = -100;
const O_ACCMODE: c_int = 3;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_CLOEXEC: c_int = 0o2000000;
const O_RDWR: c_int = 2;
const O_TMPFILE: c_int = 0o20000000;
const MAP_SHARED: c_int = 1;
const PROT_READ_WRITE: c_int = 3;
const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;

/// The longest path that a kernel takes.
const PATH_BYTES_MAX: usize = 4096;

#[cfg(target_arch = "x86_64")]
mod number {
    use core::ffi::c_long;
    pub const CLOSE: c_long = 3;
    pub const GETPID: c_long = 39;
    pub const GETCWD: c_long = 79;
    pub const PRCTL: c_long = 157;
    pub const OPENAT: c_long = 257;
    pub const READLINKAT: c_long = 267;
}

#[cfg(target_arch = "aarch64")]
mod number {
    use core::ffi::c_long;
    pub const CLOSE: c_long = 57;
    pub const GETPID: c_long = 172;
    pub const GETCWD: c_long = 17;
    pub const OPENAT: c_long = 56;
    pub const READLINKAT: c_long = 78;
}

#[link(name = "c")]
unsafe extern "C" {
    static mut environ: *const *const c_char;
    fn __errno_location() -> *mut c_int;
    fn abort() -> !;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn mmap(
        at: *mut c_void,
        len: usize,
        access: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes no arguments.
    unsafe { abort() }
}

/// The mapped file: null before the first look, [`NOWHERE`] where there is none.
static RECORD: AtomicPtr<Header> = AtomicPtr::new(null_mut());
const NOWHERE: *mut Header = 1 as *mut Header;

/// The file to note in.
fn record() -> Option<&'static Header> {
    let mut known = RECORD.load(Ordering::Acquire);
    if known.is_null() {
        let Some(name) = variable(VARIABLE) else {
            // Before the C library has begun there are no variables yet.
            // SAFETY: a word that the C library writes once, before there are threads.
            if !unsafe { environ }.is_null() {
                RECORD.store(NOWHERE, Ordering::Release);
            }
            return None;
        };
        let mapped = map(name);
        known = match RECORD.compare_exchange(null_mut(), mapped, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mapped,
            Err(other) => {
                unmap(mapped);
                other
            }
        };
    }
    // SAFETY: whatever is stored and not `NOWHERE` is a mapping of a file that begins with a
    // header, and is never unmapped.
    (known != NOWHERE).then(|| unsafe { &*known })
}

/// Keeps `errno`: a program may look at it after a call that has only now led here.
fn map(name: &CStr) -> *mut Header {
    // SAFETY: `errno` is a word of this thread. The name ends in a zero, and the other arguments are numbers. The descriptor is
    // ours and is closed once. What is mapped is read as a header after its first page is known
    // to be there: the kernel maps whole pages of a file that has at least a header in it, or a
    // read of it would be one beyond its end; whoever makes such files makes them whole.
    unsafe {
        let errno = *__errno_location();
        let fd = kernel!(number::OPENAT, AT_FDCWD, name.as_ptr(), O_RDWR | O_CLOEXEC, 0) as c_int;
        let head_len = size_of::<Header>();
        let mut mapped = NOWHERE;
        // Of a descriptor that is none this fails.
        let head = mmap(null_mut(), head_len, PROT_READ_WRITE, MAP_SHARED, fd, 0);
        if head as isize != -1 {
            let header = &*head.cast::<Header>();
            let (magic, size) = (header.magic, header.size as usize);
            munmap(head, head_len);
            if magic == MAGIC && size > head_len {
                let whole = mmap(null_mut(), size, PROT_READ_WRITE, MAP_SHARED, fd, 0);
                if whole as isize != -1 {
                    mapped = whole.cast();
                }
            }
        }
        if fd >= 0 {
            kernel!(number::CLOSE, fd);
        }
        *__errno_location() = errno;
        mapped
    }
}

fn unmap(mapped: *mut Header) {
    if mapped != NOWHERE {
        // SAFETY: nobody else has seen this mapping.
        unsafe { munmap(mapped.cast(), (*mapped).size as usize) };
    }
}

/// Writes a note. The pieces of each text are put together.
fn note(kind: Kind, outcome: u8, first: &[&[u8]], second: &[u8]) {
    write_note(&Head { kind, outcome, process: 0, mark: false }, first, second);
}

/// Writes a note about another process, or this one where its number is zero.
fn note_of(process: u32, kind: Kind, outcome: u8, first: &[&[u8]]) {
    write_note(&Head { kind, outcome, process, mark: false }, first, &[]);
}

/// Writes a note about something that is as it is.
fn note_fact(kind: Kind, first: &[&[u8]], second: &[u8]) {
    note(kind, THERE, first, second);
}

/// Notes that something escapes the observer.
fn note_unseen(asked: c_long) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = asked.unsigned_abs();
    while at == digits.len() || rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    with_buffer(|buffer| {
        let program = read_link(b"/proc/self/exe\0", buffer).unwrap_or_default();
        note_fact(Kind::Unseen, &[program], &digits[at..]);
    });
}

/// What a note says besides its texts.
struct Head {
    kind: Kind,
    outcome: u8,
    /// Zero for this process.
    process: u32,
    /// As in [`Note`].
    mark: bool,
}

fn write_note(head: &Head, first: &[&[u8]], second: &[u8]) {
    let Some(header) = record() else { return };
    let first_len: usize = first.iter().map(|piece| piece.len()).sum();
    let len = (size_of::<Note>() + first_len + second.len() + 7) & !7;
    if len > header.size as usize {
        header.is_full.store(1, Ordering::Relaxed);
        return;
    }
    // Reserved by comparing, so that the place of the next note never wraps around.
    let reserved = header.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        let end = next.checked_add(len as u32)?;
        (end <= header.size).then_some(end)
    });
    let Ok(at) = reserved else {
        header.is_full.store(1, Ordering::Relaxed);
        return;
    };
    // SAFETY: `at..at + len` lies within the mapping, is a multiple of eight like the mapping's
    // own place, and belongs to this call alone.
    unsafe {
        let start = ptr::from_ref(header).cast::<u8>().cast_mut().add(at as usize);
        let place = start.cast::<Note>();
        (*place).len.store(len as u32, Ordering::Relaxed);
        (*place).process = if head.process == 0 { kernel!(number::GETPID) as u32 } else { head.process };
        (*place).first_len = first_len as u32;
        (*place).second_len = second.len() as u32;
        (*place).outcome = head.outcome;
        (*place).mark = u8::from(head.mark);
        let mut text = start.add(size_of::<Note>());
        for piece in first.iter().chain([&second]) {
            ptr::copy_nonoverlapping(piece.as_ptr(), text, piece.len());
            text = text.add(piece.len());
        }
        (*place).kind.store(head.kind as u8, Ordering::Release);
    }
}

/// Notes a path, which may be relative to a directory that is open. Keeps `errno`, which is
/// how the call went if `has_failed`.
fn note_path(kind: Kind, has_failed: bool, dir: c_int, path: *const c_char) {
    if path.is_null() || record().is_none() {
        return;
    }
    // SAFETY: `errno` is a word of this thread, always there. A path that the C library has
    // just looked at ends in a zero.
    let (errno_at, path) = unsafe { (__errno_location(), CStr::from_ptr(path).to_bytes()) };
    // SAFETY: as above.
    let errno = unsafe { *errno_at };
    let outcome = match (has_failed, errno) {
        (false, _) => THERE,
        (true, ENOENT | ENOTDIR) => ABSENT,
        (true, _) => FAILED,
    };
    if kernel_places::may_be(path) {
        note_kernel_place(kind, outcome, &[path]);
    } else if path.first() == Some(&b'/') {
        note(kind, outcome, &[path], &[]);
    } else {
        directory_of(dir, |dir| match path {
            path if kernel_places::may_be(dir) => note_kernel_place(kind, outcome, &[dir, b"/", path]),
            [] => note(kind, outcome, &[dir], &[]),
            path => note(kind, outcome, &[dir, b"/", path], &[]),
        });
    }
    // SAFETY: as above.
    unsafe { *errno_at = errno };
}

/// Notes where a path lies that may begin in a file system of the kernel's. A link that the kernel makes up,
/// such as `/proc/self/cwd`, has no text that a user wrote, so it is not noted as a link.
fn note_kernel_place(kind: Kind, outcome: u8, path: &[&[u8]]) {
    let is_environ = |piece: &&[u8]| piece.ends_with(b"/environ") || *piece == b"environ";
    if matches!(kind, Kind::Read) && path.last().is_some_and(is_environ) {
        note(Kind::Environment, outcome, &[], &[]);
    }
    kernel_places::follow(path, |place, rest| {
        let kind = if matches!(kind, Kind::Link) && rest.is_empty() { Kind::Looked } else { kind };
        note(kind, outcome, &[place, rest], &[]);
    });
}

/// Says where a directory, or what else is open, lies; the current directory is [`AT_FDCWD`].
fn directory_of(dir: c_int, say: impl FnOnce(&[u8])) {
    with_buffer(|buffer| {
        if let Some(place) = directory(dir, buffer) {
            say(place);
        }
    });
}

/// How many threads may be noting paths at once, each for some microseconds, without using their stacks.
const BUFFERS: usize = 16;

struct Buffer {
    is_taken: AtomicU8,
    bytes: UnsafeCell<[u8; PATH_BYTES_MAX]>,
}

// SAFETY: whoever has taken it has it alone.
unsafe impl Sync for Buffer {}

static BUFFER: [Buffer; BUFFERS] =
    [const { Buffer { is_taken: AtomicU8::new(0), bytes: UnsafeCell::new([0; PATH_BYTES_MAX]) } }; BUFFERS];

/// Lends room for a path. A signal's handler may run on a stack that has no room for one.
fn with_buffer(run: impl FnOnce(&mut [u8; PATH_BYTES_MAX])) {
    match BUFFER.iter().find(|buffer| buffer.is_taken.swap(1, Ordering::Acquire) == 0) {
        Some(buffer) => {
            // SAFETY: it was taken just now.
            run(unsafe { &mut *buffer.bytes.get() });
            buffer.is_taken.store(0, Ordering::Release);
        }
        None => with_own_buffer(run),
    }
}

#[inline(never)]
fn with_own_buffer(run: impl FnOnce(&mut [u8; PATH_BYTES_MAX])) {
    run(&mut [0; PATH_BYTES_MAX]);
}

/// Where a directory lies.
fn directory(dir: c_int, buffer: &mut [u8; PATH_BYTES_MAX]) -> Option<&[u8]> {
    if dir == AT_FDCWD {
        // SAFETY: the kernel writes no more than it is told there is room for.
        let len = unsafe { kernel!(number::GETCWD, buffer.as_mut_ptr(), buffer.len()) };
        // The length counts the zero at the end.
        return buffer
            .get(..usize::try_from(len).ok()?.checked_sub(1)?)
            .filter(|path| path.starts_with(b"/"));
    }
    let mut link = *b"/proc/self/fd/0000000000\0";
    let digits = &mut link[14..24];
    let mut rest = u32::try_from(dir).ok()?;
    let mut len = 1;
    while len < 10 && rest / 10u32.pow(len) > 0 {
        len += 1;
    }
    for digit in digits[..len as usize].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits[len as usize..].fill(0);
    read_link(&link, buffer).filter(|path| path.starts_with(b"/"))
}

fn read_link<'b>(path: &[u8], buffer: &'b mut [u8; PATH_BYTES_MAX]) -> Option<&'b [u8]> {
    // SAFETY: the path ends in a zero, and the kernel writes no more than there is room for.
    let len =
        unsafe { kernel!(number::READLINKAT, AT_FDCWD, path.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
    buffer.get(..usize::try_from(len).ok()?)
}

/// A variable, without a note and without a call of the C library.
fn variable(name: &CStr) -> Option<&'static CStr> {
    let name = name.to_bytes();
    // SAFETY: `environ` is null or a list of strings that ends in null; it is walked as the C
    // library's own `getenv` does.
    unsafe {
        let mut at = environ;
        if at.is_null() || name.is_empty() {
            return None;
        }
        while !(*at).is_null() {
            let pair = *at;
            // Stops at the end of either: the name has no zero in it.
            let is_name = (0..name.len()).all(|index| *pair.add(index) as u8 == name[index]);
            if is_name && *pair.add(name.len()) as u8 == b'=' {
                return Some(CStr::from_ptr(pair.add(name.len() + 1)));
            }
            at = at.add(1);
        }
    }
    None
}

/// Runs when the program begins, before its `main`.
extern "C" fn begin() {
    resolve();
    let libc = SYSCALL.load(Ordering::Relaxed);
    kernel::ask_through(libc);
    if record().is_some() {
        objects::learn(libc);
        exec::hide();
        let is_armed = raw::arm();
        if is_armed {
            raw::follow_forks();
        }
        with_buffer(|buffer| {
            let program = read_link(b"/proc/self/exe\0", buffer).unwrap_or_default();
            let head = Head { kind: Kind::Started, outcome: THERE, process: 0, mark: is_armed };
            directory_of(AT_FDCWD, |stand| write_note(&head, &[program], stand));
        });
        libraries::begin();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// The functions behind ours. Found when the program begins. What is called before that is
/// found at once where that may allocate, and is made a system call where it must not.
macro_rules! functions {
    ($($slot:ident $name:literal)*) => {
        $(static $slot: AtomicPtr<c_void> = AtomicPtr::new(null_mut());)*

        fn resolve() {
            $(find(&$slot, $name);)*
        }
    };
}

functions! {
    ACCESS c"access"
    BSD_SIGNAL c"bsd_signal"
    CLONE c"clone"
    EACCESS c"eaccess"
    EUIDACCESS c"euidaccess"
    EXECVE c"execve"
    EXECVEAT c"execveat"
    EXECVPE c"execvpe"
    FACCESSAT c"faccessat"
    FEXECVE c"fexecve"
    FSTATAT c"fstatat"
    FSTATAT64 c"fstatat64"
    FXSTATAT c"__fxstatat"
    FXSTATAT64 c"__fxstatat64"
    GETCWD c"getcwd"
    GET_CURRENT_DIR_NAME c"get_current_dir_name"
    LSTAT c"lstat"
    LSTAT64 c"lstat64"
    LXSTAT c"__lxstat"
    LXSTAT64 c"__lxstat64"
    MKDIR c"mkdir"
    MKDIRAT c"mkdirat"
    OPEN c"open"
    OPEN64 c"open64"
    OPENAT c"openat"
    OPENAT64 c"openat64"
    OPENDIR c"opendir"
    PIDFD_SPAWN c"pidfd_spawn"
    PIDFD_SPAWNP c"pidfd_spawnp"
    POPEN c"popen"
    POSIX_SPAWN c"posix_spawn"
    POSIX_SPAWNP c"posix_spawnp"
    PTHREAD_CREATE c"pthread_create"
    PTHREAD_SIGMASK c"pthread_sigmask"
    READLINK c"readlink"
    READLINKAT c"readlinkat"
    REALPATH c"realpath"
    SCANDIR c"scandir"
    SCANDIR64 c"scandir64"
    SIGACTION c"sigaction"
    SIGNAL c"signal"
    SIGPROCMASK c"sigprocmask"
    SIGSET c"sigset"
    STAT c"stat"
    STAT64 c"stat64"
    STATX c"statx"
    SYMLINK c"symlink"
    SYMLINKAT c"symlinkat"
    SYSCALL c"syscall"
    SYSTEM c"system"
    SYSV_SIGNAL c"sysv_signal"
    XSTAT c"__xstat"
    XSTAT64 c"__xstat64"
}

fn find(slot: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = slot.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the name ends in a zero.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    slot.store(found, Ordering::Relaxed);
    found
}

/// What a program gets that asks for a function which this C library does not have.
fn not_there() -> c_int {
    // SAFETY: `errno` is a word of this thread.
    unsafe { *__errno_location() = ENOSYS };
    -1
}

/// A function that is handed on, and noted afterwards: `slot name(arguments) -> type`, what it
/// returns when it fails, what it is noted as, and the directory and path that it is about.
macro_rules! noted {
    ($($slot:ident $name:ident ($($arg:ident: $type:ty),*) -> $out:ty, $failed:expr;
       $kind:expr, $dir:expr, $path:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $out {
                let next = $slot.load(Ordering::Relaxed);
                let next = if next.is_null() {
                    // SAFETY: the name has no zero in it but its last.
                    let name = concat!(stringify!($name), "\0").as_bytes();
                    find(&$slot, unsafe { CStr::from_bytes_with_nul_unchecked(name) })
                } else {
                    next
                };
                if next.is_null() {
                    not_there();
                    return $failed;
                }
                // SAFETY: the function behind ours has our type, and gets what we got.
                let out = unsafe {
                    let next: unsafe extern "C" fn($($type),*) -> $out = transmute(next);
                    next($($arg),*)
                };
                note_path($kind, out == $failed, $dir, $path);
                out
            }
        )*
    };
}

type Path = *const c_char;
type Out = *mut c_void;

noted! {
    ACCESS access(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    EACCESS eaccess(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    EUIDACCESS euidaccess(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    FACCESSAT faccessat(dir: c_int, path: Path, mode: c_int, flags: c_int) -> c_int, -1; Kind::Looked, dir, path;
    FSTATAT fstatat(dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1; Kind::Looked, dir, named(path);
    FSTATAT64 fstatat64(dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1; Kind::Looked, dir, named(path);
    FXSTATAT __fxstatat(version: c_int, dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        Kind::Looked, dir, named(path);
    FXSTATAT64 __fxstatat64(version: c_int, dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        Kind::Looked, dir, named(path);
    LSTAT lstat(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    LSTAT64 lstat64(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    LXSTAT __lxstat(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    LXSTAT64 __lxstat64(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    MKDIR mkdir(path: Path, mode: c_uint) -> c_int, -1; Kind::Written, AT_FDCWD, path;
    MKDIRAT mkdirat(dir: c_int, path: Path, mode: c_uint) -> c_int, -1; Kind::Written, dir, path;
    OPENDIR opendir(path: Path) -> Out, null_mut(); Kind::Listed, AT_FDCWD, path;
    SCANDIR scandir(path: Path, out: Out, filter: Out, order: Out) -> c_int, -1; Kind::Listed, AT_FDCWD, path;
    SCANDIR64 scandir64(path: Path, out: Out, filter: Out, order: Out) -> c_int, -1; Kind::Listed, AT_FDCWD, path;
    STAT stat(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    STAT64 stat64(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    // Rust's standard library asks with no path at all, to see whether the kernel knows it.
    STATX statx(dir: c_int, path: Path, flags: c_int, mask: c_uint, out: Out) -> c_int, -1;
        Kind::Looked, dir, named(path);
    SYMLINK symlink(from: Path, to: Path) -> c_int, -1; Kind::Written, AT_FDCWD, to;
    SYMLINKAT symlinkat(from: Path, dir: c_int, to: Path) -> c_int, -1; Kind::Written, dir, to;
    XSTAT __xstat(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    XSTAT64 __xstat64(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
}

/// The path, unless it is empty: then it is a file that is open already which is asked about.
fn named(path: Path) -> Path {
    // SAFETY: null, or a string that ends in a zero.
    if path.is_null() || unsafe { *path } == 0 { null() } else { path }
}

/// What is called while an allocator begins: not looked up before the program has begun.
fn next_of(slot: &AtomicPtr<c_void>) -> Option<*mut c_void> {
    Some(slot.load(Ordering::Relaxed)).filter(|next| !next.is_null())
}

// `open` takes its third argument only with some flags. In the calling conventions of these
// processors it is found in the same place then, and passing on what is there does no harm.
macro_rules! open {
    ($($slot:ident $name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(path: Path, flags: c_int, mode: c_uint) -> c_int {
                let before = writes::Before::open(AT_FDCWD, path, flags);
                // SAFETY: the function behind ours, or the system call that it makes, gets what
                // we got.
                let fd = unsafe {
                    match next_of(&$slot) {
                        Some(next) => {
                            let next: unsafe extern "C" fn(Path, c_int, ...) -> c_int = transmute(next);
                            next(path, flags, mode)
                        }
                        None => kernel!(number::OPENAT, AT_FDCWD, path, flags, mode) as c_int,
                    }
                };
                before.note(fd < 0, AT_FDCWD, path);
                fd
            }
        )*
    };
}

macro_rules! open_at {
    ($($slot:ident $name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(dir: c_int, path: Path, flags: c_int, mode: c_uint) -> c_int {
                let before = writes::Before::open(dir, path, flags);
                // SAFETY: as above.
                let fd = unsafe {
                    match next_of(&$slot) {
                        Some(next) => {
                            let next: unsafe extern "C" fn(c_int, Path, c_int, ...) -> c_int = transmute(next);
                            next(dir, path, flags, mode)
                        }
                        None => kernel!(number::OPENAT, dir, path, flags, mode) as c_int,
                    }
                };
                before.note(fd < 0, dir, path);
                fd
            }
        )*
    };
}

// The second names are what programs call that were compiled with `_FORTIFY_SOURCE`.
open! { OPEN open OPEN64 open64 OPEN __open_2 OPEN64 __open64_2 }
open_at! { OPENAT openat OPENAT64 openat64 OPENAT __openat_2 OPENAT64 __openat64_2 }

/// A successful `readlink` read a link; a failed one only looked at the place.
fn of_link(read: isize) -> Kind {
    if read < 0 { Kind::Looked } else { Kind::Link }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readlink(path: Path, out: *mut c_char, len: usize) -> isize {
    // SAFETY: as above.
    let read = unsafe {
        match next_of(&READLINK) {
            Some(next) => {
                let next: unsafe extern "C" fn(Path, *mut c_char, usize) -> isize = transmute(next);
                next(path, out, len)
            }
            None => kernel!(number::READLINKAT, AT_FDCWD, path, out, len) as isize,
        }
    };
    note_path(of_link(read), read < 0, AT_FDCWD, path);
    read
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readlinkat(dir: c_int, path: Path, out: *mut c_char, len: usize) -> isize {
    // SAFETY: as above.
    let read = unsafe {
        match next_of(&READLINKAT) {
            Some(next) => {
                let next: unsafe extern "C" fn(c_int, Path, *mut c_char, usize) -> isize = transmute(next);
                next(dir, path, out, len)
            }
            None => kernel!(number::READLINKAT, dir, path, out, len) as isize,
        }
    };
    note_path(of_link(read), read < 0, dir, named(path));
    read
}
