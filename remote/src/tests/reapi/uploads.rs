//! The form of uploads, and what servers say about them.

use bytes::Bytes;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::bytestream::WriteRequest;
use kache_proto::reapi::CacheCapabilities;

use super::recorder::Call;
use super::recorder_server::{RecorderServer, everything, sha256_only};
use super::samples::{context, is_malformed, named, options, sample};
use crate::{ReapiRemote, Remote as _, RemoteError};

/// Uploads one blob in a stream, and returns the outcome and the messages.
async fn upload(
    server: &RecorderServer,
    remote: &ReapiRemote,
    blob: &(Digest, Content),
) -> (Result<(), RemoteError>, Vec<WriteRequest>) {
    let outcome = remote.write(std::slice::from_ref(blob), &context()).await.remove(0);
    let messages = server.recorder.take_calls().into_iter().find_map(|call| match call {
        Call::Write(messages) => Some(messages),
        _ => None,
    });
    (outcome, messages.unwrap_or_default())
}

fn large(function: DigestFunction) -> (Bytes, (Digest, Content)) {
    let bytes = sample(5_000_000, 1);
    let blob = named(function, std::slice::from_ref(&bytes)).remove(0);
    (bytes, blob)
}

#[tokio::test]
async fn a_stream_names_its_blob_first_and_finishes_last() {
    for capabilities in [sha256_only(0), everything()] {
        let is_zstd = !capabilities.supported_compressors.is_empty();
        let server = RecorderServer::start(capabilities).await;
        let remote = server.open(&options());
        let (bytes, blob) = large(DigestFunction::Sha256);
        let (outcome, messages) = upload(&server, &remote, &blob).await;
        outcome.unwrap();
        let (last, others) = messages.split_last().unwrap();
        assert!(last.finish_write && others.iter().all(|message| !message.finish_write));
        let name = &messages[0].resource_name;
        let words = if is_zstd { "compressed-blobs/zstd" } else { "blobs" };
        assert!(name.starts_with("uploads/") && name.ends_with(&format!("/{words}/{}", blob.0)), "{name}");
        assert!(messages[1..].iter().all(|message| message.resource_name.is_empty()));
        let mut offset = 0;
        for message in &messages {
            assert_eq!(message.write_offset, offset);
            offset += i64::try_from(message.data.len()).unwrap();
            assert!(message.data.len() <= 1024 * 1024);
        }
        let sent: Vec<u8> = messages.iter().flat_map(|message| message.data.iter().copied()).collect();
        let sent = if is_zstd { zstd::decode_all(&sent[..]).unwrap() } else { sent };
        assert!(sent == bytes);
    }
}

#[tokio::test]
async fn all_ways_to_confirm_a_stream_are_understood() {
    let (_, blob) = large(DigestFunction::Sha256);
    let plain = RecorderServer::start(sha256_only(0)).await;
    let zstd = RecorderServer::start(everything()).await;
    for (server, committed, is_early, is_good) in [
        (&plain, None, false, true),
        (&plain, Some(-1), false, true),
        (&plain, Some(0), false, false),
        (&plain, Some(4_999_999), false, false),
        (&plain, Some(5_000_000), true, true),
        (&plain, Some(-1), true, true),
        (&plain, None, true, false),
        (&zstd, None, false, true),
        (&zstd, Some(-1), false, true),
        (&zstd, Some(5_000_000), false, true),
        (&zstd, Some(1), false, false),
        (&zstd, Some(-1), true, true),
    ] {
        server.recorder.behave(|behaviour| {
            behaviour.committed_size = committed;
            behaviour.answers_early = is_early;
        });
        let (outcome, _) = upload(server, &server.open(&options()), &blob).await;
        assert_eq!(outcome.is_ok(), is_good, "{committed:?} {is_early}: {outcome:?}");
        assert!(outcome.err().is_none_or(|error| is_malformed(&error)));
    }
}

#[tokio::test]
async fn blobs_are_compressed_where_the_server_can_and_it_helps() {
    let server = RecorderServer::start(everything()).await;
    let remote = server.open(&options());
    let noise: Bytes = (0..200u8).map(|i| i.wrapping_mul(167)).collect();
    let blobs = named(DigestFunction::Blake3, &[Bytes::from(vec![7; 1000]), noise.clone()]);
    assert_eq!(remote.write(&blobs, &context()).await, [Ok(()), Ok(())]);
    let calls = server.recorder.take_calls();
    let [Call::BatchUpdate(message)] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((message.requests[0].compressor, message.requests[1].compressor), (1, 0));
    assert_eq!(zstd::decode_all(&message.requests[0].data[..]).unwrap(), [7; 1000]);
    assert_eq!(message.requests[1].data, noise);

    let only_streams = CacheCapabilities { supported_batch_update_compressors: Vec::new(), ..everything() };
    let server = RecorderServer::start(only_streams).await;
    assert_eq!(server.open(&options()).write(&blobs, &context()).await, [Ok(()), Ok(())]);
    let calls = server.recorder.take_calls();
    let [Call::BatchUpdate(message)] = &calls[..] else { panic!("{calls:?}") };
    assert!(message.requests.iter().all(|request| request.compressor == 0));
}

#[tokio::test]
async fn a_blob_without_a_response_is_not_confirmed() {
    let server = RecorderServer::start(sha256_only(0)).await;
    server.recorder.behave(|behaviour| behaviour.forgets_last = true);
    let blobs = named(DigestFunction::Sha256, &[sample(10, 1), sample(10, 2)]);
    let outcomes = server.open(&options()).write(&blobs, &context()).await;
    assert!(outcomes[0].is_ok() && outcomes[1].as_ref().is_err_and(is_malformed), "{outcomes:?}");
}

#[tokio::test]
async fn a_blob_that_the_server_does_not_take_is_not_sent() {
    let capabilities = CacheCapabilities { max_cas_blob_size_bytes: 1_000, ..sha256_only(0) };
    let server = RecorderServer::start(capabilities).await;
    let mut blobs = named(DigestFunction::Sha256, &[sample(1_000, 1), sample(1_001, 2)]);
    // The third blob has fewer bytes here than its digest says.
    let wrong = Digest::new(DigestFunction::Sha256, blobs[0].0.hash, 999);
    blobs.push((wrong, blobs[0].1.clone()));
    let outcomes = server.open(&options()).write(&blobs, &context()).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(RemoteError::TooLarge { .. })), "{outcomes:?}");
    assert!(matches!(outcomes[2], Err(RemoteError::Local { .. })), "{outcomes:?}");
}
