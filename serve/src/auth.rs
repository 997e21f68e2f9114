//! Decides what a caller may do, from its `Authorization` header, its client certificate and
//! the policy of the listener.
//!
//! Pure. HTTP headers and gRPC metadata go through the same two functions, [`read_header`] and
//! [`decide`]. Passwords are checked against the file in `tokens` and `credentials`.
//!
//! Invariant (NET-06): a secret is never shown. [`Secret`] has no `Display`, its `Debug` is
//! a placeholder, and error messages repeat no part of the header.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// The access of a caller: the operations that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// The request has no `Authorization` header.
    None,
    /// Look blobs and action results up, and download them.
    ReadOnly,
    /// Everything that `ReadOnly` allows, and upload.
    ReadWrite,
}

impl Access {
    /// Whether the caller may look up and download.
    pub fn may_read(self) -> bool {
        self >= Access::ReadOnly
    }

    /// Whether the caller may store.
    pub fn may_write(self) -> bool {
        self == Access::ReadWrite
    }
}

/// A password or token. It can be compared and hashed, not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a password or token.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The bytes, for comparing and hashing only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The content of an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationHeader {
    /// The request has no such header.
    Absent,
    /// A name and its password.
    Basic {
        /// The user's name, as the client sent it.
        user: String,
        /// The password, as the client sent it.
        password: Secret,
    },
    /// The client sent a bearer token.
    Bearer(Secret),
    /// The header cannot be read. The text says why, and repeats no part of the header.
    Malformed(&'static str),
}

/// The longest header that is read. Tokens of all known kinds are shorter.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Accepts base64 with and without padding, because clients send both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the value of an `Authorization` header (RFC 7617, RFC 6750).
pub fn read_header(value: Option<&[u8]>) -> AuthorizationHeader {
    let Some(value) = value else { return AuthorizationHeader::Absent };
    if value.len() > HEADER_BYTES_MAX {
        return AuthorizationHeader::Malformed(
            "the `Authorization` header is longer than `HEADER_BYTES_MAX` (8 KiB)",
        );
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
        AuthorizationHeader::Malformed("the `Authorization` header is neither `Basic` nor `Bearer`")
    }
}

fn read_basic(encoded: &[u8]) -> AuthorizationHeader {
    let Ok(pair) = BASE64.decode(encoded) else {
        return AuthorizationHeader::Malformed("the `Basic` credentials are not base64");
    };
    let Some(colon) = pair.iter().position(|&byte| byte == b':') else {
        return AuthorizationHeader::Malformed(
            "the `Basic` credentials have no `:` between name and password",
        );
    };
    match std::str::from_utf8(&pair[..colon]) {
        Ok(user) => {
            AuthorizationHeader::Basic { user: user.to_owned(), password: Secret::new(&pair[colon + 1..]) }
        }
        Err(_) => AuthorizationHeader::Malformed("the name in the `Basic` credentials is not UTF-8"),
    }
}

fn read_bearer(token: &[u8]) -> AuthorizationHeader {
    if token.is_empty() {
        return AuthorizationHeader::Malformed("the `Bearer` token is empty");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return AuthorizationHeader::Malformed("the `Bearer` token holds a space or a control character");
    }
    AuthorizationHeader::Bearer(Secret::new(token))
}

/// The result of checking an `Authorization` header against the credentials file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialCheck {
    /// The request has no credentials, or the listener has no file to check them against.
    NotPresented,
    /// The credentials are wrong or malformed.
    Wrong,
    /// The credentials are right and grant this.
    Granted(Access),
}

/// The access that a listener grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Granted to callers without credentials.
    pub anonymous: Access,
    /// Granted to callers whose TLS certificate was verified.
    pub certificate: Access,
    /// The most that any caller is granted.
    pub ceiling: Access,
}

/// Grants the most that the credentials, the certificate or anonymous access allow, up to the
/// ceiling. Wrong credentials grant nothing even if anonymous access would, so that a user
/// notices a mistyped password.
pub fn decide(checked: CredentialCheck, has_certificate: bool, policy: AccessPolicy) -> Access {
    let certificate = if has_certificate { policy.certificate } else { Access::None };
    let granted = policy.anonymous.max(certificate);
    let access = match checked {
        CredentialCheck::Wrong => Access::None,
        CredentialCheck::NotPresented => granted,
        CredentialCheck::Granted(access) => granted.max(access),
    };
    access.min(policy.ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> AuthorizationHeader {
        AuthorizationHeader::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn headers_are_read_or_rejected_with_a_reason() {
        for (value, expected) in [
            ("Basic YWxpY2U6c2VzYW1l", basic("alice", "sesame")),
            ("basic   YWxpY2U6c2VzYW1l ", basic("alice", "sesame")),
            // `a:b:c`: a password may hold colons. With and without padding.
            ("Basic YTpiOmM=", basic("a", "b:c")),
            ("Basic YTpi", basic("a", "b")),
            ("Basic YTo=", basic("a", "")),
            ("Basic YTo", basic("a", "")),
            ("Bearer abc.def-123=", AuthorizationHeader::Bearer(Secret::new("abc.def-123="))),
            ("BEARER x", AuthorizationHeader::Bearer(Secret::new("x"))),
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
            let AuthorizationHeader::Malformed(reason) = read_header(Some(value.as_bytes())) else {
                panic!("{value} was read");
            };
            assert!(reason.contains(why), "{value}: {reason}");
        }
        assert_eq!(read_header(None), AuthorizationHeader::Absent);
        let long = vec![b'a'; HEADER_BYTES_MAX + 1];
        assert!(matches!(read_header(Some(&long)), AuthorizationHeader::Malformed(_)));
    }

    #[test]
    fn the_decision_is_a_table() {
        use Access::{None, ReadOnly, ReadWrite};
        use CredentialCheck::{Granted, NotPresented, Wrong};
        for (checked, has_certificate, anonymous, certificate, expected) in [
            (NotPresented, false, None, ReadWrite, None),
            (NotPresented, false, ReadOnly, ReadWrite, ReadOnly),
            (NotPresented, false, ReadWrite, None, ReadWrite),
            (NotPresented, true, None, ReadOnly, ReadOnly),
            (NotPresented, true, ReadOnly, ReadWrite, ReadWrite),
            (NotPresented, true, None, None, None),
            (Granted(ReadOnly), false, None, None, ReadOnly),
            (Granted(ReadOnly), true, None, ReadWrite, ReadWrite),
            (Granted(ReadWrite), true, ReadOnly, ReadOnly, ReadWrite),
            (Granted(ReadOnly), false, ReadWrite, None, ReadWrite),
            (Wrong, false, ReadWrite, ReadWrite, None),
            (Wrong, true, ReadWrite, ReadWrite, None),
        ] {
            let policy = AccessPolicy { anonymous, certificate, ceiling: ReadWrite };
            let row = (checked, has_certificate, policy);
            assert_eq!(decide(checked, has_certificate, policy), expected, "{row:?}");
            let policy = AccessPolicy { ceiling: ReadOnly, ..policy };
            assert_eq!(decide(checked, has_certificate, policy), expected.min(ReadOnly), "{row:?}");
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
