//! Parses the path of an HTTP cache request: `[/prefix]/{ac,cas}/{hash}`, `/status`, `/metrics`.
//!
//! Pure, so that it can be fuzzed. The prefix is the percent-encoded instance name, which must
//! be valid in REAPI. Hashes are SHA-256 only, because HTTP requests name no digest function and
//! there is no public convention for it.
//!
//! Invariant: an [`HttpTarget`] holds a well-formed hash and a valid instance name.

use kache_cas::Hash;
use thiserror::Error;

pub use super::resource_name::INSTANCE_BYTES_MAX;
use super::resource_name::{NameError, check_instance};

/// The longest path that is parsed, in bytes. A hash and the longest instance name with each
/// byte percent-encoded fit.
pub const PATH_BYTES_MAX: usize = 1024;

/// What the path of a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTarget {
    /// `/ac/<hash>`: an action result.
    Action {
        /// The instance name, which is empty without a prefix.
        instance: String,
        /// The hash of the action.
        hash: Hash,
    },
    /// `/cas/<hash>`: a blob. Its prefix was checked and is ignored: blobs are the same in all instances.
    Blob {
        /// The hash of the blob.
        hash: Hash,
    },
    /// `/status`: the state of the store, as JSON.
    Status,
    /// `/metrics`: numbers for Prometheus.
    Metrics,
}

/// Why a path cannot be parsed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// The path has none of the known forms.
    #[error("nothing is served there: use `/ac/<hash>`, `/cas/<hash>`, `/status` or `/metrics`")]
    Unknown,
    /// The path is longer than any valid one.
    #[error("the path has {len} bytes, more than `PATH_BYTES_MAX` ({PATH_BYTES_MAX}) allows")]
    TooLong {
        /// The length of the path in bytes.
        len: usize,
    },
    /// The last segment is not a hash.
    #[error("`{text}` is not a hash: 64 lower-case hexadecimal digits are expected")]
    Hash {
        /// The beginning of the last segment.
        text: String,
    },
    /// The prefix cannot be decoded to an instance name.
    #[error("the prefix is not an instance name: {why}")]
    Instance {
        /// The problem with the prefix.
        why: &'static str,
    },
    /// The decoded prefix is not a valid instance name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Parses a path without its query.
pub fn parse(path: &str) -> Result<HttpTarget, PathError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { len: path.len() });
    }
    match path {
        "/status" => return Ok(HttpTarget::Status),
        "/metrics" => return Ok(HttpTarget::Metrics),
        _ => {}
    }
    let path = path.strip_prefix('/').ok_or(PathError::Unknown)?;
    let (place, hash) = path.rsplit_once('/').ok_or(PathError::Unknown)?;
    let (prefix, kind) = place.rsplit_once('/').map_or((None, place), |(prefix, kind)| (Some(prefix), kind));
    if kind != "ac" && kind != "cas" {
        return Err(PathError::Unknown);
    }
    let instance = prefix.map_or(Ok(String::new()), instance)?;
    let hash = hash.parse().map_err(|_| PathError::Hash { text: hash.chars().take(80).collect() })?;
    Ok(if kind == "ac" { HttpTarget::Action { instance, hash } } else { HttpTarget::Blob { hash } })
}

/// Decodes a prefix to an instance name.
fn instance(prefix: &str) -> Result<String, PathError> {
    let wrong = |why| PathError::Instance { why };
    let segments: Vec<String> = prefix.split('/').map(decode).collect::<Result<_, _>>().map_err(wrong)?;
    if segments.iter().any(|segment| segment.contains('/')) {
        return Err(wrong("a segment holds an encoded `/`"));
    }
    let name = segments.join("/");
    // The empty instance name is written without a prefix.
    if name.is_empty() {
        return Err(wrong("a segment is empty"));
    }
    check_instance(&name)?;
    Ok(name)
}

/// Undoes percent-encoding. The error says what is wrong with the segment.
fn decode(segment: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_at_checked(2).ok_or("a `%` lacks its two digits")?;
        bytes.push(hex_byte(digits.0).ok_or("a `%` lacks its two digits")?);
        rest = digits.1;
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8")
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    let value = digit(digits[0])? << 4 | digit(digits[1])?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn action(instance: &str) -> Result<HttpTarget, PathError> {
        Ok(HttpTarget::Action { instance: instance.to_owned(), hash: HASH.parse().unwrap() })
    }

    #[test]
    fn well_formed_paths_name_their_target() {
        let blob = Ok(HttpTarget::Blob { hash: HASH.parse().unwrap() });
        for (path, expected) in [
            ("/status", Ok(HttpTarget::Status)),
            ("/metrics", Ok(HttpTarget::Metrics)),
            ("/ac/HASH", action("")),
            ("/cas/HASH", blob.clone()),
            ("/main/cas/HASH", blob),
            ("/main/ac/HASH", action("main")),
            ("/a/b/ac/HASH", action("a/b")),
            ("/ac/ac/HASH", action("ac")),
            ("/status/ac/HASH", action("status")),
            ("/%61%20b/ac/HASH", action("a b")),
            ("/caf%C3%A9/ac/HASH", action("café")),
            ("/../ac/HASH", action("..")),
        ] {
            assert_eq!(parse(&path.replace("HASH", HASH)), expected, "{path}");
        }
    }

    #[test]
    fn malformed_paths_are_refused_with_a_reason() {
        let unknown = "nothing is served there";
        for (path, expected) in [
            ("", unknown),
            ("*", unknown),
            ("/", unknown),
            ("/robots.txt", unknown),
            ("ac/HASH", unknown),
            ("/ac", unknown),
            ("/ac/HASH/", "nothing is served"),
            ("/main/status", unknown),
            ("/AC/HASH", unknown),
            ("/ac/", "`` is not a hash"),
            ("/ac/E3B0", "`E3B0` is not a hash"),
            ("/cas/HASH0", "is not a hash"),
            ("//ac/HASH", "a segment is empty"),
            ("/a//ac/HASH", "a segment is empty"),
            ("/a%2Fb/ac/HASH", "encoded `/`"),
            ("/a%00/ac/HASH", "control character"),
            ("/a%/ac/HASH", "two digits"),
            ("/a%+1/ac/HASH", "two digits"),
            ("/a%é/ac/HASH", "two digits"),
            ("/%ff/ac/HASH", "not UTF-8"),
            ("/x/blobs/cas/HASH", "reserves"),
        ] {
            let error = parse(&path.replace("HASH", HASH)).unwrap_err().to_string();
            assert!(error.contains(expected), "{path}: {error}");
        }
        let long = format!("/{}/ac/{HASH}", "x".repeat(257));
        assert!(parse(&long).unwrap_err().to_string().contains("INSTANCE_BYTES_MAX"));
        let longer = format!("/{}/ac/{HASH}", "x".repeat(PATH_BYTES_MAX));
        assert!(parse(&longer).unwrap_err().to_string().contains("PATH_BYTES_MAX"));
    }
}
