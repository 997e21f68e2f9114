//! Functions that start programs. Each program is noted before it starts, and gets the observer's two variables.
//!
//! When a program starts, the observer removes its two variables from the environment, so that the program sees the
//! environment that it would have without the observer. It adds them again for each program that is started from
//! there, even if the caller passes an empty environment. A program that is noted here and writes no
//! [`Kind::Started`] could not be observed.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::syscalls::number;
use crate::{
    AT_FDCWD, FAILED, Kind, PATH_BYTES_MAX, PROT_READ_WRITE, THERE, VARIABLE, environ, mmap, munmap,
    next_definition,
};

const PRELOAD: &[u8] = b"LD_PRELOAD=";
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const WORD: usize = size_of::<usize>();

/// One of the observer's own variables as `NAME=value`, with a final zero. Empty until it is set.
struct EnvironmentEntry(UnsafeCell<[u8; PATH_BYTES_MAX]>, AtomicUsize);

// SAFETY: the bytes are written once, when the program starts, before the length is set.
unsafe impl Sync for EnvironmentEntry {}

impl EnvironmentEntry {
    const fn none() -> EnvironmentEntry {
        EnvironmentEntry(UnsafeCell::new([0; PATH_BYTES_MAX]), AtomicUsize::new(0))
    }

    fn set(&self, text: &[u8]) -> bool {
        if text.len() >= PATH_BYTES_MAX {
            return false;
        }
        // SAFETY: there is one thread, and the length is still zero.
        unsafe { (&mut *self.0.get())[..text.len()].copy_from_slice(text) };
        self.1.store(text.len(), Ordering::Release);
        true
    }

    fn get(&self) -> Option<&[u8]> {
        let len = self.1.load(Ordering::Acquire);
        // SAFETY: the bytes do not change any more.
        (len > 0).then(|| unsafe { &(&*self.0.get())[..len] })
    }
}

/// The `LD_PRELOAD` with this library, and the variable that names the record.
static LIBRARY: EnvironmentEntry = EnvironmentEntry::none();
static RECORD: EnvironmentEntry = EnvironmentEntry::none();

/// Whether a pair `NAME=value` begins with this name.
fn has_name(pair: *const c_char, name: &[u8]) -> bool {
    // SAFETY: the comparison ends at the pair's zero, because the name contains none.
    (0..name.len()).all(|index| unsafe { *pair.add(index) } as u8 == name[index])
}

fn is_record(pair: *const c_char) -> bool {
    let name = VARIABLE.to_bytes();
    // SAFETY: the string is at least as long as the name.
    has_name(pair, name) && unsafe { *pair.add(name.len()) } as u8 == b'='
}

/// Removes the observer's variables from the environment, and keeps them for programs that this one starts. Must run
/// before there are threads, and before `main` gets the environment.
pub(crate) fn hide_variables() {
    // SAFETY: `environ` is a list of strings that ends in null. The program may change it, and no string gets longer.
    unsafe {
        let list = environ.cast_mut();
        let (mut from, mut to) = (0, 0);
        while !(*list.add(from)).is_null() {
            let pair = *list.add(from);
            from += 1;
            if is_record(pair) && RECORD.set(CStr::from_ptr(pair).to_bytes()) {
                continue;
            }
            if has_name(pair, PRELOAD) && !take_first_library(pair.cast_mut()) {
                continue;
            }
            *list.add(to) = pair;
            to += 1;
        }
        *list.add(to) = null();
    }
}

/// Removes the first library, which is this one, from `LD_PRELOAD=…`. Returns whether the variable must stay,
/// because other libraries are left or because the entry is too long to be kept.
unsafe fn take_first_library(pair: *mut c_char) -> bool {
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

/// Memory from `mmap`, because the observer must not call the program's allocator.
struct MappedMemory {
    start: *mut u8,
    len: usize,
}

impl MappedMemory {
    fn new(len: usize) -> Option<MappedMemory> {
        // SAFETY: the kernel chooses unused addresses.
        let start = unsafe { mmap(null_mut(), len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
        (start as isize != -1).then_some(MappedMemory { start: start.cast(), len })
    }

    fn free(self) {
        // SAFETY: the caller does not use the memory any more.
        unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// A copy of the list `env` with the observer's variables. `None` if this process has none of them to pass on, or if
/// there is no memory. The copy shares the caller's strings.
fn with_observer_variables(env: *const *const c_char) -> Option<MappedMemory> {
    let (library, record) = (LIBRARY.get()?, RECORD.get()?);
    // SAFETY: `env` is null or a list of strings that ends in null. The region has room for the list, two more
    // entries and the final null, and for one text of `text_len` bytes.
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
        let region = MappedMemory::new((count + 3) * WORD + text_len)?;
        let list: *mut *const c_char = region.start.cast();
        let text = region.start.add((count + 3) * WORD);
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

/// A call that is about to replace this program by another one.
pub(crate) struct ExecAttempt {
    env_at: usize,
    env: Option<MappedMemory>,
    dir: c_int,
    path: *const c_char,
}

impl ExecAttempt {
    fn begin(dir: c_int, path: *const c_char, env: *const *const c_char, env_at: usize) -> ExecAttempt {
        note_program(THERE, 0, dir, path);
        ExecAttempt { env_at, env: with_observer_variables(env), dir, path }
    }

    fn env(&self, given: *const *const c_char) -> *const *const c_char {
        self.env.as_ref().map_or(given, |region| region.start.cast_const().cast())
    }

    /// The arguments of its system call, with the environment for the new program.
    pub(crate) fn args(&self, mut args: [usize; 6]) -> [usize; 6] {
        args[self.env_at] = self.env(args[self.env_at] as *const *const c_char) as usize;
        args
    }

    /// Notes that the call failed, which is the only way for it to return. Keeps `errno`.
    pub(crate) fn end(self) {
        // SAFETY: `errno` is a word of this thread.
        unsafe {
            let errno = *crate::__errno_location();
            note_program(FAILED, 0, self.dir, self.path);
            self.env.into_iter().for_each(MappedMemory::free);
            *crate::__errno_location() = errno;
        }
    }
}

/// Notes that a process executes a program. `process` is zero for this process.
fn note_program(outcome: u8, process: u32, dir: c_int, path: *const c_char) {
    if path.is_null() {
        return;
    }
    // SAFETY: a string that the C library or the kernel is about to read, or has read.
    let path = unsafe { CStr::from_ptr(path).to_bytes() };
    let write = |pieces: &[&[u8]]| crate::note_of(process, Kind::Executed, outcome, pieces);
    match path {
        // The descriptor `dir` is the program.
        [] => crate::directory_of(dir, |program| write(&[program])),
        // A name without a slash is searched in `PATH`, or is relative to the current directory.
        path if path.first() == Some(&b'/') || dir == AT_FDCWD && !path.contains(&b'/') => write(&[path]),
        path => crate::directory_of(dir, |dir| write(&[dir, b"/", path])),
    }
}

/// Begins a raw system call if it executes a program.
pub(crate) fn begin_syscall(sysno: c_long, args: &[usize; 6]) -> Option<ExecAttempt> {
    let begin = |dir, path: usize, env: usize, env_at| {
        ExecAttempt::begin(dir, path as *const c_char, env as *const *const c_char, env_at)
    };
    match sysno {
        number::EXECVE => Some(begin(AT_FDCWD, args[0], args[2], 2)),
        number::EXECVEAT => Some(begin(args[0] as c_int, args[1], args[3], 3)),
        _ => None,
    }
}

type Path = *const c_char;
type List = *const *const c_char;

/// The functions of the `exec` family by what they take. The numbers are used in the assembly below.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum ExecFunction {
    /// `execv`, `execl`: a path.
    Path = 0,
    /// `execve`, `execle`: a path and an environment.
    PathAndEnvironment = 1,
    /// `execvp`, `execvpe`, `execlp`: a name that is searched in `PATH`.
    Name = 2,
}

unsafe fn exec(function: ExecFunction, path: Path, args: List, env: List) -> c_int {
    let next = match function {
        ExecFunction::Name => next_definition(&crate::EXECVPE, c"execvpe"),
        _ => next_definition(&crate::EXECVE, c"execve"),
    };
    if next.is_null() {
        return crate::fail_with_enosys();
    }
    let exec = ExecAttempt::begin(AT_FDCWD, path, env, 2);
    // SAFETY: the next definition has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(Path, List, List) -> c_int = transmute(next);
        next(path, args, exec.env(env))
    };
    exec.end();
    answer
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execve(path: Path, args: List, env: List) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { exec(ExecFunction::PathAndEnvironment, path, args, env) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execv(path: Path, args: List) -> c_int {
    // SAFETY: the arguments are the caller's; the C library's `execv` passes `environ`, too.
    unsafe { exec(ExecFunction::Path, path, args, environ) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execvp(path: Path, args: List) -> c_int {
    // SAFETY: as above.
    unsafe { exec(ExecFunction::Name, path, args, environ) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execvpe(path: Path, args: List, env: List) -> c_int {
    // SAFETY: the arguments are the caller's.
    unsafe { exec(ExecFunction::Name, path, args, env) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fexecve(file: c_int, args: List, env: List) -> c_int {
    let next = next_definition(&crate::FEXECVE, c"fexecve");
    if next.is_null() {
        return crate::fail_with_enosys();
    }
    let exec = ExecAttempt::begin(file, c"".as_ptr(), env, 2);
    // SAFETY: the next definition has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, List, List) -> c_int = transmute(next);
        next(file, args, exec.env(env))
    };
    exec.end();
    answer
}

#[unsafe(no_mangle)]
unsafe extern "C" fn execveat(dir: c_int, path: Path, args: List, env: List, flags: c_int) -> c_int {
    let next = next_definition(&crate::EXECVEAT, c"execveat");
    if next.is_null() {
        return crate::fail_with_enosys();
    }
    let exec = ExecAttempt::begin(dir, path, env, 3);
    // SAFETY: the next definition has this type.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, Path, List, List, c_int) -> c_int = transmute(next);
        next(dir, path, args, exec.env(env), flags)
    };
    exec.end();
    answer
}

// `execl`, `execle` and `execlp` have a variable number of arguments, which stable Rust cannot receive. The assembly
// stores those in registers on the stack, and passes two addresses on: theirs and that of the arguments which were on
// the stack already.
#[cfg(target_arch = "x86_64")]
const IN_REGISTERS: usize = 5;
#[cfg(target_arch = "aarch64")]
const IN_REGISTERS: usize = 7;

macro_rules! variadic {
    ($($name:ident $function:expr;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                core::arch::naked_asm!(
                    "push r9", "push r8", "push rcx", "push rdx", "push rsi",
                    "mov rsi, rsp",
                    "lea rdx, [rsp + 48]",
                    "mov ecx, {function}",
                    "call {exec}",
                    "add rsp, 40",
                    "ret",
                    function = const $function as u32, exec = sym exec_listed,
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
                    "mov w3, #{function}",
                    "bl {exec}",
                    "ldp x29, x30, [sp], #80",
                    "ret",
                    function = const $function as u32, exec = sym exec_listed,
                )
            }
        )*
    };
}

variadic! {
    execl ExecFunction::Path;
    execle ExecFunction::PathAndEnvironment;
    execlp ExecFunction::Name;
}

unsafe extern "C" fn exec_listed(path: Path, registers: List, stack: List, function: ExecFunction) -> c_int {
    let arg = |index: usize| {
        // SAFETY: the list ends in null, and only `execle`'s environment is read behind that.
        unsafe { if index < IN_REGISTERS { *registers.add(index) } else { *stack.add(index - IN_REGISTERS) } }
    };
    let count = (0..).take_while(|index| !arg(*index).is_null()).count();
    let Some(list) = MappedMemory::new((count + 1) * WORD) else { return crate::fail_with_enosys() };
    let args: *mut Path = list.start.cast();
    // SAFETY: the memory has room for `count` arguments and the final null.
    let answer = unsafe {
        (0..count).for_each(|index| *args.add(index) = arg(index));
        let env = if function == ExecFunction::PathAndEnvironment { arg(count + 1).cast() } else { environ };
        exec(function, path, args, env)
    };
    list.free();
    answer
}

/// The process of a note whose number the C library does not return. Each such note counts one process.
const UNKNOWN_PROCESS: u32 = u32::MAX;

/// The process of a note on a program that could not be started.
const NO_PROCESS: u32 = u32::MAX - 1;

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
                // SAFETY: the only zero in the name is its last byte.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
                let next = next_definition(&crate::$slot, name);
                if next.is_null() {
                    return ENOSYS;
                }
                let region = with_observer_variables(env);
                let given = region.as_ref().map_or(env, |region| region.start.cast_const().cast());
                let mut number = 0;
                // SAFETY: the next definition has this type; `process` may be null.
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
                    let noted_process: fn(c_int) -> u32 = $process;
                    note_program(THERE, noted_process(number), AT_FDCWD, path);
                } else {
                    note_program(FAILED, NO_PROCESS, AT_FDCWD, path);
                }
                region.into_iter().for_each(MappedMemory::free);
                failed
            }
        )*
    };
}

spawn! {
    POSIX_SPAWN posix_spawn |process| process as c_uint;
    POSIX_SPAWNP posix_spawnp |process| process as c_uint;
    // These return a descriptor of the process.
    PIDFD_SPAWN pidfd_spawn |_| UNKNOWN_PROCESS;
    PIDFD_SPAWNP pidfd_spawnp |_| UNKNOWN_PROCESS;
}

/// Runs `start` while `environ` contains the observer's variables, for `system` and `popen`, which pass `environ`
/// to the shell. The list is not freed afterwards, because another thread may be reading it.
fn with_environment<T>(start: impl FnOnce() -> T) -> T {
    note_program(THERE, UNKNOWN_PROCESS, AT_FDCWD, c"/bin/sh".as_ptr());
    // SAFETY: `environ` is a word of the C library.
    unsafe {
        let before = environ;
        let Some(region) = with_observer_variables(before) else { return start() };
        environ = region.start.cast_const().cast();
        let outcome = start();
        environ = before;
        outcome
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn system(command: Path) -> c_int {
    let next = next_definition(&crate::SYSTEM, c"system");
    if next.is_null() {
        return crate::fail_with_enosys();
    }
    // SAFETY: the next definition has this type.
    let next: unsafe extern "C" fn(Path) -> c_int = unsafe { transmute(next) };
    if command.is_null() {
        // The call only asks whether there is a shell.
        // SAFETY: as above.
        return unsafe { next(command) };
    }
    // SAFETY: as above.
    with_environment(|| unsafe { next(command) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn popen(command: Path, mode: Path) -> *mut c_void {
    let next = next_definition(&crate::POPEN, c"popen");
    if next.is_null() {
        crate::fail_with_enosys();
        return null_mut();
    }
    // SAFETY: the next definition has this type.
    with_environment(|| unsafe {
        let next: unsafe extern "C" fn(Path, Path) -> *mut c_void = transmute(next);
        next(command, mode)
    })
}
