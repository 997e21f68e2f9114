//! Who may do what: from an `Authorization` header, a client certificate and the listener's
//! policy to an [`Access`].
//!
//! Pure. HTTP requests and gRPC metadata go through the same two functions, [`read_header`]
//! and [`decide`]; checking a password against a file is `tokens`' and `credentials`' work.
//!
//! Invariant (NET-06): a secret is never shown. [`Secret`] has no `Display`, its `Debug` is
//! a placeholder, and errors here repeat nothing of the header.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Look things up and download them.
    ReadOnly,
    /// All that, and upload.
    ReadWrite,
}

impl Access {
    /// Whether anything may be looked up.
    pub fn may_read(self) -> bool {
        self >= Access::ReadOnly
    }

    /// Whether anything may be stored.
    pub fn may_write(self) -> bool {
        self == Access::ReadWrite
    }
}

/// A password or token. It can be compared and hashed, not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a secret in.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The bytes, for a check.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a header presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// No header.
    Nothing,
    /// A name and its password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
    /// A header that cannot be read. The text says why, and repeats nothing of it.
    Malformed(&'static str),
}

/// The longest header that is read; tokens of all known kinds are shorter.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Some clients pad their base64 and some do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the value of an `Authorization` header (RFC 7617, RFC 6750).
pub fn read_header(value: Option<&[u8]>) -> Presented {
    let Some(value) = value else { return Presented::Nothing };
    if value.len() > HEADER_BYTES_MAX {
        return Presented::Malformed("the `Authorization` header is longer than `HEADER_BYTES_MAX` (8 KiB)");
    }
    let value = value.trim_ascii();
    let scheme_len = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_len);
    let rest = rest.trim_ascii_start();
    if scheme.eq_ignore_ascii_case(b"basic") {
        read_basic(rest)
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        read_bearer(rest)
    } else {
        Presented::Malformed("the `Authorization` header is neither `Basic` nor `Bearer`")
    }
}

fn read_basic(encoded: &[u8]) -> Presented {
    let Ok(pair) = BASE64.decode(encoded) else {
        return Presented::Malformed("the `Basic` credentials are not base64");
    };
    let Some(colon) = pair.iter().position(|&byte| byte == b':') else {
        return Presented::Malformed("the `Basic` credentials have no `:` between name and password");
    };
    match std::str::from_utf8(&pair[..colon]) {
        Ok(user) => Presented::Basic { user: user.to_owned(), password: Secret::new(&pair[colon + 1..]) },
        Err(_) => Presented::Malformed("the name in the `Basic` credentials is not UTF-8"),
    }
}

fn read_bearer(token: &[u8]) -> Presented {
    if token.is_empty() {
        return Presented::Malformed("the `Bearer` token is empty");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Presented::Malformed("the `Bearer` token holds a space or a control character");
    }
    Presented::Bearer(Secret::new(token))
}

/// What checking the presented credentials gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// None were presented, or the listener has no credentials to check them against.
    Nobody,
    /// They are wrong.
    Wrong,
    /// They are somebody's who may do this.
    Somebody(Access),
}

/// What a listener grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// To those who present nothing.
    pub anonymous: Access,
    /// To those whose TLS certificate was verified.
    pub certificate: Access,
    /// To anybody at most.
    pub ceiling: Access,
}

/// What a caller may do: the most that anything about it grants. Wrong credentials grant
/// nothing whatever else is presented, so that a mistyped password is noticed and does not
/// silently become anonymous reading.
pub fn decide(recognised: Recognised, has_certificate: bool, policy: Policy) -> Access {
    let certificate = if has_certificate { policy.certificate } else { Access::None };
    let granted = policy.anonymous.max(certificate);
    let access = match recognised {
        Recognised::Wrong => Access::None,
        Recognised::Nobody => granted,
        Recognised::Somebody(access) => granted.max(access),
    };
    access.min(policy.ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Presented {
        Presented::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn headers_are_read_or_refused_with_a_reason() {
        for (value, expected) in [
            ("Basic YWxpY2U6c2VzYW1l", basic("alice", "sesame")),
            ("basic   YWxpY2U6c2VzYW1l ", basic("alice", "sesame")),
            // `a:b:c`: a password may hold colons. With and without padding.
            ("Basic YTpiOmM=", basic("a", "b:c")),
            ("Basic YTpi", basic("a", "b")),
            ("Basic YTo=", basic("a", "")),
            ("Basic YTo", basic("a", "")),
            ("Bearer abc.def-123=", Presented::Bearer(Secret::new("abc.def-123="))),
            ("BEARER x", Presented::Bearer(Secret::new("x"))),
        ] {
            assert_eq!(read_header(Some(value.as_bytes())), expected, "{value}");
        }
        for (value, why) in [
            ("", "neither"),
            ("Basic", "no `:`"),
            ("Basic !!!", "not base64"),
            ("Basic YWxpY2U=", "no `:`"),
            ("Basic /zph", "not UTF-8"),
            ("Bearer", "empty"),
            ("Bearer a b", "space"),
            ("Digest abc", "neither"),
            ("YWxpY2U6c2VzYW1l", "neither"),
        ] {
            let Presented::Malformed(reason) = read_header(Some(value.as_bytes())) else {
                panic!("{value} was read");
            };
            assert!(reason.contains(why), "{value}: {reason}");
        }
        assert_eq!(read_header(None), Presented::Nothing);
        let long = vec![b'a'; HEADER_BYTES_MAX + 1];
        assert!(matches!(read_header(Some(&long)), Presented::Malformed(_)));
    }

    #[test]
    fn the_decision_is_a_table() {
        use Access::{None, ReadOnly, ReadWrite};
        use Recognised::{Nobody, Somebody, Wrong};
        for (recognised, has_certificate, anonymous, certificate, expected) in [
            (Nobody, false, None, ReadWrite, None),
            (Nobody, false, ReadOnly, ReadWrite, ReadOnly),
            (Nobody, false, ReadWrite, None, ReadWrite),
            (Nobody, true, None, ReadOnly, ReadOnly),
            (Nobody, true, ReadOnly, ReadWrite, ReadWrite),
            (Nobody, true, None, None, None),
            (Somebody(ReadOnly), false, None, None, ReadOnly),
            (Somebody(ReadOnly), true, None, ReadWrite, ReadWrite),
            (Somebody(ReadWrite), true, ReadOnly, ReadOnly, ReadWrite),
            (Somebody(ReadOnly), false, ReadWrite, None, ReadWrite),
            (Wrong, false, ReadWrite, ReadWrite, None),
            (Wrong, true, ReadWrite, ReadWrite, None),
        ] {
            let policy = Policy { anonymous, certificate, ceiling: ReadWrite };
            let row = (recognised, has_certificate, policy);
            assert_eq!(decide(recognised, has_certificate, policy), expected, "{row:?}");
            let policy = Policy { ceiling: ReadOnly, ..policy };
            assert_eq!(decide(recognised, has_certificate, policy), expected.min(ReadOnly), "{row:?}");
        }
        assert!(ReadWrite.may_write() && ReadWrite.may_read() && ReadOnly.may_read());
        assert!(!ReadOnly.may_write() && !None.may_read());
    }

    #[test]
    fn net_06_debug_shows_no_secret() {
        for value in ["Basic YWxpY2U6c2VzYW1l", "Bearer sesame"] {
            let shown = format!("{:?}", read_header(Some(value.as_bytes())));
            assert!(!shown.contains("sesame") && !shown.contains("YWxp"), "{shown}");
            assert!(!shown.contains(&format!("{:?}", b"sesame")), "{shown}");
        }
    }
}
