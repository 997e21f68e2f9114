//! What a blob is called: a hash, the function that made it, and a length.
//!
//! `Digest<Kind>` says in its type what the named bytes are, so that an action's digest
//! cannot be handed to something that wants a file's. Changing the kind is possible and
//! always visible (`coerce`). This module hashes and parses; it knows no store.
//!
//! Invariant: a `Digest` in hand is well-formed. Text from outside becomes one only
//! through `Digest::parse`, which accepts exactly the lower-case, full-length form.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use sha2::Digest as _;
use thiserror::Error;

/// The functions that name blobs here. Both give 32 bytes, so a hash alone says nothing
/// about which one it is of: keys are always (function, hash).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestFunction {
    /// What the store itself uses.
    Blake3,
    /// What most remote caches and clients know.
    Sha256,
}

impl DigestFunction {
    /// Every function, in the order of preference.
    pub const ALL: [DigestFunction; 2] = [DigestFunction::Blake3, DigestFunction::Sha256];

    /// The lower-case name, as resource names and reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            DigestFunction::Blake3 => "blake3",
            DigestFunction::Sha256 => "sha256",
        }
    }

    /// The hash of these bytes.
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

/// 32 bytes that a digest function gave. Shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; Hash::LEN]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// As 64 lower-case hexadecimal digits.
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

/// What each byte is worth as a hexadecimal digit, or [`NO_DIGIT`]. By table, because a
/// thousand digests come in one request: digit by digit with branches they took 200 ns each,
/// a third of all that was done for such a request.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Any bit of the upper half would do.
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

/// At most this much of a malformed text is repeated in an error.
const EXCERPT_CHARS_MAX: usize = 80;

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}

/// Why a text is not a digest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The hash is not 64 lower-case hexadecimal digits.
    #[error("`{text}` is not a hash: 64 lower-case hexadecimal digits are expected")]
    Hash {
        /// The text, shortened.
        text: String,
    },
    /// The size is negative or not a number.
    #[error("`{text}` is not a size in bytes")]
    Size {
        /// The text, shortened.
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

/// The name of some bytes of kind `K`.
pub struct Digest<K = Blob> {
    /// Which function made `hash`.
    pub function: DigestFunction,
    /// The hash itself.
    pub hash: Hash,
    /// How many bytes there are. Part of the identity: the right hash with the wrong size
    /// names nothing.
    pub size_bytes: u64,
    kind: PhantomData<fn() -> K>,
}

impl<K> Digest<K> {
    /// A digest whose parts are known.
    pub const fn new(function: DigestFunction, hash: Hash, size_bytes: u64) -> Self {
        Digest { function, hash, size_bytes, kind: PhantomData }
    }

    /// The digest of these bytes.
    pub fn of(function: DigestFunction, bytes: &[u8]) -> Self {
        Digest::new(function, function.hash(bytes), bytes.len() as u64)
    }

    /// The digest a wire message states.
    pub fn parse(function: DigestFunction, hash: &str, size_bytes: i64) -> Result<Self, DigestError> {
        let size_bytes =
            u64::try_from(size_bytes).map_err(|_| DigestError::Size { text: size_bytes.to_string() })?;
        Ok(Digest::new(function, hash.parse()?, size_bytes))
    }

    /// The digest of no bytes at all, which every store holds.
    pub fn empty(function: DigestFunction) -> Self {
        Digest::of(function, &[])
    }

    /// Whether this names the empty blob.
    pub fn is_empty_blob(&self) -> bool {
        self.size_bytes == 0 && *self == Digest::empty(self.function)
    }

    /// The same name for bytes of another kind. The caller vouches for it.
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
/// As people write it: `hash/size`, with the function in front unless it is SHA-256.
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

/// The names of one content: always its BLAKE3, and its SHA-256 where somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobNames {
    /// What the store calls it.
    pub blake3: Hash,
    /// What SHA-256 clients call it.
    pub sha256: Option<Hash>,
    /// How many bytes there are.
    pub size_bytes: u64,
}

impl BlobNames {
    /// The digest in this function, if it was computed.
    pub fn digest(&self, function: DigestFunction) -> Option<Digest> {
        let hash = match function {
            DigestFunction::Blake3 => Some(self.blake3),
            DigestFunction::Sha256 => self.sha256,
        };
        hash.map(|hash| Digest::new(function, hash, self.size_bytes))
    }
}

/// Hashes a stream of bytes: always with BLAKE3, and with SHA-256 where asked for.
#[derive(Clone)]
pub struct Hasher {
    blake3: blake3::Hasher,
    sha256: Option<sha2::Sha256>,
    size_bytes: u64,
}

impl Hasher {
    /// A hasher whose result has a name in `function`.
    pub fn new(function: DigestFunction) -> Self {
        let sha256 = (function == DigestFunction::Sha256).then(sha2::Sha256::new);
        Hasher { blake3: blake3::Hasher::new(), sha256, size_bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.size_bytes += bytes.len() as u64;
    }

    /// How many bytes were taken.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The names of what was taken.
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
    fn the_empty_blob_has_its_well_known_names() {
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
    fn only_the_canonical_text_is_a_hash() {
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
    fn no_other_byte_is_a_digit() {
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
    fn a_stream_has_the_names_of_the_whole() {
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
