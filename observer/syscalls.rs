//! Notes on system calls by number: those that a program makes itself, and those through the C library's `syscall`.

use core::ffi::{c_char, c_int, c_long};

use crate::changes::{note_moved, note_removed};
use crate::writes::OpenEffect;
use crate::{AT_FDCWD, Kind, O_CREAT, O_TRUNC, directory_of, kind_of_readlink, kind_of_stat, note_fact, note_path};

/// The numbers of system calls on this processor.
#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    use core::ffi::c_long;
    pub const OPEN: c_long = 2;
    pub const STAT: c_long = 4;
    pub const LSTAT: c_long = 6;
    pub const RT_SIGACTION: c_long = 13;
    pub const RT_SIGPROCMASK: c_long = 14;
    pub const RT_SIGRETURN: c_long = 15;
    pub const ACCESS: c_long = 21;
    pub const CLONE: c_long = 56;
    pub const FORK: c_long = 57;
    pub const VFORK: c_long = 58;
    pub const EXECVE: c_long = 59;
    pub const TRUNCATE: c_long = 76;
    pub const GETDENTS: c_long = 78;
    pub const GETCWD: c_long = 79;
    pub const CHDIR: c_long = 80;
    pub const RENAME: c_long = 82;
    pub const MKDIR: c_long = 83;
    pub const RMDIR: c_long = 84;
    pub const CREAT: c_long = 85;
    pub const LINK: c_long = 86;
    pub const UNLINK: c_long = 87;
    pub const SYMLINK: c_long = 88;
    pub const READLINK: c_long = 89;
    pub const RT_SIGSUSPEND: c_long = 130;
    pub const SIGALTSTACK: c_long = 131;
    pub const STATFS: c_long = 137;
    pub const PIVOT_ROOT: c_long = 155;
    pub const PRCTL: c_long = 157;
    pub const ARCH_PRCTL: c_long = 158;
    pub const CHROOT: c_long = 161;
    pub const GETDENTS64: c_long = 217;
    pub const OPENAT: c_long = 257;
    pub const MKDIRAT: c_long = 258;
    pub const NEWFSTATAT: c_long = 262;
    pub const UNLINKAT: c_long = 263;
    pub const RENAMEAT: c_long = 264;
    pub const LINKAT: c_long = 265;
    pub const SYMLINKAT: c_long = 266;
    pub const READLINKAT: c_long = 267;
    pub const FACCESSAT: c_long = 269;
    pub const PSELECT6: c_long = 270;
    pub const PPOLL: c_long = 271;
    pub const UNSHARE: c_long = 272;
    pub const EPOLL_PWAIT: c_long = 281;
    pub const OPEN_BY_HANDLE_AT: c_long = 304;
    pub const SETNS: c_long = 308;
    pub const RENAMEAT2: c_long = 316;
    pub const SECCOMP: c_long = 317;
    pub const EXECVEAT: c_long = 322;
    pub const STATX: c_long = 332;
    pub const IO_URING_SETUP: c_long = 425;
    pub const CLONE3: c_long = 435;
    pub const OPENAT2: c_long = 437;
    pub const FACCESSAT2: c_long = 439;
    pub const EPOLL_PWAIT2: c_long = 441;
}

/// The numbers of system calls on this processor. A call that it lacks has a negative number, which no kernel uses.
#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    use core::ffi::c_long;
    pub const OPEN: c_long = -2;
    pub const STAT: c_long = -3;
    pub const LSTAT: c_long = -4;
    pub const ACCESS: c_long = -5;
    pub const FORK: c_long = -6;
    pub const VFORK: c_long = -7;
    pub const GETDENTS: c_long = -8;
    pub const RENAME: c_long = -9;
    pub const MKDIR: c_long = -10;
    pub const CREAT: c_long = -11;
    pub const LINK: c_long = -12;
    pub const SYMLINK: c_long = -13;
    pub const READLINK: c_long = -14;
    pub const RMDIR: c_long = -15;
    pub const UNLINK: c_long = -16;
    pub const GETCWD: c_long = 17;
    pub const MKDIRAT: c_long = 34;
    pub const UNLINKAT: c_long = 35;
    pub const SYMLINKAT: c_long = 36;
    pub const LINKAT: c_long = 37;
    pub const RENAMEAT: c_long = 38;
    pub const STATFS: c_long = 43;
    pub const TRUNCATE: c_long = 45;
    pub const FACCESSAT: c_long = 48;
    pub const CHDIR: c_long = 49;
    pub const OPENAT: c_long = 56;
    pub const GETDENTS64: c_long = 61;
    pub const READLINKAT: c_long = 78;
    pub const NEWFSTATAT: c_long = 79;
    pub const CLONE: c_long = 220;
    pub const EXECVE: c_long = 221;
    pub const OPEN_BY_HANDLE_AT: c_long = 265;
    pub const RENAMEAT2: c_long = 276;
    pub const EXECVEAT: c_long = 281;
    pub const STATX: c_long = 291;
    pub const IO_URING_SETUP: c_long = 425;
    pub const CLONE3: c_long = 435;
    pub const OPENAT2: c_long = 437;
    pub const FACCESSAT2: c_long = 439;
}

const CLONE_VM: usize = 0x100;

/// Whether a program can read files unobserved after this system call.
pub(crate) fn escapes_observation(sysno: c_long, args: &[usize; 6]) -> bool {
    match sysno {
        // A ring opens files by entries in shared memory, without a system call for each.
        number::IO_URING_SETUP => true,
        // The file is named by a handle, not by a path.
        number::OPEN_BY_HANDLE_AT => true,
        // Such threads are not created by `pthread_create`, so they are not dispatched.
        number::CLONE => args[0] & CLONE_VM != 0,
        number::CLONE3 => true,
        _ => false,
    }
}

/// The effect of a system call on the file that it opens. Must be called before the file is opened.
pub(crate) fn open_effect(sysno: c_long, args: &[usize; 6]) -> OpenEffect {
    const WRITES: c_int = 1;
    const EMPTIES: c_int = WRITES | O_CREAT | O_TRUNC;
    let open = |dir, path: usize, flags| OpenEffect::open(dir, path as *const c_char, flags);
    match sysno {
        number::OPEN => open(AT_FDCWD, args[0], args[1] as c_int),
        number::OPENAT => open(args[0] as c_int, args[1], args[2] as c_int),
        number::OPENAT2 if args[2] != 0 => {
            // SAFETY: the kernel is about to read this `struct open_how`, which begins with the flags.
            open(args[0] as c_int, args[1], unsafe { *(args[2] as *const u64) } as c_int)
        }
        number::CREAT => open(AT_FDCWD, args[0], EMPTIES),
        number::TRUNCATE => open(AT_FDCWD, args[0], WRITES),
        _ => OpenEffect::NONE,
    }
}

/// Notes a system call that has returned. `caller` is the address of the instruction. `errno` says why a call failed.
pub(crate) fn note_syscall(
    sysno: c_long,
    args: &[usize; 6],
    effect: OpenEffect,
    answer: c_long,
    caller: usize,
) {
    let path = |index: usize| args[index] as *const c_char;
    let number = |index: usize| args[index] as c_int;
    let has_failed = answer < 0;
    let note = |kind, dir, path| note_path(kind, has_failed, dir, path);
    match sysno {
        number::OPEN | number::CREAT | number::TRUNCATE => effect.note(has_failed, AT_FDCWD, path(0)),
        number::OPENAT | number::OPENAT2 => effect.note(has_failed, number(0), path(1)),
        number::READLINK => note(kind_of_readlink(answer as isize), AT_FDCWD, path(0)),
        number::READLINKAT => {
            note(kind_of_readlink(answer as isize), number(0), crate::unless_empty(path(1)))
        }
        number::STAT | number::ACCESS => note(Kind::Looked, AT_FDCWD, path(0)),
        number::LSTAT => note(Kind::Unfollowed, AT_FDCWD, path(0)),
        number::NEWFSTATAT => note(kind_of_stat(number(3)), number(0), crate::unless_empty(path(1))),
        number::STATX => note(kind_of_stat(number(2)), number(0), crate::unless_empty(path(1))),
        number::FACCESSAT | number::FACCESSAT2 => {
            note(Kind::Looked, number(0), crate::unless_empty(path(1)));
        }
        number::MKDIR => note(Kind::Written, AT_FDCWD, path(0)),
        number::MKDIRAT => note(Kind::Written, number(0), path(1)),
        number::RENAME | number::LINK => note_moved(answer as c_int, AT_FDCWD, path(0), AT_FDCWD, path(1)),
        number::RENAMEAT | number::RENAMEAT2 | number::LINKAT => {
            note_moved(answer as c_int, number(0), crate::unless_empty(path(1)), number(2), path(3));
        }
        number::UNLINK | number::RMDIR => note_removed(answer as c_int, AT_FDCWD, path(0)),
        number::UNLINKAT => note_removed(answer as c_int, number(0), path(1)),
        number::CHDIR | number::STATFS => note(Kind::Looked, AT_FDCWD, path(0)),
        number::SYMLINK => note(Kind::Written, AT_FDCWD, path(1)),
        number::SYMLINKAT => note(Kind::Written, number(1), path(2)),
        number::GETCWD if !has_failed => crate::callers::note_directory(path(0), caller),
        number::GETDENTS | number::GETDENTS64 if !has_failed => {
            directory_of(number(0), |dir| note_fact(Kind::Listed, &[dir], &[]));
        }
        _ => {}
    }
}
