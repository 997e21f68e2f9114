//! Connections: both protocols on one, stalled and flooding clients, refusals and draining.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kache_cas::{Digest, DigestFunction};
use kache_proto::Message as _;
use kache_proto::bytestream::{ReadRequest, WriteRequest};
use kache_proto::health::HealthCheckRequest;
use kache_proto::reapi::{
    ActionResult, BatchReadBlobsRequest, BatchUpdateBlobsRequest, FindMissingBlobsRequest,
    GetActionResultRequest, GetCapabilitiesRequest, UpdateActionResultRequest, batch_update_blobs_request,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Endpoint;

use super::grpc_server::{FaultyStore, InProcessServer, memory, sample, wire};
use crate::auth::Access;
use crate::grpc_metrics::GrpcMethod;
use crate::limits::ServeLimits;

/// A timeout that only a hanging test exceeds.
const SOON: Duration = Duration::from_secs(20);

/// A plain HTTP/2 client.
async fn http_2(server: &InProcessServer) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(server.connect());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn one_listener_speaks_both_protocols() {
    let server = InProcessServer::new();
    let digest = server.insert(DigestFunction::Sha256, b"blob");
    let request =
        format!("GET /cas/{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", digest.hash);
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("blob"), "{answer}");

    let mut capabilities = server.capabilities().await;
    capabilities.get_capabilities(GetCapabilitiesRequest::default()).await.unwrap();
    assert_eq!(server.shared.grpc_metrics.snapshot(), [(GrpcMethod::GetCapabilities, Code::Ok, 1)]);
}

#[tokio::test]
async fn plain_http_works_over_http_2_as_well() {
    let server = InProcessServer::new();
    let digest = server.insert(DigestFunction::Sha256, b"blob");
    let uri = format!("http://localhost/cas/{}", digest.hash);
    let request = http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let response = http_2(&server).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "blob");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_and_counted() {
    let server = InProcessServer::new();
    let uri = "http://localhost/build.bazel.remote.execution.v2.Execution/Execute";
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    let response = http_2(&server).await.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("grpc-status"), header("content-type")),
        ("12".to_owned(), "application/grpc".to_owned())
    );
    assert!(header("grpc-message").contains("Execution/Execute"));
    assert_eq!(server.shared.grpc_metrics.snapshot(), [(GrpcMethod::Other, Code::Unimplemented, 1)]);
}

#[tokio::test]
async fn requests_that_are_not_admitted_reach_no_handler() {
    let server = InProcessServer::new();
    let digest = server.insert(DigestFunction::Sha256, b"blob");
    let strangers = server.granting(Access::None);
    let refused = |status: tonic::Status| {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("needs credentials"), "{status}");
    };
    let mut capabilities = strangers.capabilities().await;
    refused(capabilities.get_capabilities(GetCapabilitiesRequest::default()).await.unwrap_err());
    let ask = FindMissingBlobsRequest { blob_digests: vec![wire(&digest)], ..Default::default() };
    refused(strangers.cas().await.find_missing_blobs(ask).await.unwrap_err());
    let resource_name = format!("blobs/{}/4", digest.hash);
    let read = ReadRequest { resource_name, ..ReadRequest::default() };
    refused(strangers.bytestream().await.read(read).await.unwrap_err());
    refused(strangers.health().await.check(HealthCheckRequest::default()).await.unwrap_err());
    let codes: Vec<Code> =
        server.shared.grpc_metrics.snapshot().into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(codes, [Code::Unauthenticated; 4]);
}

#[tokio::test]
async fn health_and_its_change_are_reported() {
    let server = InProcessServer::new();
    let mut client = server.health().await;
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "google.bytestream.ByteStream"] {
        assert_eq!(client.check(ask(service)).await.unwrap().into_inner().status, 1, "{service}");
    }
    assert_eq!(client.check(ask("nonsense")).await.unwrap_err().code(), Code::NotFound);
    let mut known = client.watch(ask("")).await.unwrap().into_inner();
    let mut unknown = client.watch(ask("nonsense")).await.unwrap().into_inner();
    assert_eq!(known.message().await.unwrap().unwrap().status, 1);
    assert_eq!(unknown.message().await.unwrap().unwrap().status, 3);
    server.drain.begin();
    assert_eq!(known.message().await.unwrap().unwrap().status, 2);
    assert!(known.message().await.unwrap().is_none(), "a watch does not keep the daemon");
}

#[tokio::test]
async fn draining_finishes_open_requests_and_closes() {
    let server = InProcessServer::new();
    let bytes = sample(3_000_000, 1);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let resource_name = format!("uploads/u/blobs/{}/{}", digest.hash, digest.size_bytes);
    let half = bytes.len() / 2;
    let first = WriteRequest {
        resource_name,
        data: Bytes::copy_from_slice(&bytes[..half]),
        ..WriteRequest::default()
    };
    sender.send(first).await.unwrap();
    let mut client = server.bytestream().await;
    let upload = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    while server.activity.requests_in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    server.drain.begin();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = WriteRequest {
        write_offset: i64::try_from(half).unwrap(),
        data: Bytes::copy_from_slice(&bytes[half..]),
        finish_write: true,
        ..WriteRequest::default()
    };
    sender.send(second).await.unwrap();
    let response = tokio::time::timeout(SOON, upload).await.unwrap().unwrap().unwrap();
    assert_eq!(response.into_inner().committed_size, 3_000_000);
    assert!(server.has(&digest));
}

#[tokio::test]
async fn draining_closes_idle_connections() {
    let server = InProcessServer::new();
    let mut silent = server.connect();
    let mut plain = server.connect();
    plain.write_all(b"HEAD /status HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(plain.read(&mut [0; 8 * 1024]).await.unwrap() > 0);
    let mut http_2 = http_2(&server).await;
    http_2.ready().await.unwrap();
    server.drain.begin();
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, silent.read_to_end(&mut rest)).await.unwrap().unwrap();
    tokio::time::timeout(SOON, plain.read_to_end(&mut rest)).await.unwrap().unwrap();
    let closed = async {
        while !http_2.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, closed).await.unwrap();
}

#[tokio::test]
async fn draining_has_a_deadline() {
    let limits = ServeLimits { drain_max: Duration::from_millis(200), ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let digest: Digest = Digest::of(DigestFunction::Sha256, &sample(300_000, 1));
    let resource_name = format!("uploads/u/blobs/{}/{}", digest.hash, digest.size_bytes);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(WriteRequest { resource_name, ..WriteRequest::default() }).await.unwrap();
    let mut client = server.bytestream().await;
    let upload = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    while server.activity.requests_in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    server.drain.begin();
    assert!(tokio::time::timeout(SOON, upload).await.unwrap().unwrap().is_err());
    drop(sender);
}

#[tokio::test]
async fn a_stalled_upload_is_refused_with_the_name_of_the_limit() {
    let limits = ServeLimits { stream_idle_max: Duration::from_millis(200), ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    for size in [1_000, 300_000] {
        let bytes = sample(size, 2);
        let digest = Digest::of(DigestFunction::Sha256, &bytes);
        let resource_name = format!("uploads/u/blobs/{}/{size}", digest.hash);
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let data = Bytes::copy_from_slice(&bytes[..size / 2]);
        sender.send(WriteRequest { resource_name, data, ..WriteRequest::default() }).await.unwrap();
        let mut client = server.bytestream().await;
        let upload = client.write(ReceiverStream::new(receiver));
        let status = tokio::time::timeout(SOON, upload).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("stream_idle_max"), "{status}");
        assert!(!server.has(&digest));
        drop(sender);
    }
}

#[tokio::test]
async fn a_download_that_is_not_read_is_cut_off() {
    let limits = ServeLimits { stream_idle_max: Duration::from_millis(300), ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let digest = server.insert(DigestFunction::Sha256, &sample(20_000_000, 3));
    let channel = server.endpoint(Endpoint::from_static("http://localhost")).await;
    let mut client = kache_proto::bytestream::byte_stream_client::ByteStreamClient::new(channel);
    let resource_name = format!("blobs/{}/{}", digest.hash, digest.size_bytes);
    let mut stream =
        client.read(ReadRequest { resource_name, ..ReadRequest::default() }).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let cut_off = async {
        while server.activity.requests_in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, cut_off).await.unwrap();
    let rest = async {
        while stream.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    assert!(
        tokio::time::timeout(SOON, rest).await.unwrap().is_err(),
        "a part is not passed off as the whole"
    );
}

#[tokio::test]
async fn a_download_that_is_read_slowly_is_not_cut_off() {
    let limits = ServeLimits { stream_idle_max: Duration::from_millis(1_500), ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let digest = server.insert(DigestFunction::Sha256, &sample(4_000_000, 3));
    let mut client = server.bytestream().await;
    let resource_name = format!("blobs/{}/{}", digest.hash, digest.size_bytes);
    let mut stream =
        client.read(ReadRequest { resource_name, ..ReadRequest::default() }).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(response) = stream.message().await.unwrap() {
        bytes += response.data.len();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(bytes, 4_000_000);
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let limits = ServeLimits { header_wait_max: Duration::from_millis(200), ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    for first_words in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /cas/"] {
        let mut stream = server.connect();
        stream.write_all(first_words.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect(first_words).unwrap();
    }
}

#[tokio::test]
async fn bytes_of_an_unknown_protocol_end_the_connection() {
    let server = InProcessServer::new();
    for garbage in ["\0\0\0\0\0\0\0\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
        let mut stream = server.connect();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
    assert_eq!(server.activity.requests_in_flight(), 0);
}

#[tokio::test]
async fn headers_above_the_limit_are_refused() {
    let server = InProcessServer::with(
        memory(),
        ServeLimits { header_bytes_max: 16 * 1024, ..ServeLimits::default() },
    );
    let mut client = server.capabilities().await;
    let mut request = tonic::Request::new(GetCapabilitiesRequest::default());
    request.metadata_mut().insert("x-long", "x".repeat(20_000).parse().unwrap());
    assert!(client.get_capabilities(request).await.is_err());
    assert!(server.shared.grpc_metrics.snapshot().is_empty(), "no handler saw it");
    client.get_capabilities(GetCapabilitiesRequest::default()).await.unwrap();
}

#[tokio::test]
async fn large_messages_wait_for_memory_and_are_then_refused_with_the_name_of_the_limit() {
    let limits = ServeLimits {
        messages_in_memory_bytes_max: 1_000_000,
        stream_idle_max: Duration::from_millis(200),
        ..ServeLimits::default()
    };
    let server = InProcessServer::with(memory(), limits);
    let digest = server.insert(DigestFunction::Sha256, &sample(900_000, 4));
    let request =
        || BatchReadBlobsRequest { digests: vec![wire(&digest)], ..BatchReadBlobsRequest::default() };
    let held = server.shared.reserve(900_000).await.unwrap();
    let status = server.cas().await.batch_read_blobs(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("messages_in_memory_bytes_max"), "{status}");
    drop(held);
    for _ in 0..3 {
        server.cas().await.batch_read_blobs(request()).await.unwrap();
    }
}

/// The runtime has one thread, so a call that blocks it delays all requests.
#[tokio::test(flavor = "current_thread")]
async fn sto_10_a_lookup_does_not_wait_for_the_eviction_of_another_request() {
    let writers_take = Duration::from_secs(2);
    let server = InProcessServer::with(FaultyStore::slow(writers_take), ServeLimits::default());
    let digest: Digest = Digest::of(DigestFunction::Sha256, b"blob");
    let (mut batches, mut uploads, mut results) =
        (server.cas().await, server.bytestream().await, server.actions().await);
    let begun = std::time::Instant::now();
    let write = WriteRequest {
        resource_name: format!("uploads/u/blobs/{}/4", digest.hash),
        data: Bytes::from_static(b"blob"),
        finish_write: true,
        ..WriteRequest::default()
    };
    let upload = batch_update_blobs_request::Request {
        digest: Some(wire(&digest)),
        data: Bytes::from_static(b"blob"),
        ..Default::default()
    };
    let update = UpdateActionResultRequest {
        action_digest: Some(wire(&digest)),
        action_result: Some(ActionResult { exit_code: 1, ..ActionResult::default() }),
        ..UpdateActionResultRequest::default()
    };
    let batch = BatchUpdateBlobsRequest { requests: vec![upload], ..BatchUpdateBlobsRequest::default() };
    let written = tokio::spawn(async move { uploads.write(tokio_stream::iter([write])).await.is_ok() });
    let updated = tokio::spawn(async move { batches.batch_update_blobs(batch).await.is_ok() });
    let kept = tokio::spawn(async move { results.update_action_result(update).await.is_ok() });
    while server.activity.requests_in_flight() < 3 && begun.elapsed() < writers_take {
        tokio::task::yield_now().await;
    }
    let ask = || FindMissingBlobsRequest { blob_digests: vec![wire(&digest)], ..Default::default() };
    for _ in 0..10 {
        server.cas().await.find_missing_blobs(ask()).await.unwrap();
    }
    assert!(begun.elapsed() < writers_take, "lookups took {:?}", begun.elapsed());
    assert!(written.await.unwrap() && updated.await.unwrap() && kept.await.unwrap());
}

/// The runtime has one thread, which is that of the connections.
#[tokio::test(flavor = "current_thread")]
async fn sto_10_no_blob_is_opened_on_the_connections_thread_while_small_calls_may_block() {
    let store = FaultyStore::slow(Duration::from_millis(1));
    let server = InProcessServer::with(store.clone(), ServeLimits::default());
    let digest = server.insert(DigestFunction::Sha256, b"blob");
    let update = UpdateActionResultRequest {
        action_digest: Some(wire(&digest)),
        action_result: Some(ActionResult { stdout_digest: Some(wire(&digest)), ..ActionResult::default() }),
        ..UpdateActionResultRequest::default()
    };
    server.actions().await.update_action_result(update).await.unwrap();
    let batch = BatchReadBlobsRequest { digests: vec![wire(&digest)], ..BatchReadBlobsRequest::default() };
    server.cas().await.batch_read_blobs(batch).await.unwrap();
    let name = format!("blobs/{}/4", digest.hash);
    let read = ReadRequest { resource_name: name, ..ReadRequest::default() };
    server.bytestream().await.read(read).await.unwrap();
    let get = GetActionResultRequest {
        action_digest: Some(wire(&digest)),
        inline_stdout: true,
        ..GetActionResultRequest::default()
    };
    let result = server.actions().await.get_action_result(get).await.unwrap().into_inner();
    assert_eq!(result.stdout_raw, &b"blob"[..]);
    let here = std::thread::current().id();
    let inline: Vec<bool> = store.opened_on.lock().iter().map(|thread| *thread == here).collect();
    assert_eq!(inline, [false; 3]);
}

/// Sends one HTTP/1.1 request on a connection of its own, and returns the response.
async fn http_1(server: &InProcessServer, head: &str, body: &[u8]) -> String {
    let mut stream = server.connect();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "current_thread")]
async fn sto_10_an_http_lookup_does_not_wait_for_the_eviction_of_another_request() {
    let writers_take = Duration::from_secs(2);
    let server = InProcessServer::with(FaultyStore::slow(writers_take), ServeLimits::default());
    let hash = DigestFunction::Sha256.hash(b"blob");
    let (blob, action) = (format!("/cas/{hash}"), format!("/ac/{hash}"));
    let (put_blob, put_action) = (format!("PUT {blob}"), format!("PUT {action}"));
    let result = ActionResult { exit_code: 1, ..ActionResult::default() }.encode_to_vec();
    let begun = std::time::Instant::now();
    let puts =
        async { tokio::join!(http_1(&server, &put_blob, b"blob"), http_1(&server, &put_action, &result)) };
    let lookups = async {
        while server.activity.requests_in_flight() < 2 && begun.elapsed() < writers_take {
            tokio::task::yield_now().await;
        }
        for head in ["HEAD", "GET"] {
            for path in [&*blob, &*action, "/status", "/metrics"] {
                http_1(&server, &format!("{head} {path}"), b"").await;
            }
        }
        begun.elapsed()
    };
    let ((stored_blob, stored_action), lookups_took) = tokio::join!(puts, lookups);
    assert!(lookups_took < writers_take, "lookups took {lookups_took:?}");
    assert!(stored_blob.starts_with("HTTP/1.1 200") && stored_action.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn many_requests_on_one_connection_are_answered() {
    let server = InProcessServer::new();
    let digests: Vec<Digest> =
        (0..500).map(|i| server.insert(DigestFunction::Blake3, &sample(2_000, i))).collect();
    let channel = server.channel().await;
    let mut tasks = tokio::task::JoinSet::new();
    for digest in digests {
        let channel = channel.clone();
        tasks.spawn(async move {
            let mut client =
                kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient::new(
                    channel,
                );
            let request = FindMissingBlobsRequest {
                blob_digests: vec![wire(&digest)],
                digest_function: 9,
                ..FindMissingBlobsRequest::default()
            };
            client.find_missing_blobs(request).await.unwrap().into_inner().missing_blob_digests.len()
        });
    }
    while let Some(missing) = tasks.join_next().await {
        assert_eq!(missing.unwrap(), 0);
    }
    assert_eq!(server.shared.grpc_metrics.snapshot(), [(GrpcMethod::FindMissingBlobs, Code::Ok, 500)]);
    assert_eq!(server.activity.requests_in_flight(), 0);
}
