//! Servers that lie, refuse or hang.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::ActionResult;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::recorder_server::{RecorderServer, everything, sha256_only};
use super::samples::{context, is_malformed, is_refused, named, options, sample, uncompressed};
use crate::tests::own_server::open;
use crate::{ReapiRemote, Remote as _, RemoteError, RemoteLimits, RemoteOptions};

/// The stall limit of servers that hang.
const STALL: Duration = Duration::from_millis(200);

fn impatient() -> RemoteOptions {
    let limits = RemoteLimits { connect: STALL, stall: STALL, ..RemoteLimits::default() };
    RemoteOptions { limits, ..uncompressed() }
}

/// Reads a blob as a stream, to its end or its error.
async fn read(remote: &ReapiRemote, digest: &Digest) -> Result<Option<Vec<u8>>, RemoteError> {
    let Some(mut stream) = remote.read(digest, &context()).await? else { return Ok(None) };
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(Some(whole))
}

/// Makes each kind of request and returns its error.
async fn errors(remote: &ReapiRemote) -> Vec<RemoteError> {
    let action = Digest::of(DigestFunction::Sha256, b"an action");
    let blobs = named(DigestFunction::Sha256, &[sample(100, 1), sample(5_000_000, 2)]);
    let (small, large) = (blobs[0].0, blobs[1].0);
    let mut errors = vec![
        remote.get_result(&action, &context()).await.unwrap_err(),
        remote.put_result(&action, &ActionResult::default(), &context()).await.unwrap_err(),
        remote.find_missing(&[small], &context()).await.unwrap_err(),
        remote.read_small(&[small], &context()).await.unwrap_err(),
        remote.read_small(&[large], &context()).await.unwrap_err(),
        read(remote, &large).await.unwrap_err(),
    ];
    errors.extend(remote.write(&blobs, &context()).await.into_iter().map(Result::unwrap_err));
    errors
}

#[tokio::test]
async fn other_bytes_are_noticed() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let remote = server.open(&options());
    for len in [100, 5_000_000] {
        let good = sample(len, 1);
        let digest = Digest::of(DigestFunction::Sha256, &good);
        for wrong in [sample(len, 2), sample(len + 1, 1), good.slice(1..), good.slice(..0)] {
            server.recorder.insert(&digest, &wrong);
            let error = remote.read_small(&[digest], &context()).await.unwrap_err();
            assert!(is_malformed(&error), "{len} {}: {error}", wrong.len());
        }
        server.recorder.insert(&digest, &good);
        assert_eq!(remote.read_small(&[digest], &context()).await.unwrap(), [Some(good)]);
    }
}

#[tokio::test]
async fn a_stream_of_another_length_ends_with_an_error() {
    let server = RecorderServer::start(everything()).await;
    let (plain, compressed) = (server.open(&uncompressed()), server.open(&options()));
    let good = sample(300_000, 1);
    let digest = Digest::of(DigestFunction::Blake3, &good);
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    for (len, is_good) in [(299_999, false), (300_000, true), (300_001, false), (900_000, false)] {
        let bytes = sample(len, 1);
        server.recorder.insert(&digest, &bytes);
        let outcome = read(&plain, &digest).await;
        assert_eq!(outcome.is_ok(), is_good, "{len}");
        assert!(outcome.err().is_none_or(|error| is_malformed(&error)));
        server.recorder.insert(&digest, &zstd(&bytes));
        let outcome = read(&compressed, &digest).await;
        assert_eq!(outcome.is_ok(), is_good, "{len}");
        assert!(outcome.err().is_none_or(|error| is_malformed(&error)));
    }
    // Several frames, and frames without content, are one blob.
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let frames = [&skippable[..], &zstd(&good[..100_000]), &skippable, &zstd(&good[100_000..]), &skippable];
    server.recorder.insert(&digest, &frames.concat());
    assert!(read(&compressed, &digest).await.unwrap().unwrap() == good);
    for wrong in [&b"no frame"[..], &zstd(&good)[..1000], &zstd(&vec![0; 1 << 28])] {
        server.recorder.insert(&digest, wrong);
        assert!(is_malformed(&read(&compressed, &digest).await.unwrap_err()));
    }
}

#[tokio::test]
async fn a_batch_without_a_response_for_a_blob_is_an_error() {
    let server = RecorderServer::start(sha256_only(0)).await;
    server.recorder.behave(|behaviour| behaviour.forgets_last = true);
    let digests = [1, 2].map(|seed| Digest::of(DigestFunction::Sha256, &sample(10, seed)));
    let error = server.open(&options()).read_small(&digests, &context()).await.unwrap_err();
    assert!(is_malformed(&error), "{error}");
}

#[tokio::test]
async fn refusals_repeat_the_words_of_the_server() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let remote = server.open(&options());
    for (code, name) in [
        (Code::PermissionDenied, "PERMISSION_DENIED"),
        (Code::Unauthenticated, "UNAUTHENTICATED"),
        (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Code::InvalidArgument, "INVALID_ARGUMENT"),
    ] {
        server.recorder.behave(|behaviour| behaviour.status = Some((code, "not on a Sunday")));
        for error in errors(&remote).await {
            assert!(is_refused(&error), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("not on a Sunday") && text.contains(name), "{text}");
        }
    }
    server.recorder.behave(|behaviour| behaviour.status = Some((Code::Unavailable, "draining")));
    assert!(errors(&remote).await.iter().all(RemoteError::is_transient));
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_within_the_limits() {
    let server = RecorderServer::start(sha256_only(0)).await;
    server.recorder.behave(|behaviour| behaviour.hangs = true);
    let remote = server.open(&impatient());
    let begun = Instant::now();
    let errors = errors(&remote).await;
    assert!(errors.iter().all(RemoteError::is_transient), "{errors:?}");
    assert!(errors[0].to_string().contains("no byte"), "{}", errors[0]);
    // Seven requests one after the other, of which each may take both limits, and uploads some time.
    assert!(begun.elapsed() < 10 * (STALL + STALL), "{:?}", begun.elapsed());
    server.recorder.behave(|behaviour| behaviour.hangs = false);
    let action = Digest::of(DigestFunction::Sha256, b"an action");
    assert_eq!(remote.get_result(&action, &context()).await, Ok(None));
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_within_the_limit() {
    let server = RecorderServer::start(sha256_only(0)).await;
    server.recorder.behave(|behaviour| behaviour.hangs_after_messages = Some(2));
    let bytes = sample(300_000, 1);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    server.recorder.insert(&digest, &bytes);
    let remote = server.open(&impatient());
    let mut stream = remote.read(&digest, &context()).await.unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 50_000);
        // The time that the caller takes is not the server's.
        tokio::time::sleep(2 * STALL).await;
    }
    let begun = Instant::now();
    assert!(stream.next().await.unwrap().unwrap_err().is_transient());
    assert!(begun.elapsed() >= STALL && begun.elapsed() < 10 * STALL, "{:?}", begun.elapsed());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn net_01_a_stream_that_trickles_ends_like_one_that_is_silent() {
    let server = RecorderServer::start(sha256_only(0)).await;
    server.recorder.behave(|behaviour| behaviour.trickles = Some(STALL / 2));
    let bytes = sample(1000, 1);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    server.recorder.insert(&digest, &bytes);
    let mut options = impatient();
    options.limits.bytes_per_second_min = 1 << 20;
    let begun = Instant::now();
    let error = read(&server.open(&options), &digest).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("1048576 bytes a second"), "{error}");
    // The whole blob would take a hundred seconds.
    assert!(begun.elapsed() < 50 * STALL, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_listens_and_nobody_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("grpc://{}", listener.local_addr().unwrap());
    // Connections are accepted by the system, and nobody reads what is sent.
    let begun = Instant::now();
    let error = open(&location, &impatient()).capabilities().await.unwrap_err();
    assert!(error.is_transient() && begun.elapsed() < 10 * STALL, "{error}");
    drop(listener);
    let error = open(&location, &impatient()).capabilities().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(&location), "{error}");
}

#[tokio::test]
async fn lookups_that_are_given_up_early_do_not_keep_a_dead_connection() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let mut options = options();
    options.limits.connect = Duration::from_millis(100);
    let remote = server.open(&options);
    remote.capabilities().await.unwrap();
    server.recorder.behave(|behaviour| behaviour.hangs = true);
    let action = Digest::of(DigestFunction::Sha256, b"an action");
    for _ in 0..10 {
        let context = context();
        let lookup = remote.get_result(&action, &context);
        assert!(tokio::time::timeout(Duration::from_millis(50), lookup).await.is_err());
    }
    assert!(server.recorder.connections.load(Ordering::Relaxed) > 1);
}

/// Answers every request with headers that no library of gRPC would send.
async fn serve_odd_headers(listener: tokio::net::TcpListener) {
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let answer = |_: http::Request<hyper::body::Incoming>| async {
        let response = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "7")
            .header("grpc-message", "go%20away")
            .header("grpc-status-details-bin", "!not base64!");
        response.body(tonic::body::Body::empty())
    };
    let (stream, _) = listener.accept().await.unwrap();
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await.unwrap();
}

#[tokio::test]
async fn details_that_are_not_base64_do_not_stop_this_program() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("grpc://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve_odd_headers(listener));
    let error = open(&location, &options()).capabilities().await.unwrap_err();
    assert!(is_refused(&error) && error.to_string().contains("go away"), "{error}");
    server.abort();
}
