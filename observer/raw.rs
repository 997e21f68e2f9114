//! System calls that a program makes by itself, past the C library.
//!
//! The kernel can turn them into signals (Syscall User Dispatch): whatever is asked from elsewhere than
//! the text of the C library raises `SIGSYS`, the handler here asks in its place, and notes it. The C
//! library's own calls go at full speed, and its functions are interposed.
//!
//! Invariants: the program gets the kernel's answer. What cannot be done from within a signal handler
//! (a thread, a signal's handler, a stack for signals) ends the observation of the whole process at
//! once, in all of its threads, with a note that says so: such a compile is not stored, and the program
//! runs on as if nothing had been there.

use core::ffi::{c_int, c_long, c_void};
use core::mem::{transmute, zeroed};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::kernel::{enter, kernel};
use crate::objects::{LIBC, LINKER};
use crate::requests::{before, is_beyond_sight, note_request, number};
use crate::signals::{self, SIGSYS, SignalAction};
use crate::{__errno_location, number as own};

const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_ON: c_int = 1;
const PR_SET_SECCOMP: c_int = 22;

/// The codes of a `SIGSYS` that is ours, and the calling convention of its system call.
const SYS_USER_DISPATCH: c_int = 2;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

const SA_SIGINFO: c_int = 4;
const SA_ONSTACK: c_int = 0x0800_0000;
const SA_RESTART: c_int = 0x1000_0000;
const SA_NODEFER: c_int = 0x4000_0000;

/// What the kernel looks at before each system call of a thread that is dispatched: one byte for all
/// threads, so that all of them can be let go at once.
static SELECTOR: AtomicU8 = AtomicU8::new(LET_PASS);
const LET_PASS: u8 = 0;
const DISPATCH: u8 = 1;

/// Whether the kernel has sent the signal for a call that was made to find out.
static IS_TRIED: AtomicBool = AtomicBool::new(false);

/// The places of registers in what a handler is given.
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

/// How long the instruction is, `int 0x80` included.
const INSTRUCTION_BYTES: i64 = 2;

/// What the kernel says of a signal; the last three are of `SIGSYS`.
#[repr(C)]
pub(crate) struct SignalInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: *const c_void,
    number: c_int,
    convention: u32,
}

/// What a signal interrupted.
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

/// Begins to dispatch this process, which has one thread of its own so far. Says whether the kernel does
/// it, which was tried.
pub(crate) fn arm() -> bool {
    // A C library whose threads are a library of their own makes system calls there.
    if LIBC.span().1 == 0 || !signals::are_of(&LIBC) {
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
    signals::keep(&before);
    SELECTOR.store(DISPATCH, Ordering::Release);
    arm_thread();
    // SAFETY: it asks for a number. From this text, so that it comes back as a signal.
    unsafe { enter(own::GETPID, [0; 6]) };
    if !IS_TRIED.load(Ordering::Relaxed) {
        SELECTOR.store(LET_PASS, Ordering::Release);
        // SAFETY: what was there before.
        unsafe { signals::replace(SIGSYS, &before) };
        return false;
    }
    true
}

/// Dispatches the thread that calls this, if its process is.
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
            && IS_TRIED.load(Ordering::Relaxed)
        {
            give_up(own::PRCTL);
        }
        *__errno_location() = errno;
    }
}

/// Lets go of the process, and says so, with the number of the system call that it is about.
pub(crate) fn give_up(asked: c_long) {
    if SELECTOR.swap(LET_PASS, Ordering::AcqRel) == DISPATCH {
        crate::note_unseen(asked);
    }
}

extern "C" fn on_system_call(signal: c_int, info: *mut SignalInfo, context: *mut Context) {
    // SAFETY: the kernel has filled in both, and nobody else has them.
    unsafe {
        if (*info).code != SYS_USER_DISPATCH {
            signals::hand_on(signal, info.cast(), context.cast());
            return;
        }
        let errno = *__errno_location();
        answer(&*info, &mut (*context).registers);
        *__errno_location() = errno;
    }
}

/// Asks in the place of the program.
fn answer(info: &SignalInfo, registers: &mut [i64; 23]) {
    use register::{R8, R9, R10, RAX, RDI, RDX, RIP, RSI};
    let asked = c_long::from(info.number);
    let args = [RDI, RSI, RDX, R10, R8, R9].map(|register| registers[register] as usize);
    if !IS_TRIED.swap(true, Ordering::Relaxed) {
        registers[RAX] = 0;
        return;
    }
    if info.convention != AUDIT_ARCH_X86_64 || is_for_itself(asked, &args) || is_beyond_sight(asked, &args) {
        give_up(asked);
        // It is asked again when the handler has returned, and passes then.
        registers[RIP] -= INSTRUCTION_BYTES;
        registers[RAX] = asked as i64;
        return;
    }
    let is_linkers = LINKER.contains(info.address as usize);
    let before = before(asked, &args);
    let exec = (!is_linkers).then(|| crate::exec::begin_request(asked, &args)).flatten();
    let args = exec.as_ref().map_or(args, |exec| exec.args(args));
    let [a, b, c, d, e, f] = args;
    // SAFETY: what the program asks for, by way of the C library's text.
    let answer = unsafe { kernel!(asked, a, b, c, d, e, f) };
    // SAFETY: `errno` is a word of this thread, and says why it failed.
    let errno = unsafe { *__errno_location() };
    if let Some(exec) = exec {
        exec.end();
    } else if !is_linkers {
        note_request(asked, &args, before, answer, info.address as usize);
    }
    registers[RAX] = if answer == -1 && errno != 0 { -i64::from(errno) } else { answer };
}

/// Whether a system call is about the thread itself in a way that does not outlast a handler, or would
/// make the next signal end the process.
fn is_for_itself(asked: c_long, args: &[usize; 6]) -> bool {
    match asked {
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
        // With a mask of signals for the meantime.
        number::PPOLL => args[3] != 0,
        number::EPOLL_PWAIT | number::EPOLL_PWAIT2 => args[4] != 0,
        number::PSELECT6 => args[5] != 0,
        _ => asked < 0 || asked >= 1 << 30,
    }
}

/// A thread that is about to begin: what it is to run, in memory of its own.
#[repr(C)]
struct Beginning {
    function: usize,
    argument: usize,
}

const PAGE: usize = 4096;

/// What a new thread runs first: it is dispatched, and then runs what it was made for, from this very
/// frame, so that nothing of ours is on its stack.
#[unsafe(naked)]
unsafe extern "C" fn enter_thread() {
    core::arch::naked_asm!(
        "sub rsp, 8", "call {}", "add rsp, 8", "mov rdi, rdx", "jmp rax", sym begin_thread,
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

extern "C" fn begin_thread(page: *mut Beginning) -> Beginning {
    // SAFETY: `pthread_create` below has made this page for this thread.
    let beginning = unsafe { page.read() };
    // SAFETY: nobody else knows it.
    unsafe { crate::munmap(page.cast(), PAGE) };
    arm_thread();
    beginning
}

/// Children that are copies of this process are dispatched as well.
pub(crate) fn follow_forks() {
    // SAFETY: the library stays as long as the process.
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
    let next = crate::find(&crate::PTHREAD_CREATE, c"pthread_create");
    if next.is_null() {
        return EAGAIN;
    }
    // SAFETY: the function behind ours has our type.
    unsafe {
        let next: Create = transmute(next);
        if !is_armed() {
            return next(thread, attributes, function, argument);
        }
        let errno = *__errno_location();
        let page = crate::mmap(null_mut(), PAGE, crate::PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
        if page as isize == -1 {
            *__errno_location() = errno;
            give_up(number::CLONE3);
            return next(thread, attributes, function, argument);
        }
        page.cast::<Beginning>().write(Beginning { function, argument });
        let failed = next(thread, attributes, enter_thread as *const () as usize, page as usize);
        if failed != 0 {
            crate::munmap(page, PAGE);
        }
        failed
    }
}

const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;

/// A process that runs other things in its own memory makes threads that nobody dispatches.
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
    let next = crate::find(&crate::CLONE, c"clone");
    if next.is_null() {
        return crate::not_there();
    }
    if flags & CLONE_VFORK == 0 {
        give_up(number::CLONE);
    }
    // SAFETY: the function behind ours gets what we got.
    unsafe {
        let next: Clone = transmute(next);
        next(function, stack, flags, argument, parent, local, child)
    }
}
