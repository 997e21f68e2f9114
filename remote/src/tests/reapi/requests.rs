//! The form of every request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction};
use kache_proto::Message as _;
use kache_proto::reapi::{ActionCacheUpdateCapabilities, ActionResult, RequestMetadata};
use tokio::task::JoinSet;

use super::recorder::{Call, largest_batch};
use super::recorder_server::{RecorderServer, everything, sha256_only};
use super::samples::{context, digests, is_refused, named, options, sample, uncompressed};
use crate::tests::token_command;
use crate::{Authentication, Remote as _, RemoteOptions, Secret, TokenCommand};

/// Makes every kind of request once.
async fn ask_everything(
    server: &RecorderServer,
    options: &RemoteOptions,
    function: DigestFunction,
) -> Vec<Call> {
    let remote = server.open(options);
    let action = Digest::of(function, b"an action");
    let blobs = named(function, &[sample(100, 1), sample(5_000_000, 2)]);
    for (digest, content) in &blobs {
        server.recorder.insert(digest, &content.read_all().unwrap());
    }
    remote.get_result(&action, &context()).await.unwrap();
    remote.put_result(&action, &ActionResult::default(), &context()).await.unwrap();
    remote.find_missing(&digests(&blobs), &context()).await.unwrap();
    assert!(remote.write(&blobs, &context()).await.iter().all(Result::is_ok));
    remote.read_small(&digests(&blobs), &context()).await.unwrap();
    server.recorder.take_calls()
}

/// Returns the digest function that a request names, or its resource name.
fn function(call: &Call) -> Result<i32, String> {
    match call {
        Call::Get(message) => Ok(message.digest_function),
        Call::Put(message) => Ok(message.digest_function),
        Call::FindMissing(message) => Ok(message.digest_function),
        Call::BatchUpdate(message) => Ok(message.digest_function),
        Call::BatchRead(message) => Ok(message.digest_function),
        Call::Read(message) => Err(message.resource_name.clone()),
        Call::Write(messages) => Err(messages[0].resource_name.clone()),
    }
}

#[tokio::test]
async fn sha256_is_never_named_and_blake3_always() {
    let server = RecorderServer::start(everything()).await;
    for (expected, value) in [(DigestFunction::Sha256, 0), (DigestFunction::Blake3, 9)] {
        let calls = ask_everything(&server, &uncompressed(), expected).await;
        assert_eq!(calls.len(), 7, "{calls:?}");
        for call in &calls {
            match function(call) {
                Ok(function) => assert_eq!(function, value),
                Err(name) => {
                    assert!(!name.contains("sha256"), "{name}");
                    assert_eq!(name.contains("blobs/blake3/"), expected == DigestFunction::Blake3, "{name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_request_carries_its_headers_and_the_instance() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let headers = vec![("x-buildbuddy-api-key".to_owned(), Secret::new("hunter2"))];
    let options = RemoteOptions { headers, instance: "team/a".to_owned(), ..options() };
    let calls = ask_everything(&server, &options, DigestFunction::Sha256).await;
    let headers = server.recorder.headers.lock();
    assert_eq!(headers.len(), calls.len());
    for headers in &*headers {
        assert_eq!(headers.get("x-buildbuddy-api-key").unwrap(), "hunter2");
        let metadata = headers.get_bin("build.bazel.remote.execution.v2.requestmetadata-bin").unwrap();
        let metadata = RequestMetadata::decode(metadata.to_bytes().unwrap()).unwrap();
        let tool = metadata.tool_details.unwrap();
        assert_eq!((tool.tool_name.as_str(), tool.tool_version.as_str()), ("kache", "1.2.3"));
        assert_eq!((metadata.action_id.as_str(), metadata.action_mnemonic.as_str()), ("0123ab", "Rustc"));
        assert_eq!(metadata.tool_invocation_id, "4567cd");
    }
    for call in &calls {
        let instance = match call {
            Call::Get(message) => &message.instance_name,
            Call::Put(message) => &message.instance_name,
            Call::FindMissing(message) => &message.instance_name,
            Call::BatchUpdate(message) => &message.instance_name,
            Call::BatchRead(message) => &message.instance_name,
            Call::Read(message) => &message.resource_name,
            Call::Write(messages) => &messages[0].resource_name,
        };
        assert!(instance.starts_with("team/a"), "{instance}");
        if let Call::Get(message) = call {
            assert!(!message.inline_stdout && message.inline_output_files.is_empty());
        }
    }
}

#[tokio::test]
async fn every_request_carries_the_token_that_a_program_prints() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let options = RemoteOptions { authentication: Some(token_command()), ..options() };
    ask_everything(&server, &options, DigestFunction::Sha256).await;
    for headers in &*server.recorder.headers.lock() {
        assert_eq!(headers.get("authorization").unwrap(), "Bearer t0ken");
    }
    let command = TokenCommand { argv: vec!["/nonexistent/hunter".to_owned()], environment: Vec::new() };
    let options = RemoteOptions { authentication: Some(Authentication::Command(command)), ..options };
    let error = server.open(&options).capabilities().await.unwrap_err();
    assert!(
        is_refused(&error) && error.to_string().contains("`/nonexistent/hunter` printed no token"),
        "{error}"
    );
}

#[tokio::test]
async fn no_batch_is_larger_than_the_limit() {
    for (advertised, limit) in [(65_536, 65_536), (0, 4_000_000), (i64::MAX, 4_000_000)] {
        let server = RecorderServer::start(sha256_only(advertised)).await;
        let remote = server.open(&options());
        let lengths = (0..400).map(|i| i * i % 70_000).chain([65_436, 65_437, 3_999_900, 3_999_901]);
        let blobs: Vec<Bytes> = lengths.map(|len| sample(len, len as u64)).collect();
        let blobs = named(DigestFunction::Sha256, &blobs);
        for (digest, content) in &blobs {
            server.recorder.insert(digest, &content.read_all().unwrap());
        }
        assert!(remote.write(&blobs, &context()).await.iter().all(Result::is_ok));
        let found = remote.read_small(&digests(&blobs), &context()).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        let calls = server.recorder.take_calls();
        let largest = largest_batch(&server.recorder, &calls);
        assert!(largest <= limit && largest > limit / 2, "{advertised}: {largest}");
        let streams = calls.iter().filter(|call| matches!(call, Call::Write(_) | Call::Read(_))).count();
        assert!(streams >= 2, "{advertised}: {streams}");
    }
}

#[tokio::test]
async fn the_empty_blob_is_never_asked_for_and_duplicates_once() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let remote = server.open(&options());
    let [empty, one] = [&b""[..], b"1"].map(|bytes| Digest::of(DigestFunction::Sha256, bytes));
    server.recorder.insert(&one, b"1");
    let asked = [one, empty, one, empty];
    assert_eq!(remote.find_missing(&asked, &context()).await.unwrap(), [false; 4]);
    let found = remote.read_small(&asked, &context()).await.unwrap();
    assert_eq!(found, [&b"1"[..], b"", b"1", b""].map(|bytes| Some(Bytes::from_static(bytes))));
    let contents = named(DigestFunction::Sha256, &[Bytes::new()]);
    assert_eq!(remote.write(&contents, &context()).await, [Ok(())]);
    for call in server.recorder.take_calls() {
        match call {
            Call::FindMissing(message) => assert_eq!(message.blob_digests.len(), 1),
            Call::BatchRead(message) => assert_eq!(message.digests.len(), 1),
            other => panic!("{other:?}"),
        }
    }
    // No bytes have this digest.
    let nothing = Digest::new(DigestFunction::Sha256, one.hash, 0);
    assert!(remote.read_small(&[nothing], &context()).await.is_err());
}

#[tokio::test]
async fn many_digests_are_asked_for_in_several_requests() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let remote = server.open(&options());
    let asked: Vec<Digest> =
        (0..25_000u32).map(|i| Digest::of(DigestFunction::Sha256, &i.to_le_bytes())).collect();
    assert!(remote.find_missing(&asked, &context()).await.unwrap().iter().all(|missing| *missing));
    let lengths = server.recorder.take_calls().into_iter().map(|call| match call {
        Call::FindMissing(message) => message.blob_digests.len(),
        other => panic!("{other:?}"),
    });
    let mut lengths: Vec<usize> = lengths.collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [5_000, 10_000, 10_000]);
}

#[tokio::test]
async fn capabilities_are_asked_for_once_and_say_whether_results_are_taken() {
    let update = Some(ActionCacheUpdateCapabilities { update_enabled: false });
    let server = RecorderServer::start(kache_proto::reapi::CacheCapabilities {
        action_cache_update_capabilities: update,
        ..sha256_only(0)
    })
    .await;
    let remote = server.open(&options());
    let mut asking = JoinSet::new();
    for _ in 0..10 {
        let remote = remote.clone();
        asking.spawn(async move { remote.capabilities().await });
    }
    for asked in asking.join_all().await {
        let capabilities = asked.unwrap();
        assert!(!capabilities.takes_results && capabilities.function == DigestFunction::Sha256);
    }
    assert_eq!(server.recorder.capability_requests.load(Ordering::Relaxed), 1);
    let server = RecorderServer::start(Default::default()).await;
    assert!(is_refused(&server.open(&options()).capabilities().await.unwrap_err()));
}

#[tokio::test]
async fn one_connection_serves_all_requests_until_it_is_unused() {
    let server = RecorderServer::start(sha256_only(0)).await;
    let mut options = options();
    options.limits.idle = Duration::from_millis(300);
    let connections = || server.recorder.connections.load(Ordering::Relaxed);
    let remote = server.open(&options);
    let action = Digest::of(DigestFunction::Sha256, b"an action");
    let mut lookups = JoinSet::new();
    for _ in 0..50 {
        let remote = remote.clone();
        lookups.spawn(async move { remote.get_result(&action, &context()).await });
    }
    assert!(lookups.join_all().await.iter().all(|outcome| *outcome == Ok(None)));
    assert_eq!(connections(), 1);
    tokio::time::sleep(Duration::from_millis(900)).await;
    remote.capabilities().await.unwrap();
    assert_eq!(connections(), 2);
}
