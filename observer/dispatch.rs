//! Observes raw system calls: those that a program makes without the C library.
//!
//! Linux can turn them into signals (Syscall User Dispatch). A system call instruction outside the C library's code
//! raises `SIGSYS`; the handler here makes the call in the program's place and notes it. System calls in the C
//! library's code run at full speed, because the library's functions are interposed instead.
//!
//! Invariants: the program gets the kernel's result. A system call that has another effect when a signal handler
//! makes it (it starts a thread, sets a signal handler or a signal stack) ends the observation of the whole
//! process, in all of its threads, and a note says so. The compile is then not stored, and the program continues
//! undisturbed.

use core::ffi::{c_int, c_long, c_void};
use core::mem::{transmute, zeroed};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::kernel::{enter, kernel};
use crate::objects::{LIBC, LINKER};
use crate::signals::{self, SIGSYS, SignalAction};
use crate::syscalls::{escapes_observation, note_syscall, number, open_effect};
use crate::{__errno_location, number as own};

const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_ON: c_int = 1;
const PR_SET_SECCOMP: c_int = 22;

// `si_code` and `si_arch` of a `SIGSYS` that Syscall User Dispatch raised.
const SYS_USER_DISPATCH: c_int = 2;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const SA_SIGINFO: c_int = 4;
const SA_ONSTACK: c_int = 0x0800_0000;
const SA_RESTART: c_int = 0x1000_0000;
const SA_NODEFER: c_int = 0x4000_0000;

/// The byte that the kernel reads before each system call of a dispatched thread. All threads share it, so that one
/// store ends the dispatch of all of them.
static SELECTOR: AtomicU8 = AtomicU8::new(PASS);
const PASS: u8 = 0;
const DISPATCH: u8 = 1;

/// Whether the system call that [`arm`] makes as a test has raised the signal.
static HAS_RAISED: AtomicBool = AtomicBool::new(false);

/// The indices of registers in [`Context::registers`].
mod register {
    pub const R8: usize = 0;
    pub const R9: usize = 1;
    pub const R10: usize = 2;
    pub const RDI: usize = 8;
    pub const RSI: usize = 9;
    pub const RDX: usize = 12;
    pub const RAX: usize = 13;
    pub const RIP: usize = 16;
}

/// The length of `syscall`, `sysenter` and `int 0x80`.
const INSTRUCTION_BYTES: i64 = 2;

/// The beginning of `siginfo_t` for `SIGSYS`.
#[repr(C)]
pub(crate) struct SignalInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: *const c_void,
    number: c_int,
    convention: u32,
}

/// The beginning of `ucontext_t`: the state of the thread that the signal interrupted.
#[repr(C)]
pub(crate) struct Context {
    flags: usize,
    link: *mut Context,
    stack: [usize; 3],
    registers: [i64; 23],
}

/// Whether system calls of this process are dispatched.
pub(crate) fn is_armed() -> bool {
    SELECTOR.load(Ordering::Relaxed) == DISPATCH
}

/// Starts to dispatch this process, which still has one thread. Returns whether raw system calls are observed now,
/// which a test call verifies: some kernels and sandboxes accept the `prctl` without effect.
pub(crate) fn arm() -> bool {
    // Before glibc 2.34, `libpthread` was a separate library whose system calls would be dispatched.
    if LIBC.span().1 == 0 || !signals::has_thread_functions(&LIBC) {
        return false;
    }
    // SAFETY: the structure is whole, and its handler has the type for `SA_SIGINFO`.
    let before = unsafe {
        let mut action: SignalAction = zeroed();
        action.handler = on_system_call as *const () as usize;
        action.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
        let Some(before) = signals::replace(SIGSYS, &action) else { return false };
        before
    };
    signals::remember_program_action(&before);
    SELECTOR.store(DISPATCH, Ordering::Release);
    arm_thread();
    // The instruction is in this library, so it raises the signal.
    // SAFETY: the call only returns a number.
    unsafe { enter(own::GETPID, [0; 6]) };
    if !HAS_RAISED.load(Ordering::Relaxed) {
        SELECTOR.store(PASS, Ordering::Release);
        // SAFETY: this is the previous action.
        unsafe { signals::replace(SIGSYS, &before) };
        return false;
    }
    true
}

/// Dispatches the calling thread if the process is dispatched. The kernel does not inherit this setting.
pub(crate) fn arm_thread() {
    if !is_armed() {
        return;
    }
    let (start, len) = LIBC.span();
    // SAFETY: `errno` is a word of this thread; the selector is there as long as the process.
    unsafe {
        let errno = *__errno_location();
        signals::unblock();
        if kernel!(
            own::PRCTL,
            PR_SET_SYSCALL_USER_DISPATCH,
            PR_SYS_DISPATCH_ON,
            start,
            len,
            SELECTOR.as_ptr()
        ) != 0
            && HAS_RAISED.load(Ordering::Relaxed)
        {
            stop_observing(own::PRCTL);
        }
        *__errno_location() = errno;
    }
}

/// Ends the observation of the process, and notes the number of the system call that made it necessary. Only the
/// first call writes a note.
pub(crate) fn stop_observing(sysno: c_long) {
    if SELECTOR.swap(PASS, Ordering::AcqRel) == DISPATCH {
        crate::note_unobservable_syscall(sysno);
    }
}

extern "C" fn on_system_call(signal: c_int, info: *mut SignalInfo, context: *mut Context) {
    // SAFETY: the kernel has filled in both for this handler.
    unsafe {
        if (*info).code != SYS_USER_DISPATCH {
            signals::deliver_to_program(signal, info.cast(), context.cast());
            return;
        }
        let errno = *__errno_location();
        emulate(&*info, &mut (*context).registers);
        *__errno_location() = errno;
    }
}

/// Makes the system call in the program's place, and puts the result into the program's registers.
fn emulate(info: &SignalInfo, registers: &mut [i64; 23]) {
    use register::{R8, R9, R10, RAX, RDI, RDX, RIP, RSI};
    let sysno = c_long::from(info.number);
    let args = [RDI, RSI, RDX, R10, R8, R9].map(|register| registers[register] as usize);
    if !HAS_RAISED.swap(true, Ordering::Relaxed) {
        registers[RAX] = 0;
        return;
    }
    if info.convention != AUDIT_ARCH_X86_64
        || must_run_outside_handler(sysno, &args)
        || escapes_observation(sysno, &args)
    {
        stop_observing(sysno);
        // The program executes the instruction again when the handler has returned. It is not dispatched then.
        registers[RIP] -= INSTRUCTION_BYTES;
        registers[RAX] = sysno as i64;
        return;
    }
    let is_from_linker = LINKER.contains(info.address as usize);
    let effect = open_effect(sysno, &args);
    let exec = (!is_from_linker).then(|| crate::exec::begin_syscall(sysno, &args)).flatten();
    let args = exec.as_ref().map_or(args, |exec| exec.args(args));
    let [a, b, c, d, e, f] = args;
    // SAFETY: the arguments are the program's. The call goes through the C library, so it raises no signal.
    let answer = unsafe { kernel!(sysno, a, b, c, d, e, f) };
    // SAFETY: `errno` is a word of this thread.
    let errno = unsafe { *__errno_location() };
    if let Some(exec) = exec {
        exec.end();
    } else if !is_from_linker {
        note_syscall(sysno, &args, effect, answer, info.address as usize);
    }
    registers[RAX] = if answer == -1 && errno != 0 { -i64::from(errno) } else { answer };
}

/// Whether a system call has another effect in a signal handler, because the kernel restores part of the thread's
/// state when the handler returns, or because the next `SIGSYS` would end the process.
fn must_run_outside_handler(sysno: c_long, args: &[usize; 6]) -> bool {
    match sysno {
        number::RT_SIGACTION
        | number::RT_SIGPROCMASK
        | number::RT_SIGRETURN
        | number::RT_SIGSUSPEND
        | number::SIGALTSTACK
        | number::ARCH_PRCTL
        | number::CLONE
        | number::CLONE3
        | number::FORK
        | number::VFORK
        | number::SECCOMP
        | number::UNSHARE
        | number::SETNS
        | number::CHROOT
        | number::PIVOT_ROOT => true,
        number::PRCTL => matches!(args[0] as c_int, PR_SET_SYSCALL_USER_DISPATCH | PR_SET_SECCOMP),
        // These take a signal mask that applies while they wait.
        number::PPOLL => args[3] != 0,
        number::EPOLL_PWAIT | number::EPOLL_PWAIT2 => args[4] != 0,
        number::PSELECT6 => args[5] != 0,
        _ => sysno < 0 || sysno >= 1 << 30,
    }
}

/// The function of a new thread and its argument, in a page of their own.
#[repr(C)]
struct ThreadStart {
    function: usize,
    argument: usize,
}

const PAGE: usize = 4096;

/// The first function of a new thread. It dispatches the thread, and then jumps to the program's function, so that no
/// frame of the observer stays on the stack, where a program that unwinds or scans it would meet it.
#[unsafe(naked)]
unsafe extern "C" fn enter_thread() {
    core::arch::naked_asm!(
        "sub rsp, 8", "call {}", "add rsp, 8", "mov rdi, rdx", "jmp rax", sym start_thread,
    )
}

unsafe extern "C" {
    fn __register_atfork(
        before: *const c_void,
        parent: *const c_void,
        child: extern "C" fn(),
        library: *const c_void,
    ) -> c_int;
}

extern "C" fn start_thread(page: *mut ThreadStart) -> ThreadStart {
    // SAFETY: `pthread_create` below has made this page for this thread.
    let beginning = unsafe { page.read() };
    // SAFETY: only this thread has the page.
    unsafe { crate::munmap(page.cast(), PAGE) };
    arm_thread();
    beginning
}

/// Makes children that `fork` creates dispatch themselves.
pub(crate) fn follow_forks() {
    // SAFETY: this library is never unloaded.
    unsafe { __register_atfork(null(), null(), arm_child, null()) };
}

extern "C" fn arm_child() {
    arm_thread();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    function: usize,
    argument: usize,
) -> c_int {
    type Create = unsafe extern "C" fn(*mut c_void, *const c_void, usize, usize) -> c_int;
    const EAGAIN: c_int = 11;
    let next = crate::next_definition(&crate::PTHREAD_CREATE, c"pthread_create");
    if next.is_null() {
        return EAGAIN;
    }
    // SAFETY: the next definition has this type.
    unsafe {
        let next: Create = transmute(next);
        if !is_armed() {
            return next(thread, attributes, function, argument);
        }
        let errno = *__errno_location();
        let page = crate::mmap(null_mut(), PAGE, crate::PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
        if page as isize == -1 {
            *__errno_location() = errno;
            stop_observing(number::CLONE3);
            return next(thread, attributes, function, argument);
        }
        page.cast::<ThreadStart>().write(ThreadStart { function, argument });
        let failed = next(thread, attributes, enter_thread as *const () as usize, page as usize);
        if failed != 0 {
            crate::munmap(page, PAGE);
        }
        failed
    }
}

const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;

/// `clone` creates threads that are not dispatched, unless it is used as `vfork`: such a child only calls `execve`,
/// which is interposed.
#[unsafe(no_mangle)]
unsafe extern "C" fn clone(
    function: *const c_void,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent: *mut c_void,
    local: *mut c_void,
    child: *mut c_void,
) -> c_int {
    const CLONE_VFORK: c_int = 0x4000;
    type Clone = unsafe extern "C" fn(
        *const c_void,
        *mut c_void,
        c_int,
        *mut c_void,
        *mut c_void,
        *mut c_void,
        *mut c_void,
    ) -> c_int;
    let next = crate::next_definition(&crate::CLONE, c"clone");
    if next.is_null() {
        return crate::fail_with_enosys();
    }
    if flags & CLONE_VFORK == 0 {
        stop_observing(number::CLONE);
    }
    // SAFETY: the next definition gets the arguments of this call.
    unsafe {
        let next: Clone = transmute(next);
        next(function, stack, flags, argument, parent, local, child)
    }
}
