//! Remotes that keep every blob and every result as one object, which is read and written by HTTP.
//!
//! [`ObjectRemote`] is what Bazel's HTTP protocol and S3 have in common. An [`ObjectProtocol`] is what
//! distinguishes them: where an object lies, how a request is signed and what a failure means. All digests
//! are SHA-256, because neither protocol can say which function made a hash.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, StatusCode};
use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest, DigestFunction, Hash};
use kache_proto::Message as _;
use kache_proto::reapi::ActionResult;
use tokio::task::JoinSet;

use crate::blob_reader::BlobReader;
use crate::error::RemoteError;
use crate::failure::Failure;
use crate::http_client::{HttpClient, Outgoing, Response};
use crate::known_blobs::KnownBlobs;
use crate::remote::{BlobStream, Capabilities, Remote, RequestContext};

/// The largest encoded result that is read.
const RESULT_BYTES_MAX: usize = 4 * 1024 * 1024;

const PAGE: &str = "the remote answers with a page for people, as for a login";

/// The kind of an object, which is a part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// A result, under the hash of its action.
    Result,
    /// A blob, under its own hash.
    Blob,
}

impl ObjectKind {
    /// Returns the name of the directory of such objects.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            ObjectKind::Result => "ac",
            ObjectKind::Blob => "cas",
        }
    }
}

/// The name of a blob or a result at a remote that keeps objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) kind: ObjectKind,
    pub(crate) hash: Hash,
}

/// The differences between the protocols that keep objects.
#[async_trait]
pub(crate) trait ObjectProtocol: std::fmt::Debug + Send + Sync {
    /// Creates the request with this method (GET, HEAD or PUT) for an object. Only a PUT has content, and whether it
    /// replaces an object that is there.
    async fn request(
        &self,
        client: &HttpClient,
        method: Method,
        name: ObjectName,
        content: Option<(Content, bool)>,
    ) -> Result<Outgoing, RemoteError>;

    /// Whether redirects are followed. A signed request is only valid for its own path.
    fn follows_redirects(&self) -> bool;

    /// Whether a response to a PUT says that the object is there now.
    fn is_stored(&self, status: StatusCode) -> bool;

    /// Whether a response to a GET or HEAD says that there is no such object.
    fn is_missing(&self, failure: &Failure) -> bool;

    /// Whether a response with status 200 is a page on which people log in, instead of what was asked for.
    fn is_page(&self, headers: &HeaderMap) -> bool;

    /// Returns what a failure means.
    fn error(&self, failure: &Failure) -> RemoteError;

    /// Learns from a failed PUT that the server lacks a feature. Returns whether the same request would be
    /// made without that feature now.
    fn does_without(&self, failure: &Failure) -> bool;
}

/// A remote whose blobs and results are objects that are read and written by HTTP.
#[derive(Clone, Debug)]
pub struct ObjectRemote {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: HttpClient,
    protocol: Box<dyn ObjectProtocol>,
    known: KnownBlobs,
    /// Whether the remote has answered since it was last unavailable.
    is_reached: AtomicBool,
}

impl ObjectRemote {
    pub(crate) fn new(client: HttpClient, protocol: impl ObjectProtocol + 'static) -> ObjectRemote {
        let inner = Inner {
            client,
            protocol: Box::new(protocol),
            known: KnownBlobs::default(),
            is_reached: AtomicBool::new(false),
        };
        ObjectRemote { inner: Arc::new(inner) }
    }
}

impl Inner {
    async fn send(
        &self,
        method: Method,
        name: ObjectName,
        content: Option<(Content, bool)>,
    ) -> Result<Response, RemoteError> {
        let request = self.protocol.request(&self.client, method, name, content).await?;
        let response = if self.protocol.follows_redirects() {
            self.client.send_and_follow(request).await
        } else {
            self.client.send(request).await
        };
        self.is_reached.store(response.is_ok(), Ordering::Relaxed);
        response
    }

    /// Returns what a failure means. After one that may pass, the next question about capabilities asks the
    /// remote again.
    fn error(&self, failure: &Failure) -> RemoteError {
        let error = self.protocol.error(failure);
        if error.is_transient() {
            self.is_reached.store(false, Ordering::Relaxed);
        }
        error
    }

    /// Begins to read an object; `None` if there is none.
    async fn get(&self, name: ObjectName) -> Result<Option<Response>, RemoteError> {
        let response = self.send(Method::GET, name, None).await?;
        if response.status == StatusCode::OK {
            return Ok(Some(response));
        }
        let failure = Failure::of(response).await;
        if self.protocol.is_missing(&failure) { Ok(None) } else { Err(self.error(&failure)) }
    }

    /// Tells whether there is an object.
    async fn has(&self, name: ObjectName) -> Result<bool, RemoteError> {
        let response = self.send(Method::HEAD, name, None).await?;
        if response.status == StatusCode::OK {
            return Ok(!self.protocol.is_page(&response.headers));
        }
        let failure = Failure::of(response).await;
        // A server that knows no HEAD is sent everything.
        let knows_no_head = matches!(failure.status.as_u16(), 405 | 501);
        let is_missing = knows_no_head || self.protocol.is_missing(&failure);
        if is_missing { Ok(false) } else { Err(self.error(&failure)) }
    }

    async fn put(&self, name: ObjectName, content: Content, replaces: bool) -> Result<(), RemoteError> {
        let failure = match self.try_put(name, (content.clone(), replaces)).await? {
            None => return Ok(()),
            Some(failure) => failure,
        };
        if !self.protocol.does_without(&failure) {
            return Err(self.error(&failure));
        }
        let failure = self.try_put(name, (content, replaces)).await?;
        failure.map_or(Ok(()), |failure| Err(self.error(&failure)))
    }

    async fn try_put(
        &self,
        name: ObjectName,
        content: (Content, bool),
    ) -> Result<Option<Failure>, RemoteError> {
        let response = self.send(Method::PUT, name, Some(content)).await?;
        // A page with status 201 is Apache's way to confirm.
        if response.status == StatusCode::OK && self.protocol.is_page(&response.headers) {
            return Err(RemoteError::refused(PAGE));
        }
        if self.protocol.is_stored(response.status) {
            return Ok(None);
        }
        Ok(Some(Failure::of(response).await))
    }

    async fn is_blob_missing(&self, digest: Digest) -> Result<bool, RemoteError> {
        let name = blob_name(&digest)?;
        if digest.size_bytes == 0 || self.known.is_known(digest.hash) {
            return Ok(false);
        }
        let is_there = self.has(name).await?;
        if is_there {
            self.known.confirm(digest.hash);
        }
        Ok(!is_there)
    }

    /// Begins to read a blob; `None` if the remote does not have it.
    async fn open_blob(&self, digest: Digest) -> Result<Option<BlobReader>, RemoteError> {
        let Some(response) = self.get(blob_name(&digest)?).await? else {
            self.known.forget(digest.hash);
            return Ok(None);
        };
        let is_compressed = is_zstd(&response.headers)?;
        BlobReader::new(response.body, is_compressed, digest).map(Some)
    }

    async fn read_blob(&self, digest: Digest) -> Result<Option<Bytes>, RemoteError> {
        if digest.size_bytes == 0 {
            return Ok(Some(Bytes::new()));
        }
        match self.open_blob(digest).await? {
            Some(reader) => reader.read_all().await.map(Some),
            None => Ok(None),
        }
    }

    async fn write_blob(&self, digest: Digest, content: Content, replaces: bool) -> Result<(), RemoteError> {
        let name = blob_name(&digest)?;
        if digest.size_bytes == 0 {
            return Ok(());
        }
        self.put(name, content, replaces).await?;
        self.known.confirm(digest.hash);
        Ok(())
    }
}

#[async_trait]
impl Remote for ObjectRemote {
    /// Neither protocol has a question for this. A request for the empty blob shows whether the remote
    /// answers and takes the credentials; a GET, because the response to a HEAD has no words.
    async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        if !self.inner.is_reached.load(Ordering::Relaxed) {
            let hash = Digest::<ActionMessage>::of(DigestFunction::Sha256, b"").hash;
            let response = self.inner.get(ObjectName { kind: ObjectKind::Blob, hash }).await?;
            if response.is_some_and(|response| self.inner.protocol.is_page(&response.headers)) {
                return Err(RemoteError::refused(PAGE));
            }
        }
        Ok(Capabilities { function: DigestFunction::Sha256, takes_results: true })
    }

    fn fixed_function(&self) -> Option<DigestFunction> {
        Some(DigestFunction::Sha256)
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        _context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        let Some(mut response) = self.inner.get(result_name(action)?).await? else { return Ok(None) };
        if self.inner.protocol.is_page(&response.headers) {
            return Ok(None);
        }
        let Some(bytes) = response.body.read_at_most(RESULT_BYTES_MAX).await? else {
            return Err(RemoteError::malformed(format!("a result of more than {RESULT_BYTES_MAX} bytes")));
        };
        // Nothing would decode to a result without outputs.
        if bytes.is_empty() { Ok(None) } else { Ok(ActionResult::decode(bytes).ok()) }
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        _context: &RequestContext,
    ) -> Result<(), RemoteError> {
        self.inner.put(result_name(action)?, Content::Memory(result.encode_to_vec().into()), true).await
    }

    async fn find_missing(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError> {
        let inner = &self.inner;
        let ask = |digest: Digest| {
            let inner = Arc::clone(inner);
            async move { inner.is_blob_missing(digest).await }
        };
        in_order(blobs, self.inner.client.concurrency(), |_| true, ask).await.into_iter().collect()
    }

    async fn read_small(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError> {
        let read = |digest: Digest| {
            let inner = Arc::clone(&self.inner);
            async move { inner.read_blob(digest).await }
        };
        in_order(blobs, self.inner.client.concurrency(), |_| true, read).await.into_iter().collect()
    }

    async fn read(
        &self,
        blob: &Digest,
        _context: &RequestContext,
    ) -> Result<Option<BlobStream>, RemoteError> {
        if blob.size_bytes == 0 {
            return Ok(Some(Box::pin(tokio_stream::empty())));
        }
        Ok(self.inner.open_blob(*blob).await?.map(BlobReader::into_stream))
    }

    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>> {
        let replaces = context.replaces;
        let write = |(digest, content): (Digest, Content)| {
            let inner = Arc::clone(&self.inner);
            async move { inner.write_blob(digest, content, replaces).await }
        };
        in_order(blobs, self.inner.client.concurrency(), RemoteError::is_transient, write).await
    }
}

/// Runs a task for each input, as many at once as the client sends requests, and returns the outcomes in the
/// order of the inputs. After an error for which `stops` is true no task begins: all that remain have this
/// error, so that a dead remote costs its time limit once. The tasks end when the caller stops waiting.
async fn in_order<I, T, F>(
    inputs: &[I],
    at_once: usize,
    stops: impl Fn(&RemoteError) -> bool,
    task: impl Fn(I) -> F,
) -> Vec<Result<T, RemoteError>>
where
    I: Clone,
    T: Send + 'static,
    F: Future<Output = Result<T, RemoteError>> + Send + 'static,
{
    let mut outcomes: Vec<Option<Result<T, RemoteError>>> = inputs.iter().map(|_| None).collect();
    let mut waiting = inputs.iter().enumerate();
    let mut tasks = JoinSet::new();
    let mut stop = None;
    loop {
        while tasks.len() < at_once && stop.is_none() {
            let Some((index, input)) = waiting.next() else { break };
            let outcome = task(input.clone());
            tasks.spawn(async move { (index, outcome.await) });
        }
        let Some(ended) = tasks.join_next().await else { break };
        let (index, outcome) =
            ended.expect("no task is cancelled, and a panic here is a panic of the caller");
        stop = stop.or_else(|| outcome.as_ref().err().filter(|error| stops(error)).cloned());
        outcomes[index] = Some(outcome);
    }
    let not_begun = || Err(stop.clone().expect("a task did not begin only after an error"));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(not_begun)).collect()
}

fn blob_name(digest: &Digest) -> Result<ObjectName, RemoteError> {
    object_name(ObjectKind::Blob, digest.function, digest.hash)
}

fn result_name(action: &Digest<ActionMessage>) -> Result<ObjectName, RemoteError> {
    object_name(ObjectKind::Result, action.function, action.hash)
}

fn object_name(kind: ObjectKind, function: DigestFunction, hash: Hash) -> Result<ObjectName, RemoteError> {
    match function {
        DigestFunction::Sha256 => Ok(ObjectName { kind, hash }),
        DigestFunction::Blake3 => Err(RemoteError::refused("this remote has only SHA-256 digests")),
    }
}

/// Whether the body is compressed with zstd. No other encoding was asked for.
fn is_zstd(headers: &HeaderMap) -> Result<bool, RemoteError> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"" | b"identity") => Ok(false),
        Some(b"zstd") => Ok(true),
        Some(other) => {
            let other = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
            Err(RemoteError::malformed(format!("the encoding `{other}`, which nobody asked for")))
        }
    }
}
