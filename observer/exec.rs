//! Programs that are started: each is noted before it begins, and is given what it needs to be observed.
//!
//! The two variables of the observer are taken out of a program's environment when it begins, so that it
//! sees what it would see without them, and put into the environment of what it starts, also where that
//! was emptied. A program that is noted here and never says that it has begun could not be observed.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::requests::number;
use crate::{
    AT_FDCWD, FAILED, Kind, PATH_BYTES_MAX, PROT_READ_WRITE, THERE, VARIABLE, environ, find, mmap, munmap,
};

const PRELOAD: &[u8] = b"LD_PRELOAD=";
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const WORD: usize = size_of::<usize>();

/// Where text of the observer's own lies, `NAME=value`, ending in a zero.
struct Text(UnsafeCell<[u8; PATH_BYTES_MAX]>, AtomicUsize);

// SAFETY: written once, when the program begins, before its length says that there is something.
unsafe impl Sync for Text {}

impl Text {
    const fn none() -> Text {
        Text(UnsafeCell::new([0; PATH_BYTES_MAX]), AtomicUsize::new(0))
    }

    fn set(&self, text: &[u8]) -> bool {
        if text.len() >= PATH_BYTES_MAX {
            return false;
        }
        // SAFETY: as for `Text`.
        unsafe { (&mut *self.0.get())[..text.len()].copy_from_slice(text) };
        self.1.store(text.len(), Ordering::Release);
        true
    }

    fn get(&self) -> Option<&[u8]> {
        let len = self.1.load(Ordering::Acquire);
        // SAFETY: not written any more.
        (len > 0).then(|| unsafe { &(&*self.0.get())[..len] })
    }
}

/// The library, and the record.
static LIBRARY: Text = Text::none();
static RECORD: Text = Text::none();

/// The name's part of `NAME=value`.
fn has_name(pair: *const c_char, name: &[u8]) -> bool {
    // SAFETY: stops at the end of either: the name has no zero in it.
    (0..name.len()).all(|index| unsafe { *pair.add(index) } as u8 == name[index])
}

fn is_record(pair: *const c_char) -> bool {
    let name = VARIABLE.to_bytes();
    // SAFETY: the name was there, so that the string goes at least that far.
    has_name(pair, name) && unsafe { *pair.add(name.len()) } as u8 == b'='
}

/// Takes the observer's own variables out of the environment, and remembers them for what is started.
/// Runs before there are threads, and before `main` is handed the environment.
pub(crate) fn hide() {
    // SAFETY: `environ` is a list of strings that ends in null, which belongs to the program and may be
    // changed; each string is only made shorter.
    unsafe {
        let list = environ.cast_mut();
        let (mut from, mut to) = (0, 0);
        while !(*list.add(from)).is_null() {
            let pair = *list.add(from);
            from += 1;
            if is_record(pair) && RECORD.set(CStr::from_ptr(pair).to_bytes()) {
                continue;
            }
            if has_name(pair, PRELOAD) && !keep_others(pair.cast_mut()) {
                continue;
            }
            *list.add(to) = pair;
            to += 1;
        }
        *list.add(to) = null();
    }
}

/// Takes the first library out of `LD_PRELOAD=…`, which is this one. Whether others are left.
unsafe fn keep_others(pair: *mut c_char) -> bool {
    // SAFETY: a string of the environment.
    unsafe {
        let text = CStr::from_ptr(pair).to_bytes();
        let end = text.iter().position(|byte| matches!(byte, b':' | b' ')).unwrap_or(text.len());
        if !LIBRARY.set(&text[..end]) {
            return true;
        }
        let rest = text.len() - (end + 1).min(text.len());
        core::ptr::copy(pair.add(end + 1), pair.add(PRELOAD.len()), rest);
        *pair.add(PRELOAD.len() + rest) = 0;
        rest > 0
    }
}

/// Memory that is not the allocator's.
struct Region {
    place: *mut u8,
    len: usize,
}

impl Region {
    fn new(len: usize) -> Option<Region> {
        // SAFETY: new memory.
        let place = unsafe { mmap(null_mut(), len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
        (place as isize != -1).then_some(Region { place: place.cast(), len })
    }

    fn free(self) {
        // SAFETY: nobody uses it any more.
        unsafe { munmap(self.place.cast(), self.len) };
    }
}

/// An environment with the observer's variables in it. Nothing where there is nothing to be added.
fn completed(env: *const *const c_char) -> Option<Region> {
    let (library, record) = (LIBRARY.get()?, RECORD.get()?);
    // SAFETY: null, or a list of strings that ends in null. What is written lies in the region, which
    // has room for the list with two more and its end, and for one string of the given length.
    unsafe {
        let (mut count, mut others) = (0, None);
        while !env.is_null() && !(*env.add(count)).is_null() {
            if has_name(*env.add(count), PRELOAD) {
                others = Some(CStr::from_ptr(*env.add(count)).to_bytes());
            }
            count += 1;
        }
        let others = others.map(|text| &text[PRELOAD.len()..]).filter(|text| !text.is_empty());
        let is_ours = others.is_some_and(|others| others.starts_with(&library[PRELOAD.len()..]));
        let text_len = library.len() + others.map_or(0, |others| others.len() + 1) + 1;
        let region = Region::new((count + 3) * WORD + text_len)?;
        let list: *mut *const c_char = region.place.cast();
        let text = region.place.add((count + 3) * WORD);
        let (mut to, mut has_record) = (0, false);
        for index in 0..count {
            let pair = *env.add(index);
            if has_name(pair, PRELOAD) && !is_ours {
                continue;
            }
            has_record |= is_record(pair);
            *list.add(to) = pair;
            to += 1;
        }
        if !is_ours {
            core::ptr::copy_nonoverlapping(library.as_ptr(), text, library.len());
            if let Some(others) = others {
                *text.add(library.len()) = b':';
                core::ptr::copy_nonoverlapping(others.as_ptr(), text.add(library.len() + 1), others.len());
            }
            *list.add(to) = text.cast();
            to += 1;
        }
        if !has_record {
            *list.add(to) = record.as_ptr().cast();
        }
        Some(region)
    }
}

/// A program that is about to take the place of this one.
pub(crate) struct Exec {
    env_at: usize,
    env: Option<Region>,
    dir: c_int,
    path: *const c_char,
}

impl Exec {
    fn begin(dir: c_int, path: *const c_char, env: *const *const c_char, env_at: usize) -> Exec {
        note_program(THERE, 0, dir, path);
        Exec { env_at, env: completed(env), dir, path }
    }

    fn env(&self, given: *const *const c_char) -> *const *const c_char {
        self.env.as_ref().map_or(given, |region| region.place.cast_const().cast())
    }

    /// The arguments of its system call with the environment that it is to have.
    pub(crate) fn args(&self, mut args: [usize; 6]) -> [usize; 6] {
        args[self.env_at] = self.env(args[self.env_at] as *const *const c_char) as usize;
        args
    }

    /// It did not take place: this program goes on. Keeps `errno`.
    pub(crate) fn end(self) {
        // SAFETY: `errno` is a word of this thread.
        unsafe {
            let errno = *crate::__errno_location();
            note_program(FAILED, 0, self.dir, self.path);
            self.env.into_iter().for_each(Region::free);
            *crate::__errno_location() = errno;
        }
    }
}

/// Notes a program that this process becomes, or another one that it has started.
fn note_program(outcome: u8, process: u32, dir: c_int, path: *const c_char) {
    if path.is_null() {
        return;
    }
    // SAFETY: a string that the C library or the kernel is about to read, or has read.
    let path = unsafe { CStr::from_ptr(path).to_bytes() };
    let write = |pieces: &[&[u8]]| crate::note_of(process, Kind::Executed, outcome, pieces);
    match path {
        // A descriptor is the program.
        [] => crate::directory_of(dir, |place| write(&[place])),
        // By its name alone it is looked for in `PATH`, or lies in the directory.
        path if path.first() == Some(&b'/') || dir == AT_FDCWD && !path.contains(&b'/') => write(&[path]),
        path => crate::directory_of(dir, |place| write(&[place, b"/", path])),
    }
}

/// A system call that starts a program.
pub(crate) fn begin_request(asked: c_long, args: &[usize; 6]) -> Option<Exec> {
    let begin = |dir, path: usize, env: usize, env_at| {
        Exec::begin(dir, path as *const c_char, env as *const *const c_char, env_at)
    };
    match asked {
        number::EXECVE => Some(begin(AT_FDCWD, args[0], args[2], 2)),
        number::EXECVEAT => Some(begin(args[0] as c_int, args[1], args[3], 3)),
        _ => None,
    }
}

type Path = *const c_char;
type List = *const *const c_char;

/// Which function it was.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Way {
    Place = 0,
    WithEnvironment = 1,
    Search = 2,
}

unsafe fn exec(way: Way, path: Path, args: List, env: List) -> c_int {
    let next = match way {
        Way::Search => find(&crate::EXECVPE, c"execvpe"),
        _ => find(&crate::EXECVE, c"execve"),
    };
    if next.is_null() {
        return crate::not_there();
    }
    let exec = Exec::begin(AT_FDCWD, path, env, 2);
    // SAFETY: the function behind ours has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(Path, List, List) -> c_int = transmute(next);
        next(path, args, exec.env(env))
    };
    exec.end();
    answer
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execve(path: Path, args: List, env: List) -> c_int {
    // SAFETY: what we got.
    unsafe { exec(Way::WithEnvironment, path, args, env) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execv(path: Path, args: List) -> c_int {
    // SAFETY: what we got, and the environment, as the C library does it.
    unsafe { exec(Way::Place, path, args, environ) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execvp(path: Path, args: List) -> c_int {
    // SAFETY: as above.
    unsafe { exec(Way::Search, path, args, environ) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execvpe(path: Path, args: List, env: List) -> c_int {
    // SAFETY: what we got.
    unsafe { exec(Way::Search, path, args, env) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fexecve(file: c_int, args: List, env: List) -> c_int {
    let next = find(&crate::FEXECVE, c"fexecve");
    if next.is_null() {
        return crate::not_there();
    }
    let exec = Exec::begin(file, c"".as_ptr(), env, 2);
    // SAFETY: the function behind ours has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, List, List) -> c_int = transmute(next);
        next(file, args, exec.env(env))
    };
    exec.end();
    answer
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execveat(dir: c_int, path: Path, args: List, env: List, flags: c_int) -> c_int {
    let next = find(&crate::EXECVEAT, c"execveat");
    if next.is_null() {
        return crate::not_there();
    }
    let exec = Exec::begin(dir, path, env, 3);
    // SAFETY: the function behind ours has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, Path, List, List, c_int) -> c_int = transmute(next);
        next(dir, path, args, exec.env(env), flags)
    };
    exec.end();
    answer
}

// `execl` and its like take as many arguments as they are given. Those in registers are laid down
// before those on the stack, and both places are handed on.
#[cfg(target_arch = "x86_64")]
const IN_REGISTERS: usize = 5;
#[cfg(target_arch = "aarch64")]
const IN_REGISTERS: usize = 7;

macro_rules! listed {
    ($($name:ident $way:expr;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                core::arch::naked_asm!(
                    "push r9", "push r8", "push rcx", "push rdx", "push rsi",
                    "mov rsi, rsp",
                    "lea rdx, [rsp + 48]",
                    "mov ecx, {way}",
                    "call {exec}",
                    "add rsp, 40",
                    "ret",
                    way = const $way as u32, exec = sym exec_listed,
                )
            }
            #[cfg(target_arch = "aarch64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                core::arch::naked_asm!(
                    "stp x29, x30, [sp, #-80]!",
                    "stp x1, x2, [sp, #16]", "stp x3, x4, [sp, #32]", "stp x5, x6, [sp, #48]", "str x7, [sp, #64]",
                    "add x1, sp, #16",
                    "add x2, sp, #80",
                    "mov w3, #{way}",
                    "bl {exec}",
                    "ldp x29, x30, [sp], #80",
                    "ret",
                    way = const $way as u32, exec = sym exec_listed,
                )
            }
        )*
    };
}

listed! {
    execl Way::Place;
    execle Way::WithEnvironment;
    execlp Way::Search;
}

unsafe extern "C" fn exec_listed(path: Path, registers: List, stack: List, way: Way) -> c_int {
    let arg = |index: usize| {
        // SAFETY: the arguments end in null, and nobody goes further, but for an environment behind it.
        unsafe { if index < IN_REGISTERS { *registers.add(index) } else { *stack.add(index - IN_REGISTERS) } }
    };
    let count = (0..).take_while(|index| !arg(*index).is_null()).count();
    let Some(list) = Region::new((count + 1) * WORD) else { return crate::not_there() };
    let args: *mut Path = list.place.cast();
    // SAFETY: there is room for so many and the end.
    let answer = unsafe {
        (0..count).for_each(|index| *args.add(index) = arg(index));
        let env = if way == Way::WithEnvironment { arg(count + 1).cast() } else { environ };
        exec(way, path, args, env)
    };
    list.free();
    answer
}

/// How many processes are started whose number nobody here is told.
const UNKNOWN: u32 = u32::MAX;

/// The process of a program that could not be started.
const NOBODY: u32 = u32::MAX - 1;

macro_rules! spawn {
    ($($slot:ident $name:ident $process:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(
                process: *mut c_int,
                path: Path,
                actions: *const c_void,
                attributes: *const c_void,
                args: List,
                env: List,
            ) -> c_int {
                const ENOSYS: c_int = 38;
                // SAFETY: the name has no zero in it but its last.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = find(&crate::$slot, name);
                if next.is_null() {
                    return ENOSYS;
                }
                let region = completed(env);
                let given = region.as_ref().map_or(env, |region| region.place.cast_const().cast());
                let mut number = 0;
                // SAFETY: the function behind ours has this type; the caller may not want to be told.
                let failed = unsafe {
                    type Spawn =
                        unsafe extern "C" fn(*mut c_int, Path, *const c_void, *const c_void, List, List) -> c_int;
                    let next: Spawn = transmute(next);
                    let failed = next(&raw mut number, path, actions, attributes, args, given);
                    if failed == 0 && !process.is_null() {
                        *process = number;
                    }
                    failed
                };
                if failed == 0 {
                    let known: fn(c_int) -> u32 = $process;
                    note_program(THERE, known(number), AT_FDCWD, path);
                } else {
                    note_program(FAILED, NOBODY, AT_FDCWD, path);
                }
                region.into_iter().for_each(Region::free);
                failed
            }
        )*
    };
}

spawn! {
    POSIX_SPAWN posix_spawn |process| process as c_uint;
    POSIX_SPAWNP posix_spawnp |process| process as c_uint;
    // These say a descriptor of the process.
    PIDFD_SPAWN pidfd_spawn |_| UNKNOWN;
    PIDFD_SPAWNP pidfd_spawnp |_| UNKNOWN;
}

/// What the C library starts by itself has the environment that there is then. It is complete for so
/// long. The list stays: another thread may be walking through it.
fn with_environment<T>(start: impl FnOnce() -> T) -> T {
    note_program(THERE, UNKNOWN, AT_FDCWD, c"/bin/sh".as_ptr());
    // SAFETY: a word of the C library.
    unsafe {
        let before = environ;
        let Some(region) = completed(before) else { return start() };
        environ = region.place.cast_const().cast();
        let outcome = start();
        environ = before;
        outcome
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn system(command: Path) -> c_int {
    let next = find(&crate::SYSTEM, c"system");
    if next.is_null() {
        return crate::not_there();
    }
    // SAFETY: the function behind ours has this type.
    let next: unsafe extern "C" fn(Path) -> c_int = unsafe { transmute(next) };
    if command.is_null() {
        // Whether there is a shell at all.
        // SAFETY: as above.
        return unsafe { next(command) };
    }
    // SAFETY: as above.
    with_environment(|| unsafe { next(command) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn popen(command: Path, mode: Path) -> *mut c_void {
    let next = find(&crate::POPEN, c"popen");
    if next.is_null() {
        crate::not_there();
        return null_mut();
    }
    // SAFETY: the function behind ours has this type.
    with_environment(|| unsafe {
        let next: unsafe extern "C" fn(Path, Path) -> *mut c_void = transmute(next);
        next(command, mode)
    })
}
