//! The backend for Bazel's HTTP cache protocol: bazel-remote, nginx with WebDAV, kache itself.
//!
//! Objects lie at `{prefix}/ac/{hash}` and `{prefix}/cas/{hash}`. Blobs are uploaded as they are: only
//! bazel-remote understands compressed ones, and a plain server would store them compressed.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use kache_cas::Content;

use crate::error::RemoteError;
use crate::failure::{Failure, is_html};
use crate::http_client::{HttpClient, Outgoing};
use crate::http_headers::{fixed_headers, user_agent};
use crate::location::HttpLocation;
use crate::objects::{ObjectKind, ObjectName, ObjectProtocol, ObjectRemote};
use crate::options::{Compression, OptionsError, RemoteOptions};
use crate::token_source::TokenSource;

impl ObjectRemote {
    /// Opens a remote that speaks Bazel's HTTP cache protocol. Nothing is sent yet.
    pub fn http(location: &HttpLocation, options: &RemoteOptions) -> Result<ObjectRemote, OptionsError> {
        let mut headers = fixed_headers(options)?;
        let tokens = TokenSource::new(options, &headers);
        headers.entry(USER_AGENT).or_insert(user_agent(options)?);
        let protocol = BazelProtocol {
            tokens,
            base: location.to_string(),
            headers,
            takes_zstd: matches!(options.compression, Compression::Zstd(_)),
        };
        let client = HttpClient::new(location.is_tls, &options.tls, &options.limits)?;
        Ok(ObjectRemote::new(client, protocol))
    }
}

#[derive(Debug)]
struct BazelProtocol {
    /// The URL before `/ac/` and `/cas/`.
    base: String,
    /// The headers of every request. Those that hold a secret are marked as sensitive, so `Debug` hides them.
    headers: HeaderMap,
    /// Makes the header `Authorization` if a program prints the token.
    tokens: Option<Arc<TokenSource>>,
    takes_zstd: bool,
}

#[async_trait]
impl ObjectProtocol for BazelProtocol {
    async fn request(
        &self,
        _client: &HttpClient,
        method: Method,
        name: ObjectName,
        content: Option<(Content, bool)>,
    ) -> Result<Outgoing, RemoteError> {
        let uri = format!("{}/{}/{}", self.base, name.kind.directory(), name.hash);
        let uri: Uri = uri.parse().map_err(|error| RemoteError::refused(format!("`{uri}`: {error}")))?;
        let mut headers = self.headers.clone();
        if let Some(tokens) = &self.tokens {
            headers.insert(AUTHORIZATION, tokens.get().await?);
        }
        if self.takes_zstd && method == Method::GET && name.kind == ObjectKind::Blob {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        }
        let content = content.map(|(content, _)| content);
        Ok(Outgoing { method, uri, headers, content })
    }

    fn follows_redirects(&self) -> bool {
        true
    }

    fn is_stored(&self, status: StatusCode) -> bool {
        matches!(status.as_u16(), 200 | 201 | 202 | 204)
    }

    fn is_missing(&self, failure: &Failure) -> bool {
        matches!(failure.status.as_u16(), 204 | 404)
    }

    /// Frameworks for web sites send the type of a page with empty responses, too.
    fn is_page(&self, headers: &HeaderMap) -> bool {
        let is_empty = headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
        is_html(headers) && !is_empty
    }

    fn error(&self, failure: &Failure) -> RemoteError {
        if let Some(tokens) = &self.tokens
            && failure.status == StatusCode::UNAUTHORIZED
        {
            tokens.expire();
        }
        failure.error()
    }

    fn does_without(&self, _failure: &Failure) -> bool {
        false
    }
}
