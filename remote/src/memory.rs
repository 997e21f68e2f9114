//! A remote in memory, for tests of the code that uses remotes.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::reapi::ActionResult;
use parking_lot::Mutex;

use crate::error::RemoteError;
use crate::remote::{BlobStream, Capabilities, Remote, RequestContext};

/// A remote that keeps everything in memory, for tests.
#[derive(Debug)]
pub struct MemoryRemote {
    capabilities: Capabilities,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Bytes>,
    results: HashMap<Digest<ActionMessage>, ActionResult>,
    failure: Option<RemoteError>,
    delay: Duration,
    requests: Vec<&'static str>,
}

impl MemoryRemote {
    /// Creates an empty remote that takes results, with digests of this function.
    pub fn new(function: DigestFunction) -> MemoryRemote {
        let capabilities = Capabilities { function, takes_results: true };
        MemoryRemote { capabilities, state: Mutex::default() }
    }

    /// Makes every further request fail with this error, or succeed again.
    pub fn fail_with(&self, failure: Option<RemoteError>) {
        self.state.lock().failure = failure;
    }

    /// Makes every further request take this time.
    pub fn answer_after(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Returns the names of all requests since the last call, in their order.
    pub fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// Removes a blob, as a server does that evicts it. Returns whether it was there.
    pub fn forget(&self, blob: &Digest) -> bool {
        self.state.lock().blobs.remove(blob).is_some()
    }

    /// Returns the digests of all blobs, sorted.
    pub fn blobs(&self) -> Vec<Digest> {
        let mut blobs: Vec<Digest> = self.state.lock().blobs.keys().copied().collect();
        blobs.sort_unstable();
        blobs
    }

    /// Returns all results with their actions, sorted by action.
    pub fn results(&self) -> Vec<(Digest<ActionMessage>, ActionResult)> {
        let state = self.state.lock();
        let mut results: Vec<_> = state.results.iter().map(|(key, value)| (*key, value.clone())).collect();
        results.sort_unstable_by_key(|(action, _)| *action);
        results
    }

    /// Replaces bytes or results without any check, as a server does that lies or was damaged.
    pub fn tamper(&self, blob: Digest, bytes: Bytes) {
        self.state.lock().blobs.insert(blob, bytes);
    }

    async fn request<T>(
        &self,
        name: &'static str,
        answer: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, RemoteError> {
        let delay = {
            let mut state = self.state.lock();
            state.requests.push(name);
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.state.lock();
        match state.failure.clone() {
            Some(failure) => Err(failure),
            None => Ok(answer(&mut state)),
        }
    }
}

#[async_trait]
impl Remote for MemoryRemote {
    async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        self.request("capabilities", |_| self.capabilities).await
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        _context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        self.request("get_result", |state| state.results.get(action).cloned()).await
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        _context: &RequestContext,
    ) -> Result<(), RemoteError> {
        self.request("put_result", |state| drop(state.results.insert(*action, result.clone()))).await
    }

    async fn find_missing(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError> {
        let is_missing =
            |state: &State, blob: &Digest| blob.size_bytes > 0 && !state.blobs.contains_key(blob);
        self.request("find_missing", |state| blobs.iter().map(|blob| is_missing(state, blob)).collect()).await
    }

    async fn read_small(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError> {
        let read = |state: &mut State| blobs.iter().map(|blob| state.blobs.get(blob).cloned()).collect();
        let found: Vec<Option<Bytes>> = self.request("read_small", read).await?;
        for (digest, bytes) in blobs.iter().zip(&found) {
            if bytes.as_ref().is_some_and(|bytes| Digest::of(digest.function, bytes) != *digest) {
                return Err(RemoteError::malformed(format!("{digest} has other bytes")));
            }
        }
        Ok(found)
    }

    async fn read(
        &self,
        blob: &Digest,
        _context: &RequestContext,
    ) -> Result<Option<BlobStream>, RemoteError> {
        let bytes = self.request("read", |state| state.blobs.get(blob).cloned()).await?;
        Ok(bytes.map(|bytes| Box::pin(tokio_stream::once(Ok(bytes))) as BlobStream))
    }

    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        _context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>> {
        let mut outcomes = Vec::with_capacity(blobs.len());
        for (digest, content) in blobs {
            let bytes = content.read_all().map_err(|error| RemoteError::local(error.to_string()));
            outcomes.push(match bytes {
                Ok(bytes) => self.request("write", |state| drop(state.blobs.insert(*digest, bytes))).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }
}
