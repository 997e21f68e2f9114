//! Answers of the HTTP protocol: their shape, their headers, and the words of refusals.
//!
//! The one place where a `StoreError` becomes an HTTP status. 404 means a miss and nothing
//! else (STO-08). A refusal is short plain text that says what was wrong, where, and what to
//! do; Bazel prints it, and reads no more than 10 KiB.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kache_cas::StoreError;
use tonic::Code;

use super::admission::Refusal;
use super::download::Download;
use super::status;

/// Any error of a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of an answer.
#[derive(Debug)]
pub enum Reply {
    /// At hand.
    Whole(Bytes),
    /// A blob on its way.
    Stream(Download),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Reply::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Reply::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Reply::Stream(download) => download
                .poll_next(context)
                .map(|next| next.map(|bytes| bytes.map(Frame::data).map_err(BodyError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(bytes) => bytes.is_empty(),
            Reply::Stream(download) => download.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Reply::Stream(download) => {
                download.bytes_left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

/// An answer of the HTTP protocol.
pub type HttpResponse = Response<Reply>;

/// The digest's size where the body's length does not tell it, as bazel-remote names it.
pub const DIGEST_SIZE: HeaderName = HeaderName::from_static("x-digest-sizebytes");

/// The longest text of a refusal; Bazel reads 10 KiB.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// An answer with these bytes.
pub fn whole(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> HttpResponse {
    let bytes = bytes.into();
    let len = bytes.len() as u64;
    with_body(status, content_type, Some(len), Reply::Whole(bytes))
}

/// An answer with this body, whose length is stated if it is known.
pub fn with_body(
    status: StatusCode,
    content_type: &'static str,
    len: Option<u64>,
    body: Reply,
) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What is stored here came from builds; no browser shall guess that it is a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(len) = len {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    response
}

/// The answer to a HEAD: the headers of the answer to a GET.
pub fn without_body(mut response: HttpResponse) -> HttpResponse {
    // The length that was stated remains; that is what HEAD is for.
    *response.body_mut() = Reply::Whole(Bytes::new());
    response
}

/// An empty success.
pub fn stored() -> HttpResponse {
    whole(StatusCode::OK, "text/plain", Bytes::new())
}

/// Words for whoever is at the other end.
pub fn text(status: StatusCode, words: &str) -> HttpResponse {
    let mut end = words.len().min(TEXT_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    whole(status, "text/plain; charset=utf-8", format!("{}\n", &words[..end]))
}

/// It is not there.
pub fn miss(what: &str) -> HttpResponse {
    text(StatusCode::NOT_FOUND, what)
}

/// What a request is told that was not admitted.
pub fn refusal(refusal: &Refusal) -> HttpResponse {
    let status = match refusal {
        Refusal::Foreign(_) | Refusal::ReadOnly => StatusCode::FORBIDDEN,
        Refusal::Anonymous { .. } | Refusal::Wrong | Refusal::Malformed(_) => StatusCode::UNAUTHORIZED,
        Refusal::Elsewhere { .. } => StatusCode::NOT_FOUND,
        Refusal::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, &refusal.to_string());
    if status == StatusCode::UNAUTHORIZED {
        for challenge in ["Basic realm=\"kache\", charset=\"UTF-8\"", "Bearer realm=\"kache\""] {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    response
}

/// What a failed store operation is called.
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
            let Reply::Whole(words) = response.body() else { panic!("a refusal is at hand") };
            assert!(!words.is_empty() && !words.windows(6).any(|part| part == b"secret"), "{words:?}");
        }
    }

    #[test]
    fn words_are_cut_between_characters() {
        let response = text(StatusCode::BAD_REQUEST, &"é".repeat(TEXT_BYTES_MAX));
        let Reply::Whole(words) = response.body() else { panic!("a refusal is at hand") };
        assert!(std::str::from_utf8(words).is_ok() && words.len() <= TEXT_BYTES_MAX + 1);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], words.len().to_string());
    }
}
