//! Starts a [`Recorder`] on a port of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kache_proto::reapi::CacheCapabilities;
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::digest_function::Value as Function;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::recorder::{Recorder, Service};
use crate::tests::own_server::open;
use crate::{ReapiRemote, RemoteOptions};

/// A recorder that runs until it is dropped.
pub(crate) struct RecorderServer {
    pub(crate) recorder: Arc<Recorder>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl RecorderServer {
    /// Starts a server with these capabilities.
    pub(crate) async fn start(capabilities: CacheCapabilities) -> RecorderServer {
        let recorder = Arc::new(Recorder::new(capabilities));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, Service(Arc::clone(&recorder))));
        RecorderServer { recorder, address, task }
    }

    /// Opens the remote.
    pub(crate) fn open(&self, options: &RemoteOptions) -> ReapiRemote {
        open(&format!("grpc://{}", self.address), options)
    }
}

impl Drop for RecorderServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, service: Service) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        service.0.connections.fetch_add(1, Ordering::Relaxed);
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| service.clone().answer(request));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // An error means that the client closed the connection.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// The capabilities of a server for SHA-256, without compression, with this limit of batches.
pub(crate) fn sha256_only(max_batch_total_size_bytes: i64) -> CacheCapabilities {
    let digest_functions = vec![Function::Sha256 as i32];
    CacheCapabilities { digest_functions, max_batch_total_size_bytes, ..CacheCapabilities::default() }
}

/// The same for BLAKE3 and SHA-256, with zstd.
pub(crate) fn everything() -> CacheCapabilities {
    let zstd = vec![Compressor::Zstd as i32];
    CacheCapabilities {
        digest_functions: vec![Function::Sha256 as i32, Function::Blake3 as i32],
        supported_compressors: zstd.clone(),
        supported_batch_update_compressors: zstd,
        ..CacheCapabilities::default()
    }
}
