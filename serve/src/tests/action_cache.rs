//! `ActionCache` as its clients see it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kache_cas::{AccessKind, Digest, DigestFunction};
use kache_proto::Message as _;
use kache_proto::reapi::{
    ActionResult, Directory, ExecutedActionMetadata, FileNode, GetActionResultRequest, OutputDirectory,
    OutputFile, Tree, UpdateActionResultRequest,
};
use tonic::Code;

use super::grpc_server::{FaultyStore, InProcessServer, memory, sample, value, wire};
use crate::limits::ServeLimits;

const SHA256: DigestFunction = DigestFunction::Sha256;

fn get(action: &Digest, instance: &str) -> GetActionResultRequest {
    GetActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(wire(action)),
        digest_function: value(action.function),
        ..GetActionResultRequest::default()
    }
}

fn put(action: &Digest, result: ActionResult, instance: &str) -> UpdateActionResultRequest {
    UpdateActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(wire(action)),
        action_result: Some(result),
        digest_function: value(action.function),
        ..UpdateActionResultRequest::default()
    }
}

fn file(path: &str, digest: &Digest) -> OutputFile {
    OutputFile { path: path.to_owned(), digest: Some(wire(digest)), ..OutputFile::default() }
}

/// A result with a worker, as well-behaved clients send it.
fn result(output_files: Vec<OutputFile>) -> ActionResult {
    let metadata = ExecutedActionMetadata { worker: "w".to_owned(), ..ExecutedActionMetadata::default() };
    ActionResult { output_files, execution_metadata: Some(metadata), ..ActionResult::default() }
}

async fn store(server: &InProcessServer, action: &Digest, result: ActionResult, instance: &str) {
    server.actions().await.update_action_result(put(action, result, instance)).await.unwrap();
}

async fn lookup(server: &InProcessServer, request: GetActionResultRequest) -> Result<ActionResult, Code> {
    let found = server.actions().await.get_action_result(request).await;
    found.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[tokio::test]
async fn results_are_kept_by_function_hash_and_instance() {
    let server = InProcessServer::new();
    for function in DigestFunction::ALL {
        let action = Digest::of(function, b"action");
        let output = server.insert(function, b"output");
        let kept = result(vec![file("a/b", &output)]);
        assert_eq!(lookup(&server, get(&action, "")).await, Err(Code::NotFound));
        store(&server, &action, kept.clone(), "").await;
        assert_eq!(lookup(&server, get(&action, "")).await.unwrap().output_files, kept.output_files);
        for instance in ["x", "x/y"] {
            assert_eq!(lookup(&server, get(&action, instance)).await, Err(Code::NotFound));
        }
        store(&server, &action, result(vec![]), "x/y").await;
        assert!(lookup(&server, get(&action, "x/y")).await.unwrap().output_files.is_empty());
        assert_eq!(lookup(&server, get(&action, "")).await.unwrap().output_files.len(), 1);
    }
}

#[tokio::test]
async fn the_same_hash_of_another_function_is_another_action() {
    let server = InProcessServer::new();
    let sha256 = Digest::of(SHA256, b"action");
    let blake3: Digest = Digest::new(DigestFunction::Blake3, sha256.hash, sha256.size_bytes);
    store(&server, &sha256, result(vec![]), "").await;
    assert_eq!(lookup(&server, get(&blake3, "")).await, Err(Code::NotFound));
    let mut unsaid = get(&sha256, "");
    unsaid.digest_function = 0;
    assert!(lookup(&server, unsaid).await.is_ok(), "what goes without saying is SHA-256");
}

#[tokio::test]
async fn the_size_of_an_action_is_ignored() {
    // bazel-remote as a proxy reads with size -1 and writes with the result's size.
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let mut request = put(&action, result(vec![]), "");
    request.action_digest.as_mut().unwrap().size_bytes = 4711;
    server.actions().await.update_action_result(request).await.unwrap();
    let mut request = get(&action, "");
    request.action_digest.as_mut().unwrap().size_bytes = -1;
    assert!(lookup(&server, request).await.is_ok());
}

#[tokio::test]
async fn malformed_requests_are_invalid_arguments() {
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let mut client = server.actions().await;
    let invalid = |status: tonic::Status| assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let nameless = GetActionResultRequest::default();
    invalid(client.get_action_result(nameless).await.unwrap_err());
    let mut upper = get(&action, "");
    upper.action_digest.as_mut().unwrap().hash.make_ascii_uppercase();
    invalid(client.get_action_result(upper).await.unwrap_err());
    let mut strange = get(&action, "");
    strange.digest_function = 7;
    invalid(client.get_action_result(strange).await.unwrap_err());
    invalid(client.get_action_result(get(&action, "operations")).await.unwrap_err());
    invalid(client.get_action_result(get(&action, &"x".repeat(300))).await.unwrap_err());
    let nothing = UpdateActionResultRequest { action_result: None, ..put(&action, result(vec![]), "") };
    invalid(client.update_action_result(nothing).await.unwrap_err());
}

#[tokio::test]
async fn results_that_no_cache_may_keep_are_refused() {
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let output = server.insert(SHA256, b"output");
    let mut unset = file("a", &output);
    unset.digest = None;
    let mut negative = file("a", &output);
    negative.digest.as_mut().unwrap().size_bytes = -1;
    let treeless = OutputDirectory { path: "d".to_owned(), ..OutputDirectory::default() };
    for wrong in [
        result(vec![file("/etc/passwd", &output)]),
        result(vec![file("../a", &output)]),
        result(vec![file("a/../../b", &output)]),
        result(vec![file("", &output)]),
        result(vec![unset]),
        result(vec![negative]),
        ActionResult { output_directories: vec![treeless], ..result(vec![]) },
    ] {
        let status =
            server.actions().await.update_action_result(put(&action, wrong.clone(), "")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
        assert_eq!(lookup(&server, get(&action, "")).await, Err(Code::NotFound));
    }
}

#[tokio::test]
async fn an_action_need_not_be_an_action_message() {
    let server = InProcessServer::new();
    let action = server.insert(SHA256, br#"{"command": "moon's actions are JSON"}"#);
    store(&server, &action, result(vec![]), "").await;
    assert!(lookup(&server, get(&action, "")).await.is_ok());
}

#[tokio::test]
async fn a_client_that_may_only_read_cannot_store_results() {
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let reader = server.read_only();
    let status =
        reader.actions().await.update_action_result(put(&action, result(vec![]), "")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(lookup(&server, get(&action, "")).await, Err(Code::NotFound));
    store(&server, &action, result(vec![]), "").await;
    assert!(lookup(&reader, get(&action, "")).await.is_ok());
}

/// A result that names every kind of blob. All of them are stored but the one called `absent`.
fn result_without(server: &InProcessServer, absent: &str) -> ActionResult {
    let blob = |name: &str, bytes: &[u8]| {
        if name == absent { Digest::of(SHA256, bytes) } else { server.insert(SHA256, bytes) }
    };
    let inside = blob("file in tree", format!("inside without {absent}").as_bytes());
    let root = Directory {
        files: vec![FileNode { name: "f".to_owned(), digest: Some(wire(&inside)), ..FileNode::default() }],
        ..Directory::default()
    };
    let tree = Tree { root: Some(root), children: Vec::new() }.encode_to_vec();
    let tree = blob("tree", &tree);
    let directory = OutputDirectory {
        path: "d".to_owned(),
        tree_digest: Some(wire(&tree)),
        ..OutputDirectory::default()
    };
    let output = blob("file", format!("file without {absent}").as_bytes());
    let stdout = blob("stdout", format!("stdout without {absent}").as_bytes());
    ActionResult {
        output_directories: vec![directory],
        stdout_digest: Some(wire(&stdout)),
        stderr_digest: Some(wire(&Digest::empty(SHA256))),
        ..result(vec![file("f", &output)])
    }
}

#[tokio::test]
async fn sto_03_a_result_with_a_missing_blob_is_a_miss() {
    let server = InProcessServer::new();
    for (absent, expected) in [
        ("nothing", Ok(())),
        ("file", Err(Code::NotFound)),
        ("stdout", Err(Code::NotFound)),
        ("tree", Err(Code::NotFound)),
        ("file in tree", Err(Code::NotFound)),
    ] {
        let action = Digest::of(SHA256, absent.as_bytes());
        store(&server, &action, result_without(&server, absent), "").await;
        assert_eq!(lookup(&server, get(&action, "")).await.map(drop), expected, "{absent}");
    }
}

#[tokio::test]
async fn requested_outputs_are_inlined_as_far_as_they_fit() {
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let out = server.insert(SHA256, b"warning: unused");
    let small = server.insert(SHA256, b"small");
    let big = server.insert(SHA256, &sample(5_000_000, 5));
    let kept = ActionResult {
        stdout_digest: Some(wire(&out)),
        stderr_digest: Some(wire(&big)),
        ..result(vec![file("small", &small), file("big", &big), file("unasked", &small)])
    };
    store(&server, &action, kept.clone(), "").await;
    let plain = lookup(&server, get(&action, "")).await.unwrap();
    assert!(plain.stdout_raw.is_empty() && plain.output_files.iter().all(|f| f.contents.is_empty()));
    let request = GetActionResultRequest {
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["big".to_owned(), "small".to_owned(), "absent".to_owned()],
        ..get(&action, "")
    };
    let full = lookup(&server, request).await.unwrap();
    assert_eq!(full.stdout_raw, Bytes::from_static(b"warning: unused"));
    assert!(full.stderr_raw.is_empty(), "5 MB do not fit a message");
    assert_eq!(full.stderr_digest, kept.stderr_digest);
    let contents: Vec<&[u8]> = full.output_files.iter().map(|f| f.contents.as_ref()).collect();
    assert_eq!(contents, [&b"small"[..], b"", b""]);
    assert!(full.encoded_len() < 4 * 1024 * 1024);
}

#[tokio::test]
async fn a_result_that_no_message_could_carry_is_refused() {
    let server = InProcessServer::new();
    let action = Digest::of(SHA256, b"action");
    let large = ActionResult { stdout_raw: Bytes::from(vec![b'x'; 4_100_000]), ..result(vec![]) };
    let mut client = server.actions().await.max_encoding_message_size(usize::MAX);
    let status = client.update_action_result(put(&action, large, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("action_result_bytes_max"), "{status}");
    // A large result that fits is returned as it was stored.
    let output = server.insert(SHA256, b"output");
    let files = (0..20_000).map(|i| file(&format!("some/directory/file-{i}"), &output)).collect();
    let large = result(files);
    assert!(large.encoded_len() > 1_000_000);
    store(&server, &action, large.clone(), "").await;
    assert_eq!(lookup(&server, get(&action, "")).await.unwrap().output_files, large.output_files);
}

#[tokio::test]
async fn sto_08_a_store_that_fails_is_not_a_miss() {
    for (raw, code) in [
        (libc::EIO, Code::Internal),
        (libc::EMFILE, Code::Unavailable),
        (libc::ENOSPC, Code::ResourceExhausted),
    ] {
        let failing = FaultyStore::new(raw);
        let server = InProcessServer::with(failing.clone(), ServeLimits::default());
        let action = Digest::of(SHA256, b"action");
        store(&server, &action, result(vec![]), "").await;
        failing.is_failing.store(true, Ordering::Relaxed);
        assert_eq!(lookup(&server, get(&action, "")).await, Err(code));
        let status =
            server.actions().await.update_action_result(put(&action, result(vec![]), "")).await.unwrap_err();
        assert_eq!(status.code(), code);
        failing.is_failing.store(false, Ordering::Relaxed);
        assert!(lookup(&server, get(&action, "")).await.is_ok(), "nothing was deleted");
    }
}

#[tokio::test]
async fn a_hit_extends_the_leases_of_its_blobs() {
    let store = memory();
    let server = InProcessServer::with(store.clone(), ServeLimits::default());
    let action = Digest::of(SHA256, b"action");
    let output = server.insert(SHA256, b"output");
    super::action_cache::store(&server, &action, result(vec![file("a", &output)]), "").await;
    lookup(&server, get(&action, "")).await.unwrap();
    assert_eq!(store.blobs().find_missing(&[output], AccessKind::Peek).unwrap(), [false]);
}
