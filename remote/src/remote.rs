//! The trait of all remotes.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::reapi::ActionResult;
use tokio_stream::Stream;

use crate::error::RemoteError;

/// The bytes of a blob, piece by piece. The stream ends with an error if the remote sends more bytes than
/// the blob has. The bytes are not verified: the caller hashes them.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, RemoteError>> + Send>>;

/// The capabilities of a remote, as far as callers depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The function of all digests that this remote is sent: BLAKE3 if it offers that, else SHA-256.
    pub function: DigestFunction,
    /// Whether the remote says that it takes action results. A remote that does not say it is asked to take
    /// them, and may refuse.
    pub takes_results: bool,
}

/// What a request is for. A remote that keeps a log shows it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The hash of the action, in the remote's function; empty if the request is for none.
    pub action_id: String,
    /// The id of the build session; empty if the request belongs to none.
    pub invocation_id: String,
    /// The kind of action, such as `Rustc`; empty if the request is for none.
    pub mnemonic: Cow<'static, str>,
    /// Whether blobs that are written replace those that are there, because their bytes are wrong.
    pub replaces: bool,
}

/// A cache on another machine.
///
/// No method retries, and none has a time limit for the whole request except the limits that its options
/// set. All digests of a request have the function that [`Remote::capabilities`] returned.
#[async_trait]
pub trait Remote: fmt::Debug + Send + Sync {
    /// Returns what the remote offers. Connects if there is no connection yet, and asks the remote once for
    /// each connection.
    async fn capabilities(&self) -> Result<Capabilities, RemoteError>;

    /// Returns the function of the remote's digests, if it follows from the kind of the remote. `None` means that the
    /// remote tells its function with its capabilities.
    fn fixed_function(&self) -> Option<DigestFunction> {
        None
    }

    /// Returns the result of an action; `None` if the remote has none. Nothing in it is verified.
    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError>;

    /// Stores the result of an action. The caller has made sure that the remote has every blob that the
    /// result names, and the action with its command.
    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        context: &RequestContext,
    ) -> Result<(), RemoteError>;

    /// Tells for each blob, in the same order, whether the remote does not have it. The empty blob is never
    /// missing.
    async fn find_missing(
        &self,
        blobs: &[Digest],
        context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError>;

    /// Reads blobs into memory, and returns them in the same order, with `None` for each one that the remote
    /// does not have. Every returned blob has the length and the hash of its digest; one that has not is an
    /// error. The caller has made sure that the sum of their sizes fits in memory.
    async fn read_small(
        &self,
        blobs: &[Digest],
        context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError>;

    /// Begins to read one blob piece by piece; `None` if the remote does not have it.
    async fn read(&self, blob: &Digest, context: &RequestContext) -> Result<Option<BlobStream>, RemoteError>;

    /// Stores blobs, and returns one outcome for each, in the same order. `Ok` means that the remote has
    /// confirmed the blob. Blobs of a file are read piece by piece.
    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>>;
}
