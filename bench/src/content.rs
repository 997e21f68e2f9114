//! Contents that never repeat, with their digests, made faster than a server can take them.
//!
//! Contents of one size differ only in their last bytes, so that computing a digest hashes only those. The shared
//! part is random, so that compression gains nothing.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// The length of the part in which contents differ: one block of the hash function.
const TAIL_BYTES: usize = 64;

/// All contents of one size.
#[derive(Clone)]
pub(crate) struct Contents {
    base: Bytes,
    base_hash: Sha256,
    size: usize,
}

/// One content's name, and the bytes in which it differs from its siblings.
pub(crate) struct Content {
    /// The SHA-256, in lower-case hexadecimal digits.
    pub(crate) hash: String,
    /// The last bytes.
    pub(crate) tail: Bytes,
}

impl Contents {
    /// Contents of `size` bytes, at least a tail's length.
    pub(crate) fn new(size: usize) -> Contents {
        let mut random = Random::new(size as u64);
        let words = (size - TAIL_BYTES).div_ceil(8);
        let mut base: Vec<u8> = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        base.truncate(size - TAIL_BYTES);
        let base_hash = Sha256::new_with_prefix(&base);
        Contents { base: Bytes::from(base), base_hash, size }
    }

    /// The size of each content in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The part that all contents share.
    pub(crate) fn base(&self) -> &Bytes {
        &self.base
    }

    /// The content of this number.
    pub(crate) fn nth(&self, number: u64) -> Content {
        let mut tail = [0; TAIL_BYTES];
        tail[..8].copy_from_slice(&number.to_le_bytes());
        let hash = self.base_hash.clone().chain_update(tail).finalize();
        Content { hash: hex(&hash), tail: Bytes::copy_from_slice(&tail) }
    }

    /// Whether these are the bytes of the content of this number.
    pub(crate) fn is_nth(&self, number: u64, bytes: &[u8]) -> bool {
        let Some((base, tail)) = bytes.split_at_checked(self.base.len()) else { return false };
        base == self.base && tail == self.nth(number).tail
    }
}

/// The bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A random number generator (xorshift64*) that gives the same numbers in every run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_whole() {
        let contents = Contents::new(4096);
        for number in [0, 1, 77] {
            let content = contents.nth(number);
            let whole = [contents.base(), &content.tail[..]].concat();
            assert_eq!(whole.len(), 4096);
            assert_eq!(content.hash, hex(&Sha256::digest(&whole)));
            assert!(contents.is_nth(number, &whole) && !contents.is_nth(number + 1, &whole));
        }
    }
}
