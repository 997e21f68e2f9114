//! Digests: a hash, the function that made it, and a length.
//!
//! `Digest<Kind>` says in its type what the bytes are, so that an action's digest cannot be passed
//! where a file's is expected. `coerce` changes the kind, visibly. This module hashes and
//! parses; it knows no store.
//!
//! Invariant: every `Digest` is well-formed. Text from outside becomes a digest only through
//! `Digest::parse`, which accepts exactly the lower-case, full-length form.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use sha2::Digest as _;
use thiserror::Error;

/// The digest functions. Both give 32 bytes, so a hash does not show which function made it:
/// keys are always (function, hash).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestFunction {
    /// The function by which the store itself names blobs.
    Blake3,
    /// The function that most remote caches and clients use.
    Sha256,
}

impl DigestFunction {
    /// All functions, in the order of preference.
    pub const ALL: [DigestFunction; 2] = [DigestFunction::Blake3, DigestFunction::Sha256];

    /// Returns the lower-case name that resource names and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            DigestFunction::Blake3 => "blake3",
            DigestFunction::Sha256 => "sha256",
        }
    }

    /// Returns the hash of `bytes` by this function.
    pub fn hash(self, bytes: &[u8]) -> Hash {
        match self {
            DigestFunction::Blake3 => Hash(*blake3::hash(bytes).as_bytes()),
            DigestFunction::Sha256 => Hash(sha2::Sha256::digest(bytes).into()),
        }
    }
}

impl fmt::Display for DigestFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The 32 bytes that a digest function gives. Displayed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; Hash::LEN]);

impl Hash {
    /// The length of a hash in bytes.
    pub const LEN: usize = 32;

    /// Returns the hash as 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; Hash::LEN * 2];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of each byte as a hexadecimal digit, or [`NO_DIGIT`]. A table, because one request
/// brings a thousand digests: with a branch for each digit, parsing took 200 ns a digest, a third
/// of the time for such a request.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Marks a byte that is no digit. Any bit of the upper half would do.
const NO_DIGIT: u8 = 0x80;

impl FromStr for Hash {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError::Hash { text: excerpt(text) };
        let digits: &[u8; Hash::LEN * 2] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let mut hash = [0u8; Hash::LEN];
        let mut seen = 0;
        for (byte, pair) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
            let (high, low) = (DIGIT_VALUES[usize::from(pair[0])], DIGIT_VALUES[usize::from(pair[1])]);
            seen |= high | low;
            *byte = high << 4 | low;
        }
        if seen & NO_DIGIT == 0 { Ok(Hash(hash)) } else { Err(wrong()) }
    }
}

/// How much of a malformed text an error message repeats.
const EXCERPT_CHARS_MAX: usize = 80;

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}

/// Why a text was rejected as a digest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The hash is not 64 lower-case hexadecimal digits.
    #[error("`{text}` is not a hash: 64 lower-case hexadecimal digits are expected")]
    Hash {
        /// The beginning of the rejected text.
        text: String,
    },
    /// The size is negative or not a number.
    #[error("`{text}` is not a size in bytes")]
    Size {
        /// The beginning of the rejected text.
        text: String,
    },
}

/// The bytes are anything at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blob {}
/// The bytes are an encoded `Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActionMessage {}
/// The bytes are an encoded `Command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandMessage {}
/// The bytes are an encoded `Directory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DirectoryMessage {}
/// The bytes are an encoded `Tree`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TreeMessage {}

/// The digest of some bytes of kind `K`.
pub struct Digest<K = Blob> {
    /// The function that made `hash`.
    pub function: DigestFunction,
    /// The hash of the bytes.
    pub hash: Hash,
    /// The number of bytes. It is part of the identity: the right hash with the wrong size names
    /// nothing.
    pub size_bytes: u64,
    kind: PhantomData<fn() -> K>,
}

impl<K> Digest<K> {
    /// Puts a digest together from its parts.
    pub const fn new(function: DigestFunction, hash: Hash, size_bytes: u64) -> Self {
        Digest { function, hash, size_bytes, kind: PhantomData }
    }

    /// Computes the digest of `bytes`.
    pub fn of(function: DigestFunction, bytes: &[u8]) -> Self {
        Digest::new(function, function.hash(bytes), bytes.len() as u64)
    }

    /// Parses the digest in a wire message.
    pub fn parse(function: DigestFunction, hash: &str, size_bytes: i64) -> Result<Self, DigestError> {
        let size_bytes =
            u64::try_from(size_bytes).map_err(|_| DigestError::Size { text: size_bytes.to_string() })?;
        Ok(Digest::new(function, hash.parse()?, size_bytes))
    }

    /// Returns the digest of the empty blob, which every store holds.
    pub fn empty(function: DigestFunction) -> Self {
        Digest::of(function, &[])
    }

    /// Tells whether this is the digest of the empty blob.
    pub fn is_empty_blob(&self) -> bool {
        self.size_bytes == 0 && *self == Digest::empty(self.function)
    }

    /// Returns the same digest for another kind of bytes. The caller knows that it is right.
    pub const fn coerce<L>(self) -> Digest<L> {
        Digest::new(self.function, self.hash, self.size_bytes)
    }
}

impl<K> Clone for Digest<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Digest<K> {}
impl<K> PartialEq for Digest<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.size_bytes == other.size_bytes && self.function == other.function
    }
}
impl<K> Eq for Digest<K> {}
impl<K> std::hash::Hash for Digest<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::hash::Hash::hash(&(self.function, self.hash, self.size_bytes), state);
    }
}
impl<K> PartialOrd for Digest<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Digest<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.function, self.hash, self.size_bytes).cmp(&(other.function, other.hash, other.size_bytes))
    }
}
/// Writes `hash/size`, with the function in front unless it is SHA-256.
impl<K> fmt::Display for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function {
            DigestFunction::Sha256 => write!(f, "{}/{}", self.hash, self.size_bytes),
            DigestFunction::Blake3 => write!(f, "blake3/{}/{}", self.hash, self.size_bytes),
        }
    }
}
impl<K> fmt::Debug for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The names of one blob: always its BLAKE3, and its SHA-256 if it was stored under that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobNames {
    /// The BLAKE3, by which the store itself names the blob.
    pub blake3: Hash,
    /// The SHA-256, if it was computed.
    pub sha256: Option<Hash>,
    /// The number of bytes of the blob.
    pub size_bytes: u64,
}

impl BlobNames {
    /// Returns the digest in `function`, if it was computed.
    pub fn digest(&self, function: DigestFunction) -> Option<Digest> {
        let hash = match function {
            DigestFunction::Blake3 => Some(self.blake3),
            DigestFunction::Sha256 => self.sha256,
        };
        hash.map(|hash| Digest::new(function, hash, self.size_bytes))
    }
}

/// Hashes a stream of bytes: always with BLAKE3, and also with SHA-256 if the caller needs it.
#[derive(Clone)]
pub struct Hasher {
    blake3: blake3::Hasher,
    sha256: Option<sha2::Sha256>,
    size_bytes: u64,
}

impl Hasher {
    /// Makes a hasher whose result includes a name in `function`.
    pub fn new(function: DigestFunction) -> Self {
        let sha256 = (function == DigestFunction::Sha256).then(sha2::Sha256::new);
        Hasher { blake3: blake3::Hasher::new(), sha256, size_bytes: 0 }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.size_bytes += bytes.len() as u64;
    }

    /// Returns how many bytes were added so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the names of all added bytes.
    pub fn finish(self) -> BlobNames {
        BlobNames {
            blake3: Hash(*self.blake3.finalize().as_bytes()),
            sha256: self.sha256.map(|sha256| Hash(sha256.finalize().into())),
            size_bytes: self.size_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_has_its_well_known_digests() {
        let sha256: Digest = Digest::empty(DigestFunction::Sha256);
        assert_eq!(sha256.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0");
        let blake3: Digest = Digest::empty(DigestFunction::Blake3);
        assert_eq!(
            blake3.to_string(),
            "blake3/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0"
        );
        assert!(sha256.is_empty_blob() && blake3.is_empty_blob());
        assert!(!Digest::<Blob>::new(DigestFunction::Sha256, blake3.hash, 0).is_empty_blob());
    }

    #[test]
    fn only_full_length_lower_case_hex_is_a_hash() {
        let hash = DigestFunction::Sha256.hash(b"kache");
        assert_eq!(hash.to_hex().parse(), Ok(hash));
        for wrong in [
            "".to_owned(),
            hash.to_hex().to_uppercase(),
            hash.to_hex()[1..].to_owned(),
            format!("{}0", hash.to_hex()),
            format!("g{}", &hash.to_hex()[1..]),
            "é".repeat(32),
        ] {
            assert!(matches!(wrong.parse::<Hash>(), Err(DigestError::Hash { .. })), "{wrong}");
        }
        assert!(Digest::<Blob>::parse(DigestFunction::Sha256, &hash.to_hex(), -1).is_err());
    }

    #[test]
    fn only_hexadecimal_digits_are_accepted_at_every_position() {
        for byte in 0..=127u8 {
            for at in [0, 31, 63] {
                let mut text = "7".repeat(Hash::LEN * 2);
                text.replace_range(at..=at, &char::from(byte).to_string());
                let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                assert_eq!(text.parse::<Hash>().is_ok(), is_digit, "{byte} at {at}");
                if let Ok(hash) = text.parse::<Hash>() {
                    assert_eq!(hash.to_hex(), text);
                }
            }
        }
    }

    #[test]
    fn hashing_in_pieces_gives_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let mut hasher = Hasher::new(DigestFunction::Sha256);
        bytes.chunks(777).for_each(|chunk| hasher.update(chunk));
        let names = hasher.finish();
        for function in DigestFunction::ALL {
            assert_eq!(names.digest(function), Some(Digest::of(function, &bytes)));
        }
        assert_eq!(Hasher::new(DigestFunction::Blake3).finish().digest(DigestFunction::Sha256), None);
    }
}
