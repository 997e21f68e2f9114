//! A server that records what it is sent, and misbehaves where a test asks it to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kache_cas::Digest;
use kache_proto::Message as _;
use kache_proto::bytestream::byte_stream_server::{ByteStream, ByteStreamServer};
use kache_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
};
use kache_proto::reapi::action_cache_server::{ActionCache, ActionCacheServer};
use kache_proto::reapi::capabilities_server::{Capabilities, CapabilitiesServer};
use kache_proto::reapi::content_addressable_storage_server::{
    ContentAddressableStorage, ContentAddressableStorageServer,
};
use kache_proto::reapi::{self, batch_read_blobs_response, batch_update_blobs_response};
use kache_proto::rpc;
use parking_lot::Mutex;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

/// A request that the server got.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Get(reapi::GetActionResultRequest),
    Put(Box<reapi::UpdateActionResultRequest>),
    FindMissing(reapi::FindMissingBlobsRequest),
    BatchUpdate(reapi::BatchUpdateBlobsRequest),
    BatchRead(reapi::BatchReadBlobsRequest),
    Read(ReadRequest),
    Write(Vec<WriteRequest>),
}

/// What the server does wrong.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Every request but the one for capabilities fails with this.
    pub(crate) status: Option<(Code, &'static str)>,
    /// Every request but the one for capabilities gets no response at all.
    pub(crate) hangs: bool,
    /// Streams of reads end in silence after this many messages.
    pub(crate) hangs_after_messages: Option<usize>,
    /// Streams of reads send a byte in each of these intervals.
    pub(crate) trickles: Option<Duration>,
    /// What a write says that it has stored; by default the bytes that it received.
    pub(crate) committed_size: Option<i64>,
    /// Writes are answered after the first message.
    pub(crate) answers_early: bool,
    /// Batches are answered without the last blob.
    pub(crate) forgets_last: bool,
}

/// The server.
#[derive(Default)]
pub(crate) struct Recorder {
    capabilities: reapi::CacheCapabilities,
    pub(crate) behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
    pub(crate) headers: Mutex<Vec<MetadataMap>>,
    pub(crate) capability_requests: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// What is sent for a digest, right or wrong.
    blobs: Mutex<HashMap<String, Bytes>>,
}

impl Recorder {
    /// Makes a server with these capabilities.
    pub(crate) fn new(capabilities: reapi::CacheCapabilities) -> Recorder {
        Recorder { capabilities, ..Recorder::default() }
    }

    /// Makes the server send these bytes for a digest, whatever they are.
    pub(crate) fn insert(&self, digest: &Digest, bytes: &[u8]) {
        self.blobs
            .lock()
            .insert(key(&digest.hash.to_hex(), digest.size_bytes), Bytes::copy_from_slice(bytes));
    }

    /// Makes the server misbehave.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock());
    }

    /// Returns all requests since the last call.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    async fn got(&self, call: Call, headers: &MetadataMap) -> Result<Behaviour, Status> {
        self.headers.lock().push(headers.clone());
        self.calls.lock().push(call);
        let behaviour = self.behaviour.lock().clone();
        if behaviour.hangs {
            std::future::pending::<()>().await;
        }
        match behaviour.status {
            Some((code, words)) => Err(Status::new(code, words)),
            None => Ok(behaviour),
        }
    }

    fn blob(&self, digest: &reapi::Digest) -> Option<Bytes> {
        self.blobs.lock().get(&key(&digest.hash, digest.size_bytes.unsigned_abs())).cloned()
    }
}

fn key(hash: &str, size_bytes: u64) -> String {
    format!("{hash}/{size_bytes}")
}

fn status(code: Code) -> Option<rpc::Status> {
    Some(rpc::Status { code: code as i32, ..rpc::Status::default() })
}

/// The server, as the generated code wants it.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Recorder>);

impl Service {
    /// Answers one request of HTTP/2.
    pub(crate) async fn answer(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
        use tower_service::Service as _;
        const LIMIT: usize = 64 * 1024 * 1024;
        let service = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        match service.rsplit('.').next().unwrap_or_default() {
            "Capabilities" => CapabilitiesServer::new(self).call(request).await,
            "ActionCache" => ActionCacheServer::new(self).call(request).await,
            "ByteStream" => ByteStreamServer::new(self).call(request).await,
            _ => {
                let server = ContentAddressableStorageServer::new(self);
                server.max_decoding_message_size(LIMIT).call(request).await
            }
        }
    }
}

#[tonic::async_trait]
impl Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<reapi::GetCapabilitiesRequest>,
    ) -> Result<Response<reapi::ServerCapabilities>, Status> {
        self.0.capability_requests.fetch_add(1, Ordering::Relaxed);
        let cache_capabilities = Some(self.0.capabilities.clone());
        Ok(Response::new(reapi::ServerCapabilities { cache_capabilities, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let (headers, _, message) = request.into_parts();
        self.0.got(Call::Get(message), &headers).await?;
        Err(Status::not_found("no result"))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let (headers, _, message) = request.into_parts();
        self.0.got(Call::Put(Box::new(message)), &headers).await?;
        Ok(Response::new(reapi::ActionResult::default()))
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for Service {
    type GetTreeStream = tokio_stream::Empty<Result<reapi::GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        self.0.got(Call::FindMissing(message.clone()), &headers).await?;
        let missing = message.blob_digests.into_iter().filter(|digest| self.0.blob(digest).is_none());
        Ok(Response::new(reapi::FindMissingBlobsResponse { missing_blob_digests: missing.collect() }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        let behaviour = self.0.got(Call::BatchUpdate(message.clone()), &headers).await?;
        let stored = |request: reapi::batch_update_blobs_request::Request| {
            batch_update_blobs_response::Response { digest: request.digest, status: status(Code::Ok) }
        };
        let mut responses: Vec<_> = message.requests.into_iter().map(stored).collect();
        if behaviour.forgets_last {
            responses.pop();
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        let behaviour = self.0.got(Call::BatchRead(message.clone()), &headers).await?;
        let read = |digest: reapi::Digest| {
            let data = self.0.blob(&digest);
            let status = status(if data.is_some() { Code::Ok } else { Code::NotFound });
            let (data, digest) = (data.unwrap_or_default(), Some(digest));
            batch_read_blobs_response::Response { digest, data, status, ..Default::default() }
        };
        // The order of the responses is the server's.
        let mut responses: Vec<_> = message.digests.into_iter().rev().map(read).collect();
        if behaviour.forgets_last {
            responses.pop();
        }
        Ok(Response::new(reapi::BatchReadBlobsResponse { responses }))
    }

    async fn get_tree(
        &self,
        _: Request<reapi::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("GetTree"))
    }

    async fn split_blob(
        &self,
        _: Request<reapi::SplitBlobRequest>,
    ) -> Result<Response<reapi::SplitBlobResponse>, Status> {
        Err(Status::unimplemented("SplitBlob"))
    }

    async fn splice_blob(
        &self,
        _: Request<reapi::SpliceBlobRequest>,
    ) -> Result<Response<reapi::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented("SpliceBlob"))
    }
}

#[tonic::async_trait]
impl ByteStream for Service {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (headers, _, message) = request.into_parts();
        let behaviour = self.0.got(Call::Read(message.clone()), &headers).await?;
        let (rest, size) = message.resource_name.rsplit_once('/').unwrap();
        let hash = rest.rsplit('/').next().unwrap();
        let blob = self.0.blobs.lock().get(&format!("{hash}/{size}")).cloned();
        let blob = blob.ok_or_else(|| Status::not_found("no blob"))?;
        let piece_bytes = if behaviour.trickles.is_some() { 1 } else { 50_000 };
        let pieces: Vec<Bytes> = blob.chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
        let messages = pieces.into_iter().map(|data| Ok(ReadResponse { data }));
        let all = tokio_stream::iter(messages);
        if let Some(interval) = behaviour.trickles {
            let slowly = all.then(move |message| async move {
                tokio::time::sleep(interval).await;
                message
            });
            return Ok(Response::new(Box::pin(slowly)));
        }
        Ok(Response::new(match behaviour.hangs_after_messages {
            Some(count) => Box::pin(all.take(count).chain(tokio_stream::pending())),
            None => Box::pin(all),
        }))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (headers, _, mut stream) = request.into_parts();
        let is_early = self.0.behaviour.lock().answers_early;
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
            if is_early {
                break;
            }
        }
        let received: usize = messages.iter().map(|message| message.data.len()).sum();
        let behaviour = self.0.got(Call::Write(messages), &headers).await?;
        let committed_size = behaviour.committed_size.unwrap_or(i64::try_from(received).unwrap());
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented("QueryWriteStatus"))
    }
}

/// Returns the largest number of bytes that a batch in either direction has.
pub(crate) fn largest_batch(recorder: &Recorder, calls: &[Call]) -> usize {
    let size = |call: &Call| match call {
        Call::BatchUpdate(message) => message.encoded_len(),
        Call::BatchRead(message) => {
            let blobs = message.digests.iter().filter_map(|digest| recorder.blob(digest));
            blobs.map(|blob| blob.len() + 100).sum()
        }
        _ => 0,
    };
    calls.iter().map(size).max().unwrap_or_default()
}
