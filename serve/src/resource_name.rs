//! Parses the resource names of ByteStream, and checks instance names.
//!
//! ```text
//! read   [{instance}/]blobs/[{function}/]{hash}/{size}
//!        [{instance}/]compressed-blobs/zstd/[{function}/]{hash}/{size}
//! write  [{instance}/]uploads/{uuid}/{as for reading}[/{anything}]
//! ```
//!
//! Pure, so that it can be fuzzed. An instance name may hold slashes but no segment that is one
//! of the words above, so a name is parsed by looking for the first of them. `blobs/sha256/…` is
//! not canonical and is accepted. The UUID is ignored: clients use one for several blobs.
//!
//! Invariant: a [`ResourceName`] holds a well-formed digest, and its instance name was valid.

use kache_cas::{Digest, DigestError, DigestFunction};
use thiserror::Error;

/// The longest name that is parsed, in bytes: the longest instance name, the longest digest, and
/// metadata, which is usually the path of a file.
pub const NAME_BYTES_MAX: usize = 8 * 1024;

/// The longest instance name, in bytes. It keeps the keys of the database small.
pub const INSTANCE_BYTES_MAX: usize = 256;

/// Words that cannot be segments of an instance name. REAPI reserves them, so that resource names
/// can be parsed.
const RESERVED: [&str; 7] =
    ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"];

/// How the bytes of a blob are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The blob is transferred uncompressed.
    Identity,
    /// The blob is transferred in zstd frames.
    Zstd,
}

/// The blob that a resource name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceName {
    /// The digest of the uncompressed bytes.
    pub digest: Digest,
    /// Whether it is sent compressed.
    pub compression: Compression,
}

/// Why a text is not a resource name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// The name is longer than any valid one.
    #[error("the resource name has {len} bytes: more than `NAME_BYTES_MAX` ({NAME_BYTES_MAX}) allows")]
    TooLong {
        /// The length of the name in bytes.
        len: usize,
    },
    /// The name does not have the expected form.
    #[error("the resource name is not of the form `{form}`")]
    Form {
        /// The form that a resource name must have.
        form: &'static str,
    },
    /// The compressor is not supported.
    #[error("the compressor `{name}` is not supported; `zstd` is")]
    Compressor {
        /// The beginning of the compressor's name.
        name: String,
    },
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The instance name is malformed.
    #[error("the instance name is malformed: {why}")]
    Instance {
        /// The problem with the instance name.
        why: &'static str,
    },
}

const READ_FORM: NameError = NameError::Form {
    form: "[instance/]blobs/[blake3/]hash/size or [instance/]compressed-blobs/zstd/[blake3/]hash/size",
};
const WRITE_FORM: NameError = NameError::Form {
    form: "[instance/]uploads/uuid/blobs/[blake3/]hash/size, or with compressed-blobs/zstd",
};

impl ResourceName {
    /// Parses the name of a download.
    pub fn for_read(text: &str) -> Result<Self, NameError> {
        check_length(text)?;
        let (before, name, rest) = blob(text, &READ_FORM)?;
        check_instance(before)?;
        if rest.is_none() { Ok(name) } else { Err(READ_FORM) }
    }

    /// Parses the name of an upload.
    pub fn for_write(text: &str) -> Result<Self, NameError> {
        check_length(text)?;
        let (before, name, _metadata) = blob(text, &WRITE_FORM)?;
        let (upload, _uuid) = before.rsplit_once('/').ok_or(WRITE_FORM)?;
        let instance = match upload.rsplit_once('/') {
            Some((instance, "uploads")) => instance,
            None if upload == "uploads" => "",
            _ => return Err(WRITE_FORM),
        };
        check_instance(instance)?;
        Ok(name)
    }
}

fn check_length(text: &str) -> Result<(), NameError> {
    if text.len() > NAME_BYTES_MAX { Err(NameError::TooLong { len: text.len() }) } else { Ok(()) }
}

/// The remaining segments of a name.
struct Segments<'a>(Option<&'a str>);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.take()?;
        let Some((segment, rest)) = text.split_once('/') else { return Some(text) };
        self.0 = Some(rest);
        Some(segment)
    }
}

/// Finds the first `blobs` or `compressed-blobs`. Returns the text before it, the blob, and the
/// text after the size, if there is any.
fn blob<'a>(text: &'a str, form: &NameError) -> Result<(&'a str, ResourceName, Option<&'a str>), NameError> {
    let mut segments = Segments(Some(text));
    let mut before_bytes = 0;
    let keyword = loop {
        let segment = segments.next().ok_or_else(|| form.clone())?;
        if segment == "blobs" || segment == "compressed-blobs" {
            break segment;
        }
        before_bytes += segment.len() + 1;
    };
    let mut next = || segments.next().ok_or_else(|| form.clone());
    let compression = if keyword == "blobs" { Compression::Identity } else { compressor(next()?)? };
    let (function, hash) = match next()? {
        "blake3" => (DigestFunction::Blake3, next()?),
        "sha256" => (DigestFunction::Sha256, next()?),
        hash => (DigestFunction::Sha256, hash),
    };
    let digest = Digest::parse(function, hash, read_size(next()?)?)?;
    let before = text[..before_bytes].strip_suffix('/').unwrap_or_default();
    Ok((before, ResourceName { digest, compression }, segments.0))
}

fn compressor(name: &str) -> Result<Compression, NameError> {
    match name {
        "zstd" => Ok(Compression::Zstd),
        _ => Err(NameError::Compressor { name: name.chars().take(32).collect() }),
    }
}

/// Parses a size in its canonical form: `+1`, `-0` and `01` are refused.
fn read_size(text: &str) -> Result<i64, DigestError> {
    let wrong = || DigestError::Size { text: text.chars().take(32).collect() };
    let is_canonical = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_canonical).ok_or_else(wrong)
}

/// Checks an instance name. The empty one is valid.
pub fn check_instance(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Ok(());
    }
    if name.len() > INSTANCE_BYTES_MAX {
        return Err(NameError::Instance { why: "it is longer than `INSTANCE_BYTES_MAX` (256 bytes)" });
    }
    let why = name.split('/').find_map(|segment| {
        if segment.is_empty() {
            Some("a segment is empty")
        } else if segment.chars().any(char::is_control) {
            Some("it holds a control character")
        } else if RESERVED.contains(&segment) {
            Some("a segment is a word that REAPI reserves, such as `blobs`")
        } else {
            None
        }
    });
    why.map_or(Ok(()), |why| Err(NameError::Instance { why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn expect(function: DigestFunction, size_bytes: u64, compression: Compression) -> ResourceName {
        ResourceName { digest: Digest::new(function, HASH.parse().unwrap(), size_bytes), compression }
    }

    #[test]
    fn names_for_reading() {
        use Compression::{Identity, Zstd};
        use DigestFunction::{Blake3, Sha256};
        for (name, function, compression) in [
            (format!("blobs/{HASH}/7"), Sha256, Identity),
            (format!("/blobs/{HASH}/7"), Sha256, Identity),
            (format!("main/blobs/{HASH}/7"), Sha256, Identity),
            (format!("a/b/c/blobs/{HASH}/7"), Sha256, Identity),
            (format!("blobs/sha256/{HASH}/7"), Sha256, Identity),
            (format!("blobs/blake3/{HASH}/7"), Blake3, Identity),
            (format!("a/blobs/blake3/{HASH}/7"), Blake3, Identity),
            (format!("compressed-blobs/zstd/{HASH}/7"), Sha256, Zstd),
            (format!("a/b/compressed-blobs/zstd/blake3/{HASH}/7"), Blake3, Zstd),
        ] {
            assert_eq!(ResourceName::for_read(&name), Ok(expect(function, 7, compression)), "{name}");
        }
    }

    #[test]
    fn names_for_writing() {
        use Compression::{Identity, Zstd};
        use DigestFunction::{Blake3, Sha256};
        for (name, function, compression) in [
            (format!("uploads/u/blobs/{HASH}/7"), Sha256, Identity),
            (format!("/uploads/u/blobs/{HASH}/7"), Sha256, Identity),
            (format!("main/uploads/u/blobs/{HASH}/7"), Sha256, Identity),
            (format!("a/b/uploads/u/blobs/{HASH}/7/target/debug/x.rlib"), Sha256, Identity),
            (format!("a/b/uploads/u/blobs/{HASH}/7/blobs/uploads"), Sha256, Identity),
            (format!("uploads/u/blobs/blake3/{HASH}/7/"), Blake3, Identity),
            (format!("uploads/u/compressed-blobs/zstd/sha256/{HASH}/7"), Sha256, Zstd),
            (format!("uploads/u/compressed-blobs/zstd/blake3/{HASH}/7/meta"), Blake3, Zstd),
        ] {
            assert_eq!(ResourceName::for_write(&name), Ok(expect(function, 7, compression)), "{name}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let upper = HASH.to_uppercase();
        for name in [
            String::new(),
            "blobs".to_owned(),
            "blobs/".to_owned(),
            format!("blobs/{HASH}"),
            format!("blobs/{HASH}/"),
            format!("blobs/{HASH}/-1"),
            format!("blobs/{HASH}/+1"),
            format!("blobs/{HASH}/01"),
            format!("blobs/{HASH}/x"),
            format!("blobs/{HASH}/99999999999999999999"),
            format!("blobs/{upper}/1"),
            format!("blobs/{}/1", &HASH[1..]),
            format!("blobs/md5/{HASH}/1"),
            format!("blobs/{HASH}/1/more"),
            format!("blobs/{HASH}/1/"),
            format!("compressed-blobs/{HASH}/1"),
            format!("compressed-blobs/brotli/{HASH}/1"),
            format!("a//blobs/{HASH}/1"),
            format!("uploads/u/blobs/{HASH}/1"),
            format!("a/actions/blobs/{HASH}/1"),
            format!("{}/blobs/{HASH}/1", "x".repeat(INSTANCE_BYTES_MAX + 1)),
            format!("{}/blobs/{HASH}/1", "x".repeat(NAME_BYTES_MAX)),
            format!("a\u{1}/blobs/{HASH}/1"),
        ] {
            assert!(ResourceName::for_read(&name).is_err(), "{name}");
        }
        for name in [
            format!("blobs/{HASH}/1"),
            format!("uploads/blobs/{HASH}/1"),
            format!("uploads/u/x/blobs/{HASH}/1"),
            format!("u/blobs/{HASH}/1"),
            format!("xuploads/u/blobs/{HASH}/1"),
            format!("uploads/uploads/u/blobs/{HASH}/1"),
            format!("uploads/u/compressed-blobs/identity/{HASH}/1"),
        ] {
            assert!(ResourceName::for_write(&name).is_err(), "{name}");
        }
    }
}
