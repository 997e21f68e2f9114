//! Reads of files that are in the page cache, without waiting for a disk.
//!
//! A thread that must not block reads a file this way, and hands the read to another thread only
//! if the bytes are not in memory. Where the system cannot tell, nothing counts as cached.

use std::fs::File;

use bytes::BytesMut;

/// Appends exactly `len` bytes from `offset` to `buffer` if all of them are in memory. Otherwise,
/// or if the read fails, returns `false` and leaves `buffer` as it was; an ordinary read then
/// reports the error.
pub fn read_if_cached(file: &File, offset: u64, len: usize, buffer: &mut BytesMut) -> bool {
    buffer.reserve(len);
    let read = system::read_into_spare(file, offset, len, buffer);
    if read < len {
        return false;
    }
    // SAFETY: the system has just written `len` bytes after the buffer's present end.
    unsafe { buffer.set_len(buffer.len() + len) };
    true
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use bytes::BytesMut;

    /// Reads up to `len` bytes into the spare capacity of `buffer`; returns how many.
    pub(super) fn read_into_spare(file: &File, offset: u64, len: usize, buffer: &mut BytesMut) -> usize {
        let Ok(offset) = libc::off_t::try_from(offset) else { return 0 };
        let spare = buffer.spare_capacity_mut();
        let len = len.min(spare.len());
        let slice = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: len };
        // SAFETY: the slice is room that `spare` owns, and the descriptor is open.
        let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const slice, 1, offset, libc::RWF_NOWAIT) };
        usize::try_from(read).unwrap_or(0)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;

    use bytes::BytesMut;

    pub(super) fn read_into_spare(_file: &File, _offset: u64, _len: usize, _buffer: &mut BytesMut) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_cached_read_appends_all_bytes_or_none() {
        let mut file = tempfile::tempfile().expect("a place for temporary files");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).expect("room for a small file");
        let mut buffer = BytesMut::from(&b"head"[..]);
        // Bytes that were just written are in memory, where the system can tell.
        if read_if_cached(&file, 10, 70_000, &mut buffer) {
            assert!(buffer[..4] == b"head"[..] && buffer[4..] == bytes[10..70_010]);
        } else {
            assert_eq!(&buffer[..], b"head");
        }
        let before = buffer.clone();
        assert!(!read_if_cached(&file, 99_000, 1_001, &mut buffer), "the file is shorter");
        assert!(!read_if_cached(&file, u64::MAX, 1, &mut buffer));
        assert_eq!(buffer, before);
    }
}
