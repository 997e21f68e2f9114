//! What a response says that is no success: its status, and the server's words.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use crate::error::RemoteError;
use crate::http_client::Response;

/// How much of the body is read for the server's words.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// How many characters of the server's words a message has at most.
pub(crate) const WORDS_CHARS_MAX: usize = 200;

/// A response that is no success.
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body.
    pub(crate) body: Bytes,
}

impl Failure {
    /// Reads the server's words from a response.
    pub(crate) async fn of(mut response: Response) -> Failure {
        let body = response.body.read_beginning(BODY_BYTES_MAX).await;
        Failure { status: response.status, headers: response.headers, body }
    }

    /// Returns the error that the status means, with the first line of the body.
    pub(crate) fn error(&self) -> RemoteError {
        let words = if is_html(&self.headers) { String::new() } else { first_line(&self.body) };
        self.error_with(&words)
    }

    /// Returns the error that the status means, with these words.
    pub(crate) fn error_with(&self, words: &str) -> RemoteError {
        // Some servers only repeat the status.
        let words = if self.status.to_string() == words { "" } else { words };
        let separator = if words.is_empty() { "" } else { ": " };
        let message = format!("{}{separator}{words}", self.status);
        match self.status.as_u16() {
            413 => RemoteError::too_large(message),
            // 507 says that a quota is exhausted.
            507 => RemoteError::refused(message),
            408 | 425 | 429 | 500.. => RemoteError::unavailable(message),
            300.. => RemoteError::refused(message),
            _ => RemoteError::malformed(format!("unexpected status {message}")),
        }
    }
}

/// Whether a body is a page for people, such as the one on which they log in.
pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.trim_start().get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html"))
}

/// Returns the first line of a text that is not empty, shortened, without control characters.
pub(crate) fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|char| !char.is_control()).take(WORDS_CHARS_MAX).collect()
}
