//! Paths that begin in a file system of the kernel's, which are resolved while the program runs.
//!
//! `/proc/self/cwd/x` and `/dev/fd/3` are other files for every process, and `/dev/shm` is a directory like
//! any other. Such a path is noted as the path to which it leads, unless the kernel makes up the file itself.

use core::ffi::{c_int, c_long, c_uint, c_void};
use core::mem::transmute;

use crate::{AT_FDCWD, O_CLOEXEC, OPENAT, PATH_BYTES_MAX, Path, STATX, directory, next_of, with_buffer};

const O_PATH: c_int = 0o10000000;
const AT_EMPTY_PATH: c_int = 0x1000;
const STATX_TYPE: c_uint = 1;

/// Where the type of a file stands in what `statx` says.
const STATX_MODE_AT: usize = 28;

/// The bits of a mode that say what a file is, and those of character and block devices.
const S_IFMT: u16 = 0o170000;
const DEVICES: [u16; 2] = [0o020000, 0o060000];

/// File systems whose files are the kernel's: processes, devices, terminals, control groups, tracing and the like.
const OF_THE_KERNEL: &[u32] = &[
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

/// What the path of an open file ends with when it has no name any more.
const DELETED: &[u8] = b" (deleted)";

#[link(name = "c")]
unsafe extern "C" {
    fn close(fd: c_int) -> c_int;
    fn fstatfs(fd: c_int, out: *mut c_void) -> c_int;
}

/// Whether a path may be one that the kernel makes up.
pub(crate) fn may_be(path: &[u8]) -> bool {
    [&b"/proc/"[..], b"/sys/", b"/dev/"].iter().any(|start| path.starts_with(start))
}

/// Passes on where a path lies that may begin in a file system of the kernel's: the place to which that
/// beginning leads, and the rest of the path as it was asked for. Passes nothing on for a file of the
/// kernel's own.
///
/// Only the beginning is resolved. Symbolic links in the rest belong to whoever wrote them, and count
/// like those of any other path: `/dev/shm/link/x` is passed on as it is, and `/proc/self/cwd/link/x` as
/// `link/x` in the current directory. The path is handed over in pieces.
pub(crate) fn follow(pieces: &[&[u8]], say: impl FnOnce(&[u8], &[u8])) {
    with_buffer(|whole| with_buffer(|name| follow_in(whole, name, pieces, say)));
}

fn follow_in(
    whole: &mut [u8; PATH_BYTES_MAX],
    name: &mut [u8; PATH_BYTES_MAX],
    pieces: &[&[u8]],
    say: impl FnOnce(&[u8], &[u8]),
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
    // `/dev` itself is in no file system of the kernel's, and `/dev/fd` is.
    let first = ends(1);
    let mut end = if first < len { ends(first + 1) } else { len };
    loop {
        name[..end].copy_from_slice(&path[..end]);
        name[end] = 0;
        let Some(fd) = open(name.as_ptr().cast()) else { return };
        if fd < 0 {
            // An entry of `/dev` that is absent counts, because any program may create it there. Every
            // longer path lies in a directory that was opened before and is the kernel's own.
            if path.starts_with(b"/dev/") && end == ends(b"/dev/".len()) {
                say(path, &[]);
            }
            return;
        }
        let is_kernels = is_of_the_kernel(fd) || end == len && is_device(fd);
        let place = directory(fd, name).filter(|place| !place.ends_with(DELETED));
        // SAFETY: the descriptor is ours.
        unsafe { close(fd) };
        if let (Some(place), false) = (place, is_kernels) {
            // The rest begins with a slash, which would follow that of the root.
            return say(if place == b"/" && end < len { &[] } else { place }, &path[end..]);
        }
        if end == len {
            return;
        }
        end = ends(end + 1);
    }
}

fn open(path: Path) -> Option<c_int> {
    let next = next_of(&OPENAT)?;
    // SAFETY: the function behind ours has this type, and the path ends in a zero.
    Some(unsafe {
        let next: unsafe extern "C" fn(c_int, Path, c_int, ...) -> c_int = transmute(next);
        next(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0 as c_int)
    })
}

fn is_of_the_kernel(fd: c_int) -> bool {
    // The type is the first word of what is written, which is 120 bytes long.
    let mut out = [0 as c_long; 32];
    // SAFETY: there is room for what is written.
    let failed = unsafe { fstatfs(fd, out.as_mut_ptr().cast()) } != 0;
    failed || OF_THE_KERNEL.contains(&(out[0] as u32))
}

fn is_device(fd: c_int) -> bool {
    let Some(next) = next_of(&STATX) else { return false };
    // The kernel writes 256 bytes.
    let mut out = [0u8; 512];
    // SAFETY: the function behind ours has this type, and there is room for what is written.
    let answer = unsafe {
        let next: unsafe extern "C" fn(c_int, Path, c_int, c_uint, *mut c_void) -> c_int = transmute(next);
        next(fd, c"".as_ptr(), AT_EMPTY_PATH, STATX_TYPE, out.as_mut_ptr().cast())
    };
    let mode = u16::from_ne_bytes([out[STATX_MODE_AT], out[STATX_MODE_AT + 1]]);
    answer == 0 && DEVICES.contains(&(mode & S_IFMT))
}
