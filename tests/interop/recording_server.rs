//! A server of the Remote Execution API that keeps everything in memory and examines every request.
//!
//! It plays servers that cannot be installed: those with small batches, those that know BLAKE3, those that demand a
//! header, and those that take no results. `recording_checks` says what it expects of a request.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service as _;

use crate::recording_checks::Recording;

/// How a server differs from others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kind {
    /// Whether it knows BLAKE3 beside SHA-256.
    pub(crate) has_blake3: bool,
    /// The limit of batches that it advertises. 0 says nothing.
    pub(crate) batch_bytes_max: i64,
    /// A header without which it answers nothing.
    pub(crate) header: Option<(&'static str, &'static str)>,
    /// Whether it says that it takes no results.
    pub(crate) takes_no_results: bool,
}

/// A server, which ends when this is dropped.
pub(crate) struct RecordingServer {
    recording: Arc<Mutex<Recording>>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl RecordingServer {
    pub(crate) fn start(kind: Kind) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let recording = Arc::new(Mutex::new(Recording::new(kind)));
        runtime.spawn(serve(listener, Recorder(Arc::clone(&recording))));
        RecordingServer { recording, address, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn recording(&self) -> parking_lot::MutexGuard<'_, Recording> {
        self.recording.lock()
    }
}

async fn serve(listener: TcpListener, recorder: Recorder) {
    while let Ok((stream, _)) = listener.accept().await {
        let recorder = recorder.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| recorder.clone().answer(request));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // An error means that the client closed the connection.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// The server, as the generated code wants it.
#[derive(Clone)]
struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    async fn answer(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
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
impl Capabilities for Recorder {
    async fn get_capabilities(
        &self,
        request: Request<reapi::GetCapabilitiesRequest>,
    ) -> Result<Response<reapi::ServerCapabilities>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        Ok(Response::new(recording.capabilities()))
    }
}

#[tonic::async_trait]
impl ActionCache for Recorder {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        recording.expect_function(message.digest_function);
        let found = message.action_digest.and_then(|digest| recording.result(&digest));
        found.map(Response::new).ok_or_else(|| Status::not_found("no result"))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        recording.expect_function(message.digest_function);
        let result = message.action_result.unwrap_or_default();
        recording.put_result(&message.action_digest.unwrap_or_default(), result.clone());
        Ok(Response::new(result))
    }
}

fn status(code: Code) -> Option<rpc::Status> {
    Some(rpc::Status { code: code as i32, ..rpc::Status::default() })
}

#[tonic::async_trait]
impl ContentAddressableStorage for Recorder {
    type GetTreeStream = tokio_stream::Empty<Result<reapi::GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        recording.expect_function(message.digest_function);
        let missing = message.blob_digests.into_iter().filter(|digest| recording.blob(digest).is_none());
        Ok(Response::new(reapi::FindMissingBlobsResponse { missing_blob_digests: missing.collect() }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        recording.expect_function(message.digest_function);
        recording.expect_batch_to_fit(&message);
        let mut responses = Vec::new();
        for upload in message.requests {
            let digest = upload.digest.unwrap_or_default();
            recording.put_blob(&digest, &upload.data);
            responses.push(batch_update_blobs_response::Response {
                digest: Some(digest),
                status: status(Code::Ok),
            });
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        recording.expect_function(message.digest_function);
        let read = |digest: reapi::Digest| {
            let data = recording.blob(&digest);
            let status = status(if data.is_some() { Code::Ok } else { Code::NotFound });
            let (data, digest) = (data.unwrap_or_default(), Some(digest));
            batch_read_blobs_response::Response { digest, data, status, ..Default::default() }
        };
        let responses = message.digests.into_iter().map(read).collect();
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
impl ByteStream for Recorder {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let mut recording = self.0.lock();
        recording.begin(request.metadata())?;
        let message = request.into_inner();
        let digest = recording.expect_name(&message.resource_name);
        let blob = recording.blob(&digest).ok_or_else(|| Status::not_found("no blob"))?;
        let offset = usize::try_from(message.read_offset).unwrap_or_default().min(blob.len());
        let rest = blob.slice(offset..);
        let pieces = (0..rest.len().div_ceil(65_536)).map(move |piece| {
            let end = rest.len().min((piece + 1) * 65_536);
            Ok(ReadResponse { data: rest.slice(piece * 65_536..end) })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        self.0.lock().begin(request.metadata())?;
        let mut stream = request.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        let committed_size = self.0.lock().put_stream(&messages);
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented("QueryWriteStatus"))
    }
}
