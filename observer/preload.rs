//! The observer: a library that `LD_PRELOAD` loads into a compiler and into the programs that the compiler
//! starts. It notes which files, directories and variables they read.
//!
//! `build.rs` compiles it as a crate of its own without dependencies, and the engine contains the result.
//! It interposes functions of the C library: a program calls the definition here, which calls the next
//! definition (that of the C library) and notes the outcome in the record, a file of fixed size that is
//! mapped into memory. A note costs one atomic addition and one copy, and no system call.
//! `src/observer/record.rs` reads the record. `dispatch.rs` observes system calls that bypass the C library, and
//! `exec.rs` observes programs that are started. What cannot be observed is noted as such, except reads of
//! `environ` in memory.
//!
//! Invariants: a program gets the results that it would get without the observer, `errno` included. The observer
//! neither allocates nor waits for a lock, because `rustc`'s allocator calls `getenv` and `readlink` while it holds
//! its own lock. Without a record, nothing is noted.

#![no_std]

mod callers;
mod changes;
#[cfg(target_arch = "x86_64")]
mod dispatch;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_dispatch.rs"]
mod dispatch;
mod exec;
mod kernel;
mod kernel_paths;
mod libraries;
mod objects;
#[cfg(target_arch = "x86_64")]
mod signals;
mod syscalls;
mod walks;
mod writes;

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::{self, null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use kernel::kernel;

/// The variable that names the record.
const VARIABLE: &CStr = c"__KACHE_RECORD";

/// The first bytes of a record. `src/observer/record.rs` creates the file and writes them.
const MAGIC: [u8; 8] = *b"kacheob1";

/// The header of the record. `next` is the offset of the next note; `is_full` is 1 once a note did not fit.
#[repr(C)]
struct Header {
    magic: [u8; 8],
    size: u32,
    next: AtomicU32,
    is_full: AtomicU32,
    unused: u32,
}

/// The header of a note, followed by two texts. `kind` is written last, so a reader recognises an unfinished
/// note by a kind of zero.
#[repr(C)]
struct Note {
    len: AtomicU32,
    process: u32,
    first_len: u32,
    second_len: u32,
    kind: AtomicU8,
    outcome: u8,
    /// For [`Kind::Started`], whether raw system calls of the program are dispatched. For a variable, the current
    /// directory or a resolved path, whether the request came from code that was loaded after the program had
    /// started.
    mark: u8,
    unused: [u8; 5],
}

/// The event that a note describes.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    /// A program has started, in this directory.
    Started = 1,
    /// A library that was loaded with the program.
    Loaded = 2,
    /// A file that was opened to be read.
    Read = 3,
    /// A file or directory that was created, or a file that was emptied.
    Written = 4,
    /// A path whose existence or metadata was requested.
    Looked = 5,
    /// A directory that was listed.
    Listed = 6,
    /// A variable: its name, and its value if it is set.
    Variable = 7,
    /// A program that was executed. Without a following [`Kind::Started`] it could not be observed.
    Executed = 8,
    /// A system call after which the program cannot be observed any more: the program's path and the call's number.
    Unseen = 9,
    /// The current directory, which the program requested.
    Directory = 10,
    /// The whole environment, which the program read from `/proc`.
    Environment = 11,
    /// A file that existed when it was opened for writing, and that keeps its content.
    Updated = 20,
    /// A symbolic link that was read.
    Link = 21,
    /// A library that was loaded after the program had started.
    Added = 22,
    /// A call of a C library function, named here, that reads files inside the C library, unobserved.
    Hidden = 23,
    /// A path that was looked at in a way that tells a symbolic link from its target.
    Unfollowed = 24,
    /// A path that was resolved, so that each component could be a symbolic link.
    Resolved = 25,
}

/// The outcomes of a note.
const THERE: u8 = 0;
const ABSENT: u8 = 1;
const FAILED: u8 = 2;

const ENOENT: c_int = 2;
const ENOTDIR: c_int = 20;
const ENOSYS: c_int = 38;
const AT_FDCWD: c_int = -100;
const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
const O_ACCMODE: c_int = 3;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_CLOEXEC: c_int = 0o2000000;
const O_RDWR: c_int = 2;
const O_TMPFILE: c_int = 0o20000000;
const MAP_SHARED: c_int = 1;
const PROT_READ_WRITE: c_int = 3;
const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;

/// The longest path that Linux accepts, with its final zero.
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

/// The mapped record: null before the first call of [`record`], [`NOWHERE`] if there is no record.
static RECORD: AtomicPtr<Header> = AtomicPtr::new(null_mut());
const NOWHERE: *mut Header = 1 as *mut Header;

/// The record, which the first call maps. `None` if there is none, or if the C library has not started yet.
fn record() -> Option<&'static Header> {
    let mut header = RECORD.load(Ordering::Acquire);
    if header.is_null() {
        let Some(name) = variable(VARIABLE) else {
            // `environ` is null until the C library has started. Decide only after that.
            // SAFETY: `environ` is a word that the C library writes once, before there are threads.
            if !unsafe { environ }.is_null() {
                RECORD.store(NOWHERE, Ordering::Release);
            }
            return None;
        };
        let mapped = map(name);
        header = match RECORD.compare_exchange(null_mut(), mapped, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mapped,
            Err(other) => {
                unmap(mapped);
                other
            }
        };
    }
    // SAFETY: any stored value other than `NOWHERE` is a mapping of a file that begins with a
    // header, and it is never unmapped.
    (header != NOWHERE).then(|| unsafe { &*header })
}

/// Maps the file, or returns [`NOWHERE`]. Keeps `errno`, because any interposed call may be the first to map.
fn map(name: &CStr) -> *mut Header {
    // SAFETY: `errno` is a word of this thread. The name ends in a zero, and the other arguments are numbers. The
    // descriptor belongs to this function and is closed once. The header may be read because the kernel maps whole
    // pages, and `src/observer/record.rs` gives the file its full size before it passes the name on.
    unsafe {
        let errno = *__errno_location();
        let fd = kernel!(number::OPENAT, AT_FDCWD, name.as_ptr(), O_RDWR | O_CLOEXEC, 0) as c_int;
        let head_len = size_of::<Header>();
        let mut mapped = NOWHERE;
        // Fails if the file could not be opened.
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
        // SAFETY: this mapping was not stored, so no other thread uses it.
        unsafe { munmap(mapped.cast(), (*mapped).size as usize) };
    }
}

/// Writes a note. The pieces of `first` are concatenated.
fn note(kind: Kind, outcome: u8, first: &[&[u8]], second: &[u8]) {
    write_note(&Head { kind, outcome, process: 0, mark: false }, first, second);
}

/// Writes a note about another process, or about this one if `process` is zero.
fn note_of(process: u32, kind: Kind, outcome: u8, first: &[&[u8]]) {
    write_note(&Head { kind, outcome, process, mark: false }, first, &[]);
}

/// Writes a note whose outcome is success.
fn note_fact(kind: Kind, first: &[&[u8]], second: &[u8]) {
    note(kind, THERE, first, second);
}

/// Notes a path that the C library has resolved. `mark` says whether a library asked for it that was loaded after
/// the program had started.
fn note_resolved(has_failed: bool, path: *const c_char, mark: bool) {
    note_path(Kind::Looked, has_failed, AT_FDCWD, path);
    if !has_failed {
        note_marked_path(Kind::Resolved, false, AT_FDCWD, path, mark);
    }
}

/// Notes that the program made a system call after which it cannot be observed.
fn note_unobservable_syscall(sysno: c_long) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = sysno.unsigned_abs();
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

/// The parts of a note other than its texts.
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
    // A plain addition could wrap around when many threads write to a full record.
    let reserved = header.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        let end = next.checked_add(len as u32)?;
        (end <= header.size).then_some(end)
    });
    let Ok(at) = reserved else {
        header.is_full.store(1, Ordering::Relaxed);
        return;
    };
    // SAFETY: `at..at + len` lies within the mapping, is a multiple of eight like the mapping's
    // own address, and belongs to this call alone.
    unsafe {
        let start = ptr::from_ref(header).cast::<u8>().cast_mut().add(at as usize);
        let head_at = start.cast::<Note>();
        (*head_at).len.store(len as u32, Ordering::Relaxed);
        (*head_at).process = if head.process == 0 { kernel!(number::GETPID) as u32 } else { head.process };
        (*head_at).first_len = first_len as u32;
        (*head_at).second_len = second.len() as u32;
        (*head_at).outcome = head.outcome;
        (*head_at).mark = u8::from(head.mark);
        let mut text = start.add(size_of::<Note>());
        for piece in first.iter().chain([&second]) {
            ptr::copy_nonoverlapping(piece.as_ptr(), text, piece.len());
            text = text.add(piece.len());
        }
        (*head_at).kind.store(head.kind as u8, Ordering::Release);
    }
}

/// Notes a path, which is relative to the open directory `dir` if it is not absolute. If `has_failed`, `errno` says
/// why. Keeps `errno`.
fn note_path(kind: Kind, has_failed: bool, dir: c_int, path: *const c_char) {
    note_marked_path(kind, has_failed, dir, path, false);
}

/// As [`note_path`], with a mark.
fn note_marked_path(kind: Kind, has_failed: bool, dir: c_int, path: *const c_char, mark: bool) {
    if path.is_null() || record().is_none() {
        return;
    }
    // SAFETY: `errno` is a word of this thread. A path that the C library has just read ends in a zero.
    let (errno_at, path) = unsafe { (__errno_location(), CStr::from_ptr(path).to_bytes()) };
    // SAFETY: as above.
    let errno = unsafe { *errno_at };
    let outcome = match (has_failed, errno) {
        (false, _) => THERE,
        (true, ENOENT | ENOTDIR) => ABSENT,
        (true, _) => FAILED,
    };
    let head = Head { kind, outcome, process: 0, mark };
    if kernel_paths::may_be_kernel_path(path) {
        note_kernel_path(&head, &[path]);
    } else if path.first() == Some(&b'/') {
        write_note(&head, &[path], &[]);
    } else {
        directory_of(dir, |dir| match path {
            path if kernel_paths::may_be_kernel_path(dir) => note_kernel_path(&head, &[dir, b"/", path]),
            [] => write_note(&head, &[dir], &[]),
            path => write_note(&head, &[dir, b"/", path], &[]),
        });
    }
    // SAFETY: as above.
    unsafe { *errno_at = errno };
}

/// Notes a path that may begin in a virtual file system, as the path to which that beginning leads. A link that the
/// kernel generates, such as `/proc/self/cwd`, has no text that a user wrote, so it is not noted as a link.
fn note_kernel_path(head: &Head, path: &[&[u8]]) {
    let is_environ = |piece: &&[u8]| piece.ends_with(b"/environ") || *piece == b"environ";
    if matches!(head.kind, Kind::Read) && path.last().is_some_and(is_environ) {
        note(Kind::Environment, head.outcome, &[], &[]);
    }
    kernel_paths::follow(path, |target, rest| {
        let is_kernel_link = matches!(head.kind, Kind::Link) && rest.is_empty();
        let kind = if is_kernel_link { Kind::Looked } else { head.kind };
        write_note(&Head { kind, ..*head }, &[target, rest], &[]);
    });
}

/// Passes the path of an open file or directory to `run`, or does not call it if the path is unknown. [`AT_FDCWD`]
/// is the current directory.
fn directory_of(dir: c_int, run: impl FnOnce(&[u8])) {
    with_buffer(|buffer| {
        if let Some(path) = directory(dir, buffer) {
            run(path);
        }
    });
}

/// How many paths may be assembled at once, each for some microseconds, without using the threads' stacks.
const BUFFERS: usize = 16;

struct Buffer {
    is_taken: AtomicU8,
    bytes: UnsafeCell<[u8; PATH_BYTES_MAX]>,
}

// SAFETY: only the thread that set `is_taken` uses the bytes.
unsafe impl Sync for Buffer {}

static BUFFER: [Buffer; BUFFERS] =
    [const { Buffer { is_taken: AtomicU8::new(0), bytes: UnsafeCell::new([0; PATH_BYTES_MAX]) } }; BUFFERS];

/// Lends a buffer for a path. A signal handler may run on a stack that has no room for one. If all buffers are in
/// use, the stack is used after all.
fn with_buffer(run: impl FnOnce(&mut [u8; PATH_BYTES_MAX])) {
    match BUFFER.iter().find(|buffer| buffer.is_taken.swap(1, Ordering::Acquire) == 0) {
        Some(buffer) => {
            // SAFETY: this thread has just set `is_taken`.
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

/// The absolute path of an open file or directory. `None` if it has none, as a pipe.
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

/// The value of a variable. Writes no note and does not call the C library.
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
            // Does not read past the pair: the comparison ends at its zero, and the name contains none.
            let is_name = (0..name.len()).all(|index| *pair.add(index) as u8 == name[index]);
            if is_name && *pair.add(name.len()) as u8 == b'=' {
                return Some(CStr::from_ptr(pair.add(name.len() + 1)));
            }
            at = at.add(1);
        }
    }
    None
}

/// Runs when the program starts, before its `main`. Variables are hidden before anything else can read them, and the
/// libraries are noted after the start of the program to which they belong.
extern "C" fn begin() {
    resolve();
    let libc = SYSCALL.load(Ordering::Relaxed);
    kernel::call_through_libc(libc);
    if record().is_some() {
        objects::learn(libc);
        exec::hide_variables();
        let is_armed = dispatch::arm();
        if is_armed {
            dispatch::follow_forks();
        }
        with_buffer(|buffer| {
            let program = read_link(b"/proc/self/exe\0", buffer).unwrap_or_default();
            let head = Head { kind: Kind::Started, outcome: THERE, process: 0, mark: is_armed };
            directory_of(AT_FDCWD, |current| write_note(&head, &[program], current));
        });
        libraries::begin();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// The next definitions of interposed functions, which are resolved when the program starts. A function that is
/// called earlier is resolved at that time, or makes a system call instead if `dlsym` must not allocate there.
macro_rules! functions {
    ($($slot:ident $name:literal)*) => {
        $(static $slot: AtomicPtr<c_void> = AtomicPtr::new(null_mut());)*

        fn resolve() {
            $(next_definition(&$slot, $name);)*
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

/// The definition of a function that the program would call without the observer, or null. Resolved once for each
/// slot.
fn next_definition(slot: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let resolved = slot.load(Ordering::Relaxed);
    if !resolved.is_null() {
        return resolved;
    }
    // SAFETY: the name ends in a zero.
    let symbol = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    slot.store(symbol, Ordering::Relaxed);
    symbol
}

/// Fails a call of a function that this C library does not have.
fn fail_with_enosys() -> c_int {
    // SAFETY: `errno` is a word of this thread.
    unsafe { *__errno_location() = ENOSYS };
    -1
}

/// Defines functions that call the next definition and then note a path: `slot name(arguments) -> type`, the value
/// that means failure; the kind of the note, the directory and the path.
macro_rules! interpose {
    ($($slot:ident $name:ident ($($arg:ident: $type:ty),*) -> $out:ty, $failed:expr;
       $kind:expr, $dir:expr, $path:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $type),*) -> $out {
                let next = $slot.load(Ordering::Relaxed);
                let next = if next.is_null() {
                    // SAFETY: the only zero in the name is its last byte.
                    let name = concat!(stringify!($name), "\0").as_bytes();
                    next_definition(&$slot, unsafe { CStr::from_bytes_with_nul_unchecked(name) })
                } else {
                    next
                };
                if next.is_null() {
                    fail_with_enosys();
                    return $failed;
                }
                // SAFETY: the next definition has this type and gets the arguments of this call.
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

interpose! {
    ACCESS access(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    EACCESS eaccess(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    EUIDACCESS euidaccess(path: Path, mode: c_int) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    FACCESSAT faccessat(dir: c_int, path: Path, mode: c_int, flags: c_int) -> c_int, -1; Kind::Looked, dir, path;
    FSTATAT fstatat(dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        kind_of_stat(flags), dir, unless_empty(path);
    FSTATAT64 fstatat64(dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        kind_of_stat(flags), dir, unless_empty(path);
    FXSTATAT __fxstatat(version: c_int, dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        kind_of_stat(flags), dir, unless_empty(path);
    FXSTATAT64 __fxstatat64(version: c_int, dir: c_int, path: Path, out: Out, flags: c_int) -> c_int, -1;
        kind_of_stat(flags), dir, unless_empty(path);
    LSTAT lstat(path: Path, out: Out) -> c_int, -1; Kind::Unfollowed, AT_FDCWD, path;
    LSTAT64 lstat64(path: Path, out: Out) -> c_int, -1; Kind::Unfollowed, AT_FDCWD, path;
    LXSTAT __lxstat(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Unfollowed, AT_FDCWD, path;
    LXSTAT64 __lxstat64(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Unfollowed, AT_FDCWD, path;
    MKDIR mkdir(path: Path, mode: c_uint) -> c_int, -1; Kind::Written, AT_FDCWD, path;
    MKDIRAT mkdirat(dir: c_int, path: Path, mode: c_uint) -> c_int, -1; Kind::Written, dir, path;
    OPENDIR opendir(path: Path) -> Out, null_mut(); Kind::Listed, AT_FDCWD, path;
    SCANDIR scandir(path: Path, out: Out, filter: Out, order: Out) -> c_int, -1; Kind::Listed, AT_FDCWD, path;
    SCANDIR64 scandir64(path: Path, out: Out, filter: Out, order: Out) -> c_int, -1; Kind::Listed, AT_FDCWD, path;
    STAT stat(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    STAT64 stat64(path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    // Rust's standard library calls `statx` without a path, to find out whether the kernel has it.
    STATX statx(dir: c_int, path: Path, flags: c_int, mask: c_uint, out: Out) -> c_int, -1;
        kind_of_stat(flags), dir, unless_empty(path);
    SYMLINK symlink(from: Path, to: Path) -> c_int, -1; Kind::Written, AT_FDCWD, to;
    SYMLINKAT symlinkat(from: Path, dir: c_int, to: Path) -> c_int, -1; Kind::Written, dir, to;
    XSTAT __xstat(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
    XSTAT64 __xstat64(version: c_int, path: Path, out: Out) -> c_int, -1; Kind::Looked, AT_FDCWD, path;
}

/// The path, or null if it is empty: then the call is about the open file `dir`, which was noted when it was opened.
fn unless_empty(path: Path) -> Path {
    // SAFETY: null, or a string that ends in a zero.
    if path.is_null() || unsafe { *path } == 0 { null() } else { path }
}

/// The next definition if it is resolved already. For functions that an allocator calls while it starts: `dlsym`
/// would call that allocator.
fn resolved(slot: &AtomicPtr<c_void>) -> Option<*mut c_void> {
    Some(slot.load(Ordering::Relaxed)).filter(|next| !next.is_null())
}

// `open` has a third argument only with some flags. In the calling conventions of these processors it is always in
// the same register, and passing on whatever that register contains does no harm.
macro_rules! open {
    ($($slot:ident $name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(path: Path, flags: c_int, mode: c_uint) -> c_int {
                let effect = writes::OpenEffect::open(AT_FDCWD, path, flags);
                // SAFETY: the next definition, or the system call that it would make, gets the arguments of this
                // call.
                let fd = unsafe {
                    match resolved(&$slot) {
                        Some(next) => {
                            let next: unsafe extern "C" fn(Path, c_int, ...) -> c_int = transmute(next);
                            next(path, flags, mode)
                        }
                        None => kernel!(number::OPENAT, AT_FDCWD, path, flags, mode) as c_int,
                    }
                };
                effect.note(fd < 0, AT_FDCWD, path);
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
                let effect = writes::OpenEffect::open(dir, path, flags);
                // SAFETY: as above.
                let fd = unsafe {
                    match resolved(&$slot) {
                        Some(next) => {
                            let next: unsafe extern "C" fn(c_int, Path, c_int, ...) -> c_int = transmute(next);
                            next(dir, path, flags, mode)
                        }
                        None => kernel!(number::OPENAT, dir, path, flags, mode) as c_int,
                    }
                };
                effect.note(fd < 0, dir, path);
                fd
            }
        )*
    };
}

// Programs that were compiled with `_FORTIFY_SOURCE` call the names with `_2`.
open! { OPEN open OPEN64 open64 OPEN __open_2 OPEN64 __open64_2 }
open_at! { OPENAT openat OPENAT64 openat64 OPENAT __openat_2 OPENAT64 __openat64_2 }

/// The kind of the note on a `readlink`: a failed one tells whether the path exists, and that it is no link.
fn kind_of_readlink(read: isize) -> Kind {
    if read < 0 { Kind::Unfollowed } else { Kind::Link }
}

/// The kind of the note on a call of the `stat` family, by its flags.
fn kind_of_stat(flags: c_int) -> Kind {
    if flags & AT_SYMLINK_NOFOLLOW == 0 { Kind::Looked } else { Kind::Unfollowed }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readlink(path: Path, out: *mut c_char, len: usize) -> isize {
    // SAFETY: as above.
    let read = unsafe {
        match resolved(&READLINK) {
            Some(next) => {
                let next: unsafe extern "C" fn(Path, *mut c_char, usize) -> isize = transmute(next);
                next(path, out, len)
            }
            None => kernel!(number::READLINKAT, AT_FDCWD, path, out, len) as isize,
        }
    };
    note_path(kind_of_readlink(read), read < 0, AT_FDCWD, path);
    read
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readlinkat(dir: c_int, path: Path, out: *mut c_char, len: usize) -> isize {
    // SAFETY: as above.
    let read = unsafe {
        match resolved(&READLINKAT) {
            Some(next) => {
                let next: unsafe extern "C" fn(c_int, Path, *mut c_char, usize) -> isize = transmute(next);
                next(dir, path, out, len)
            }
            None => kernel!(number::READLINKAT, dir, path, out, len) as isize,
        }
    };
    note_path(kind_of_readlink(read), read < 0, dir, unless_empty(path));
    read
}
