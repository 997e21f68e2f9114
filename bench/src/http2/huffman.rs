//! HPACK's Huffman code (RFC 7541, appendix B), decoding only.
//!
//! The code is canonical: it follows from the lengths of its codes.

/// The length in bits of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;

/// The code in a form that is quick to decode: for each length, the first code of that length and the index of its
/// byte among all bytes in the order of their codes.
pub(crate) struct Huffman {
    first_code: [u32; LENGTH_MAX + 1],
    first_index: [usize; LENGTH_MAX + 1],
    counts: [u32; LENGTH_MAX + 1],
    ordered: Vec<u8>,
}

impl Huffman {
    pub(crate) fn new() -> Huffman {
        let mut ordered: Vec<u8> = (0..=255).collect();
        ordered.sort_by_key(|&byte| (LENGTHS[usize::from(byte)], byte));
        let mut counts = [0u32; LENGTH_MAX + 1];
        LENGTHS.iter().for_each(|&length| counts[usize::from(length)] += 1);
        let (mut first_code, mut first_index) = ([0u32; LENGTH_MAX + 1], [0usize; LENGTH_MAX + 1]);
        for length in 1..=LENGTH_MAX {
            first_code[length] = (first_code[length - 1] + counts[length - 1]) << 1;
            first_index[length] = first_index[length - 1] + counts[length - 1] as usize;
        }
        Huffman { first_code, first_index, counts, ordered }
    }

    /// Decodes bytes. The bits that are left at the end are padding.
    pub(crate) fn decode(&self, coded: &[u8]) -> String {
        let mut text = Vec::with_capacity(coded.len() * 2);
        let (mut code, mut length) = (0u32, 0usize);
        for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
            code = code << 1 | u32::from(bit);
            length += 1;
            if length > LENGTH_MAX {
                break;
            }
            let offset = code.wrapping_sub(self.first_code[length]);
            if offset < self.counts[length] {
                text.push(self.ordered[self.first_index[length] + offset as usize]);
                (code, length) = (0, 0);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_specification_are_decoded() {
        let huffman = Huffman::new();
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(huffman.decode(&host), "www.example.com");
        assert_eq!(huffman.decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]), "no-cache");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(huffman.decode(&date), "Mon, 21 Oct 2013 20:13:21 GMT");
    }
}
