//! Builds HTTP responses: their bodies, headers and error texts.
//!
//! It is the only place where a `StoreError` becomes an HTTP status. For a blob or result, 404
//! always means a miss (STO-08). The body of an error is a short text that says what is wrong
//! and what to do; Bazel prints it, and reads at most 10 KiB of it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kache_cas::StoreError;
use tonic::Code;

use super::admission::AdmissionError;
use super::download::Download;
use super::status;

/// The error of a body that could not be sent completely.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of an HTTP response.
#[derive(Debug)]
pub enum HttpBody {
    /// All of the bytes.
    Whole(Bytes),
    /// A blob that is read while it is sent.
    Stream(Download),
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            HttpBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            HttpBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            HttpBody::Stream(download) => download
                .poll_next(context)
                .map(|next| next.map(|bytes| bytes.map(Frame::data).map_err(BodyError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            HttpBody::Whole(bytes) => bytes.is_empty(),
            HttpBody::Stream(download) => download.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            HttpBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            HttpBody::Stream(download) => {
                download.bytes_left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

/// A response of the HTTP protocol.
pub type HttpResponse = Response<HttpBody>;

/// bazel-remote's header with the size of a blob, which `Content-Length` does not tell if the
/// body is compressed.
pub const DIGEST_SIZE: HeaderName = HeaderName::from_static("x-digest-sizebytes");

/// The longest text of an error, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// A response with these bytes.
pub fn whole(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> HttpResponse {
    let bytes = bytes.into();
    let len = bytes.len() as u64;
    with_body(status, content_type, Some(len), HttpBody::Whole(bytes))
}

/// A response with this body. `len` becomes its `Content-Length`.
pub fn with_body(
    status: StatusCode,
    content_type: &'static str,
    len: Option<u64>,
    body: HttpBody,
) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The bytes come from builds: a browser must not guess that they are a web page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(len) = len {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    response
}

/// Turns the response to a GET into that to a HEAD: the same headers without a body.
pub fn without_body(mut response: HttpResponse) -> HttpResponse {
    // `Content-Length` stays that of the body, as HEAD requires.
    *response.body_mut() = HttpBody::Whole(Bytes::new());
    response
}

/// The response to a successful upload.
pub fn stored() -> HttpResponse {
    whole(StatusCode::OK, "text/plain", Bytes::new())
}

/// A response with a text, which is cut at `TEXT_BYTES_MAX`.
pub fn text(status: StatusCode, words: &str) -> HttpResponse {
    let mut end = words.len().min(TEXT_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    whole(status, "text/plain; charset=utf-8", format!("{}\n", &words[..end]))
}

/// The response to a lookup that missed.
pub fn miss(what: &str) -> HttpResponse {
    text(StatusCode::NOT_FOUND, what)
}

/// The response to a request that was not admitted.
pub fn refusal(refusal: &AdmissionError) -> HttpResponse {
    let status = match refusal {
        AdmissionError::Foreign(_) | AdmissionError::ReadOnly => StatusCode::FORBIDDEN,
        AdmissionError::Anonymous { .. } | AdmissionError::Wrong | AdmissionError::Malformed(_) => {
            StatusCode::UNAUTHORIZED
        }
        AdmissionError::Elsewhere { .. } => StatusCode::NOT_FOUND,
        AdmissionError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, &refusal.to_string());
    if status == StatusCode::UNAUTHORIZED {
        for challenge in ["Basic realm=\"kache\", charset=\"UTF-8\"", "Bearer realm=\"kache\""] {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    response
}

/// The response to a request for which the store failed.
pub fn of_store_error(error: &StoreError) -> HttpResponse {
    let status = status::of_store_error(error);
    let code = match (error, status.code()) {
        (StoreError::TooLarge { .. }, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Code::InvalidArgument) => StatusCode::BAD_REQUEST,
        (_, Code::ResourceExhausted) => StatusCode::INSUFFICIENT_STORAGE,
        (_, Code::NotFound) => StatusCode::NOT_FOUND,
        (_, Code::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(code, status.message())
}

#[cfg(test)]
mod tests {
    use kache_cas::{Digest, DigestFunction};

    use super::*;

    #[test]
    fn each_store_error_has_its_status() {
        let digest: Digest = Digest::empty(DigestFunction::Sha256);
        let io = |raw| StoreError::io("open", "/secret/place", std::io::Error::from_raw_os_error(raw));
        for (error, expected) in [
            (StoreError::Mismatch { claimed: digest, actual: digest }, 400),
            (StoreError::Length { claimed: digest, received_bytes: 1 }, 400),
            (StoreError::InvalidResult { why: "no".to_owned() }, 400),
            (StoreError::TooLarge { limit: "blob_bytes_max", limit_bytes: 1, size_bytes: 2 }, 413),
            (StoreError::NoSpace { wanted_bytes: 1, why: "full".to_owned() }, 507),
            (io(libc::ENOSPC), 507),
            (io(libc::EMFILE), 503),
            (io(libc::EIO), 500),
            (io(libc::ENOENT), 500),
            (StoreError::Database { doing: "read", message: "bad".to_owned() }, 500),
            (StoreError::Damaged { digest }, 404),
            (StoreError::Closing, 503),
        ] {
            let response = of_store_error(&error);
            assert_eq!(response.status().as_u16(), expected, "{error:?}");
            let HttpBody::Whole(words) = response.body() else { panic!("a refusal is at hand") };
            assert!(!words.is_empty() && !words.windows(6).any(|part| part == b"secret"), "{words:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let response = text(StatusCode::BAD_REQUEST, &"é".repeat(TEXT_BYTES_MAX));
        let HttpBody::Whole(words) = response.body() else { panic!("a refusal is at hand") };
        assert!(std::str::from_utf8(words).is_ok() && words.len() <= TEXT_BYTES_MAX + 1);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], words.len().to_string());
    }
}
