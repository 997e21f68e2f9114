//! Paths that begin in a virtual file system such as `/proc`, which are resolved while the program runs.
//!
//! `/proc/self/cwd/x` and `/dev/fd/3` are different files for each process, and `/dev/shm` is an ordinary directory.
//! Such a path is noted as the path to which it leads. Nothing is noted if the kernel generates the file.

use core::ffi::{c_int, c_long, c_uint, c_void};
use core::mem::transmute;

use crate::{AT_FDCWD, O_CLOEXEC, OPENAT, PATH_BYTES_MAX, Path, STATX, directory, resolved, with_buffer};

const O_PATH: c_int = 0o10000000;
const AT_EMPTY_PATH: c_int = 0x1000;
const STATX_TYPE: c_uint = 1;

/// The offset of `stx_mode` in `struct statx`.
const STATX_MODE_AT: usize = 28;

/// The bits of a mode that hold the type of a file, and their values for character and block devices.
const S_IFMT: u16 = 0o170000;
const DEVICES: [u16; 2] = [0o020000, 0o060000];

/// `f_type` of the file systems whose files the kernel generates: processes, devices, terminals, control groups,
/// tracing and others.
const VIRTUAL_FILE_SYSTEMS: &[u32] = &[
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x1980_0202,
    0xde5e_81e4,
    0x6165_676c,
    0xf97c_ff8c,
    0x6265_6570,
    0x6573_5543,
    0x6e73_6673,
    0x4249_4e4d,
    0x0904_1934,
    0x5049_5045,
    0x534f_434b,
];

/// The end of the path of an open file that was deleted.
const DELETED: &[u8] = b" (deleted)";

#[link(name = "c")]
unsafe extern "C" {
    fn close(fd: c_int) -> c_int;
    fn fstatfs(fd: c_int, out: *mut c_void) -> c_int;
}

/// Whether a path may begin in a virtual file system.
pub(crate) fn may_be_kernel_path(path: &[u8]) -> bool {
    [&b"/proc/"[..], b"/sys/", b"/dev/"].iter().any(|start| path.starts_with(start))
}

/// Resolves the beginning of a path that may lie in a virtual file system, and passes the path to which it leads
/// and the unresolved rest to `run`. Does not call `run` for a file that the kernel generates. `pieces` are
/// concatenated.
///
/// Symbolic links in the rest are a user's, and are observed like those of any other path. So `/dev/shm/link/x` is
/// passed on unchanged, and `/proc/self/cwd/link/x` as `link/x` in the current directory.
pub(crate) fn follow(pieces: &[&[u8]], run: impl FnOnce(&[u8], &[u8])) {
    with_buffer(|whole| with_buffer(|name| follow_in(whole, name, pieces, run)));
}

fn follow_in(
    whole: &mut [u8; PATH_BYTES_MAX],
    name: &mut [u8; PATH_BYTES_MAX],
    pieces: &[&[u8]],
    run: impl FnOnce(&[u8], &[u8]),
) {
    let mut len = 0;
    for piece in pieces {
        let Some(room) = whole.get_mut(len..len + piece.len()) else { return };
        room.copy_from_slice(piece);
        len += piece.len();
    }
    if len >= PATH_BYTES_MAX {
        return;
    }
    let path = &whole[..len];
    let ends = |from: usize| path[from..].iter().position(|byte| *byte == b'/').map_or(len, |at| from + at);
    // Extends `end` component by component until the path has left the virtual file systems. `/dev` itself may be in
    // none although `/dev/fd` is, so begin with two components.
    let first = ends(1);
    let mut end = if first < len { ends(first + 1) } else { len };
    loop {
        name[..end].copy_from_slice(&path[..end]);
        name[end] = 0;
        let Some(fd) = open(name.as_ptr().cast()) else { return };
        if fd < 0 {
            // An absent entry of `/dev` is noted, because any program may create it. Every longer path lies in a
            // directory that was opened before and is virtual.
            if path.starts_with(b"/dev/") && end == ends(b"/dev/".len()) {
                run(path, &[]);
            }
            return;
        }
        let is_virtual = is_in_virtual_file_system(fd) || end == len && is_device(fd);
        let target = directory(fd, name).filter(|target| !target.ends_with(DELETED));
        // SAFETY: this function opened the descriptor.
        unsafe { close(fd) };
        if let (Some(target), false) = (target, is_virtual) {
            // The rest begins with a slash, which would follow that of the root.
            return run(if target == b"/" && end < len { &[] } else { target }, &path[end..]);
        }
        if end == len {
            return;
        }
        end = ends(end + 1);
    }
}

fn open(path: Path) -> Option<c_int> {
    let next = resolved(&OPENAT)?;
    // SAFETY: the next definition has this type, and the path ends in a zero.
    Some(unsafe {
        let next: unsafe extern "C" fn(c_int, Path, c_int, ...) -> c_int = transmute(next);
        next(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0 as c_int)
    })
}

fn is_in_virtual_file_system(fd: c_int) -> bool {
    // `struct statfs` has 120 bytes and begins with `f_type`.
    let mut out = [0 as c_long; 32];
    // SAFETY: the structure fits.
    let failed = unsafe { fstatfs(fd, out.as_mut_ptr().cast()) } != 0;
    failed || VIRTUAL_FILE_SYSTEMS.contains(&(out[0] as u32))
}

fn is_device(fd: c_int) -> bool {
    let Some(next) = resolved(&STATX) else { return false };
    // `struct statx` has 256 bytes.
    let mut out = [0u8; 512];
    // SAFETY: the next definition has this type, and the structure fits.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, Path, c_int, c_uint, *mut c_void) -> c_int = transmute(next);
        next(fd, c"".as_ptr(), AT_EMPTY_PATH, STATX_TYPE, out.as_mut_ptr().cast())
    };
    let mode = u16::from_ne_bytes([out[STATX_MODE_AT], out[STATX_MODE_AT + 1]]);
    answer == 0 && DEVICES.contains(&(mode & S_IFMT))
}
