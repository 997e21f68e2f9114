//! Reads from a request's headers the encoding and size of its body, and the accepted encodings.
//!
//! Pure. `zstd` is negotiated as bazel-remote does it: `Accept-Encoding: zstd` on GET, and on PUT
//! `Content-Encoding: zstd` with the size of the blob in `X-Digest-SizeBytes`.

use http::StatusCode;
use http::header::{self, HeaderMap};

use super::http_response::DIGEST_SIZE;

/// The `Content-Encoding` of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    /// The bytes of the blob.
    Identity,
    /// The blob compressed with zstd.
    Zstd,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingError {
    /// The HTTP status of the response.
    pub status: StatusCode,
    /// The problem, and what is accepted instead.
    pub why: &'static str,
}

/// The encoding of the request's body. The error is the text of the response.
pub fn of_body(headers: &HeaderMap) -> Result<ContentEncoding, String> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(ContentEncoding::Identity) };
    let value = value.to_str().unwrap_or_default().trim();
    if value.eq_ignore_ascii_case("zstd") {
        Ok(ContentEncoding::Zstd)
    } else if value.eq_ignore_ascii_case("identity") || value.is_empty() {
        Ok(ContentEncoding::Identity)
    } else {
        let value: String = value.chars().take(80).collect();
        Err(format!("`Content-Encoding: {value}` is not supported: send the plain bytes, or `zstd`"))
    }
}

/// Whether the client names zstd among the accepted encodings and does not exclude it. `*` is not
/// enough: it is what clients send that do not know zstd.
pub fn accepts_zstd(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_zstd = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("zstd"));
        is_zstd && !parts.any(is_zero_weight)
    })
}

fn is_zero_weight(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
}

/// The size of the blob that is about to be uploaded, in bytes before compression.
pub fn stated_size(headers: &HeaderMap, encoding: ContentEncoding) -> Result<u64, EncodingError> {
    let refused = |status, why| EncodingError { status, why };
    let digest_size = number(headers, &DIGEST_SIZE)
        .map_err(|()| refused(StatusCode::BAD_REQUEST, "`X-Digest-SizeBytes` is not a number"))?;
    let length = number(headers, &header::CONTENT_LENGTH)
        .map_err(|()| refused(StatusCode::BAD_REQUEST, "`Content-Length` is not a number"))?;
    match (encoding, digest_size, length) {
        (ContentEncoding::Zstd, Some(size), _) => Ok(size),
        (ContentEncoding::Zstd, None, _) => Err(refused(
            StatusCode::BAD_REQUEST,
            "a `zstd` upload needs the size of the blob in `X-Digest-SizeBytes`",
        )),
        (ContentEncoding::Identity, Some(size), Some(length)) if size != length => Err(refused(
            StatusCode::BAD_REQUEST,
            "`X-Digest-SizeBytes` and `Content-Length` differ, and the body is not compressed",
        )),
        (ContentEncoding::Identity, size, length) => length.or(size).ok_or(refused(
            StatusCode::LENGTH_REQUIRED,
            "an upload needs a `Content-Length`, or the size of the blob in `X-Digest-SizeBytes`",
        )),
    }
}

fn number(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<u64>, ()> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(drop)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(());
    }
    text.parse().map(Some).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn zstd_is_accepted_when_it_is_named() {
        for (value, expected) in [
            ("zstd", true),
            ("gzip, deflate, br, ZSTD", true),
            ("gzip;q=1.0, zstd;q=0.5", true),
            ("zstd;q=0", false),
            ("zstd; q=0.000", false),
            ("gzip", false),
            ("zstdx", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(accepts_zstd(&headers(&[("accept-encoding", value)])), expected, "{value}");
        }
        assert!(!accepts_zstd(&HeaderMap::new()));
    }

    #[test]
    fn sizes_are_stated_or_the_upload_is_refused() {
        let size = "x-digest-sizebytes";
        let length = "content-length";
        for (pairs, encoding, expected) in [
            (&[(length, "5")][..], ContentEncoding::Identity, Ok(5)),
            (&[(size, "5")], ContentEncoding::Identity, Ok(5)),
            (&[(length, "5"), (size, "5")], ContentEncoding::Identity, Ok(5)),
            (&[(length, "5"), (size, "6")], ContentEncoding::Identity, Err(400)),
            (&[(length, "5"), (size, "6")], ContentEncoding::Zstd, Ok(6)),
            (&[(size, "6")], ContentEncoding::Zstd, Ok(6)),
            (&[(length, "5")], ContentEncoding::Zstd, Err(400)),
            (&[], ContentEncoding::Identity, Err(411)),
            (&[(size, "-1")], ContentEncoding::Identity, Err(400)),
            (&[(size, "+1")], ContentEncoding::Identity, Err(400)),
            (&[(size, "")], ContentEncoding::Identity, Err(400)),
            (&[(size, "99999999999999999999999")], ContentEncoding::Zstd, Err(400)),
        ] {
            let stated = stated_size(&headers(pairs), encoding).map_err(|refused| refused.status.as_u16());
            assert_eq!(stated, expected, "{pairs:?} {encoding:?}");
        }
    }

    #[test]
    fn bodies_are_plain_or_zstd() {
        for (value, expected) in [
            ("zstd", Some(ContentEncoding::Zstd)),
            ("Zstd ", Some(ContentEncoding::Zstd)),
            ("identity", Some(ContentEncoding::Identity)),
            ("gzip", None),
            ("zstd, gzip", None),
        ] {
            let found = of_body(&headers(&[("content-encoding", value)]));
            assert_eq!(found.ok(), expected, "{value}");
        }
        assert_eq!(of_body(&HeaderMap::new()), Ok(ContentEncoding::Identity));
    }
}
