//! `ContentAddressableStorage` and `Capabilities` as their clients see them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction};
use kache_proto::Message as _;
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::{
    BatchReadBlobsRequest, BatchUpdateBlobsRequest, Directory, DirectoryNode, FindMissingBlobsRequest,
    GetCapabilitiesRequest, GetTreeRequest, SpliceBlobRequest, SplitBlobRequest, batch_update_blobs_request,
    digest_function,
};
use tonic::Code;

use super::grpc_server::{FaultyStore, InProcessServer, memory, sample, value, wire};
use crate::limits::ServeLimits;

const BOTH: [DigestFunction; 2] = DigestFunction::ALL;

fn upload(digest: &Digest, data: impl Into<Bytes>, zip: bool) -> batch_update_blobs_request::Request {
    let compressor = if zip { Compressor::Zstd } else { Compressor::Identity } as i32;
    batch_update_blobs_request::Request { digest: Some(wire(digest)), data: data.into(), compressor }
}

async fn update(
    server: &InProcessServer,
    function: DigestFunction,
    requests: Vec<batch_update_blobs_request::Request>,
) -> Result<Vec<i32>, tonic::Status> {
    let request = BatchUpdateBlobsRequest {
        requests,
        digest_function: value(function),
        ..BatchUpdateBlobsRequest::default()
    };
    let response = server.cas().await.batch_update_blobs(request).await?.into_inner();
    Ok(response.responses.into_iter().map(|response| response.status.unwrap().code).collect())
}

async fn missing(server: &InProcessServer, function: DigestFunction, digests: &[Digest]) -> Vec<String> {
    let request = FindMissingBlobsRequest {
        blob_digests: digests.iter().map(wire).collect(),
        digest_function: value(function),
        ..FindMissingBlobsRequest::default()
    };
    let response = server.cas().await.find_missing_blobs(request).await.unwrap().into_inner();
    response.missing_blob_digests.into_iter().map(|d| format!("{}/{}", d.hash, d.size_bytes)).collect()
}

fn plain(digest: &Digest) -> String {
    format!("{}/{}", digest.hash, digest.size_bytes)
}

#[tokio::test]
async fn capabilities_have_the_fields_that_clients_need() {
    let server = InProcessServer::new();
    let request = GetCapabilitiesRequest { instance_name: "x/y".to_owned() };
    let found = server.capabilities().await.get_capabilities(request.clone()).await.unwrap().into_inner();
    let version = |version: Option<kache_proto::semver::SemVer>| {
        let version = version.unwrap();
        (version.major, version.minor)
    };
    assert_eq!((version(found.low_api_version), version(found.high_api_version)), ((2, 0), (2, 11)));
    assert!(found.execution_capabilities.is_none());
    let cache = found.cache_capabilities.unwrap();
    let functions = [digest_function::Value::Sha256 as i32, digest_function::Value::Blake3 as i32];
    assert_eq!(cache.digest_functions, functions);
    assert!(cache.max_batch_total_size_bytes > 0 && cache.max_batch_total_size_bytes < 4 * 1024 * 1024);
    assert!(cache.max_cas_blob_size_bytes > 1 << 30);
    assert_eq!(cache.supported_compressors, [Compressor::Zstd as i32]);
    assert_eq!(cache.supported_batch_update_compressors, [Compressor::Zstd as i32]);
    assert!(!cache.split_blob_support && !cache.splice_blob_support);
    assert!(cache.action_cache_update_capabilities.unwrap().update_enabled);

    let reader = server.read_only().capabilities().await.get_capabilities(request).await.unwrap();
    let cache = reader.into_inner().cache_capabilities.unwrap();
    assert!(!cache.action_cache_update_capabilities.unwrap().update_enabled);

    let request = GetCapabilitiesRequest { instance_name: "a/blobs/b".to_owned() };
    let status = server.capabilities().await.get_capabilities(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_empty_blob_always_exists() {
    let server = InProcessServer::new();
    for function in BOTH {
        let empty = Digest::empty(function);
        assert!(missing(&server, function, &[empty]).await.is_empty());
        let request = BatchReadBlobsRequest {
            digests: vec![wire(&empty)],
            digest_function: value(function),
            ..BatchReadBlobsRequest::default()
        };
        let read = server.cas().await.batch_read_blobs(request).await.unwrap().into_inner().responses;
        assert_eq!((read[0].status.as_ref().unwrap().code, read[0].data.len()), (0, 0));
        assert_eq!(update(&server, function, vec![upload(&empty, "", false)]).await.unwrap(), [0]);
    }
}

#[tokio::test]
async fn a_bad_blob_of_a_batch_does_not_affect_the_others() {
    let server = InProcessServer::new();
    for function in BOTH {
        let good = Digest::of(function, b"good");
        let wrong_hash: Digest = Digest::new(function, function.hash(b"other"), 4);
        let wrong_size: Digest = Digest::new(function, good.hash, 5);
        let unset = batch_update_blobs_request::Request { digest: None, ..upload(&good, "good", false) };
        let odd = batch_update_blobs_request::Request { compressor: 3, ..upload(&good, "good", false) };
        let requests = vec![
            upload(&wrong_hash, "evil", false),
            upload(&wrong_size, "good", false),
            upload(&good, "good", false),
            unset,
            odd,
            upload(&wrong_hash, "evil", true),
        ];
        let invalid = Code::InvalidArgument as i32;
        let expected = [invalid, invalid, 0, invalid, invalid, invalid];
        assert_eq!(update(&server, function, requests).await.unwrap(), expected);
        assert!(server.has(&good) && !server.has(&wrong_hash) && !server.has(&wrong_size));
        // The hash of a stored blob with another size is another blob, which is missing.
        let asked = [good, wrong_size, wrong_hash, good];
        let expected = [plain(&wrong_size), plain(&wrong_hash)];
        assert_eq!(missing(&server, function, &asked).await, expected);
    }
}

#[tokio::test]
async fn digest_functions_have_separate_blobs() {
    let server = InProcessServer::new();
    let bytes = sample(5_000, 1);
    let blake3 = server.insert(DigestFunction::Blake3, &bytes);
    let sha256 = Digest::of(DigestFunction::Sha256, &bytes);
    assert!(missing(&server, DigestFunction::Blake3, &[blake3]).await.is_empty());
    assert_eq!(missing(&server, DigestFunction::Sha256, &[sha256]).await, [plain(&sha256)]);
    // The BLAKE3 hash said to be a SHA-256 names nothing.
    let crossed: Digest = Digest::new(DigestFunction::Sha256, blake3.hash, blake3.size_bytes);
    assert_eq!(missing(&server, DigestFunction::Sha256, &[crossed]).await, [plain(&crossed)]);
    assert_eq!(
        update(&server, DigestFunction::Sha256, vec![upload(&sha256, bytes, false)]).await.unwrap(),
        [0]
    );
    assert!(missing(&server, DigestFunction::Sha256, &[sha256]).await.is_empty());
}

#[tokio::test]
async fn malformed_digests_and_functions_are_invalid_arguments() {
    let server = InProcessServer::new();
    let good = wire(&Digest::of(DigestFunction::Sha256, b"x"));
    let ask = async |digest: kache_proto::reapi::Digest, digest_function: i32, instance: &str| {
        let instance_name = instance.to_owned();
        let blob_digests = vec![digest];
        let request = FindMissingBlobsRequest { instance_name, blob_digests, digest_function };
        server.cas().await.find_missing_blobs(request).await.unwrap_err().code()
    };
    let mut upper = good.clone();
    upper.hash = upper.hash.to_uppercase();
    let mut short = good.clone();
    short.hash.pop();
    let mut negative = good.clone();
    negative.size_bytes = -1;
    for digest in [upper, short, negative] {
        assert_eq!(ask(digest, 1, "").await, Code::InvalidArgument);
    }
    assert_eq!(ask(good.clone(), 3, "").await, Code::InvalidArgument);
    assert_eq!(ask(good.clone(), 99, "").await, Code::InvalidArgument);
    assert_eq!(ask(good, 1, "uploads").await, Code::InvalidArgument);
}

#[tokio::test]
async fn batches_above_a_limit_are_refused_with_its_name() {
    let limits = ServeLimits { batch_blobs_max: 10, ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let big = sample(5_000_000, 2);
    let digest = Digest::of(DigestFunction::Sha256, &big);
    let status =
        update(&server, DigestFunction::Sha256, vec![upload(&digest, big, false)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("max_batch_total_size_bytes"), "{status}");
    assert!(!server.has(&digest));

    let huge = vec![0; 9_000_000];
    let status =
        update(&server, DigestFunction::Sha256, vec![upload(&digest, huge, false)]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("message_bytes_max"), "{status}");

    let small = Digest::of(DigestFunction::Sha256, b"x");
    let many = vec![upload(&small, "x", false); 11];
    let status = update(&server, DigestFunction::Sha256, many).await.unwrap_err();
    assert!(status.message().contains("batch_blobs_max"), "{status}");

    let request = BatchReadBlobsRequest {
        digests: vec![wire(&Digest::new(DigestFunction::Sha256, small.hash, 2_500_000)); 2],
        ..BatchReadBlobsRequest::default()
    };
    let status = server.cas().await.batch_read_blobs(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("max_batch_total_size_bytes"), "{status}");
}

#[tokio::test]
async fn a_batch_at_the_limit_is_accepted() {
    let server = InProcessServer::new();
    let bytes = sample(1_990_000, 3);
    let blobs: Vec<Vec<u8>> = (0..2).map(|i| bytes.iter().map(|byte| byte ^ i).collect()).collect();
    let digests: Vec<Digest> = blobs.iter().map(|blob| Digest::of(DigestFunction::Blake3, blob)).collect();
    let requests =
        digests.iter().zip(&blobs).map(|(digest, blob)| upload(digest, blob.clone(), false)).collect();
    assert_eq!(update(&server, DigestFunction::Blake3, requests).await.unwrap(), [0, 0]);
    let request = BatchReadBlobsRequest {
        digests: digests.iter().map(wire).collect(),
        digest_function: value(DigestFunction::Blake3),
        ..BatchReadBlobsRequest::default()
    };
    let read = server.cas().await.batch_read_blobs(request).await.unwrap().into_inner().responses;
    assert!(read.iter().zip(&blobs).all(|(read, blob)| read.data == *blob));
}

#[tokio::test]
async fn batches_may_be_compressed() {
    let server = InProcessServer::new();
    let bytes = sample(100_000, 4);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let zipped = zstd::bulk::compress(&bytes, 3).unwrap();
    let bomb = Digest::of(DigestFunction::Sha256, b"tiny");
    let bombs = zstd::bulk::compress(&vec![0; 10_000_000], 3).unwrap();
    let greedy: Digest = Digest::new(DigestFunction::Sha256, digest.hash, 1 << 40);
    let cut = zipped[..zipped.len() - 3].to_vec();
    let requests = vec![
        upload(&bomb, bombs, true),
        upload(&digest, cut, true),
        upload(&digest, zipped.clone(), true),
        upload(&greedy, zipped, true),
    ];
    let invalid = Code::InvalidArgument as i32;
    assert_eq!(
        update(&server, DigestFunction::Sha256, requests).await.unwrap(),
        [invalid, invalid, 0, invalid]
    );
    let absent = Digest::of(DigestFunction::Sha256, b"absent");
    for (acceptable, expected) in [
        (vec![], Compressor::Identity),
        (vec![0], Compressor::Identity),
        (vec![0, 1], Compressor::Zstd),
        (vec![3], Compressor::Identity),
    ] {
        let request = BatchReadBlobsRequest {
            digests: vec![wire(&digest), wire(&absent)],
            acceptable_compressors: acceptable,
            ..BatchReadBlobsRequest::default()
        };
        let read = server.cas().await.batch_read_blobs(request).await.unwrap().into_inner().responses;
        assert_eq!(read[0].compressor, expected as i32);
        let data = match expected {
            Compressor::Zstd => zstd::bulk::decompress(&read[0].data, bytes.len()).unwrap(),
            _ => read[0].data.to_vec(),
        };
        assert_eq!(data, bytes);
        assert_eq!(read[1].status.as_ref().unwrap().code, Code::NotFound as i32);
    }
}

#[tokio::test]
async fn a_client_that_may_only_read_stores_nothing() {
    let server = InProcessServer::new();
    let digest = Digest::of(DigestFunction::Sha256, b"x");
    let reader = server.read_only();
    let status =
        update(&reader, DigestFunction::Sha256, vec![upload(&digest, "x", false)]).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(!server.has(&digest));
    assert_eq!(missing(&reader, DigestFunction::Sha256, &[digest]).await.len(), 1);
}

#[tokio::test]
async fn sto_08_a_store_that_fails_does_not_report_missing_blobs() {
    let failing = FaultyStore::new(libc::EIO);
    let server = InProcessServer::with(failing.clone(), ServeLimits::default());
    let digest = server.insert(DigestFunction::Sha256, b"here");
    failing.is_failing.store(true, Ordering::Relaxed);
    let request =
        FindMissingBlobsRequest { blob_digests: vec![wire(&digest)], ..FindMissingBlobsRequest::default() };
    assert_eq!(server.cas().await.find_missing_blobs(request).await.unwrap_err().code(), Code::Internal);
    let request = BatchReadBlobsRequest { digests: vec![wire(&digest)], ..BatchReadBlobsRequest::default() };
    let read = server.cas().await.batch_read_blobs(request).await.unwrap().into_inner().responses;
    assert_eq!(read[0].status.as_ref().unwrap().code, Code::Internal as i32);
    let other = Digest::of(DigestFunction::Sha256, b"there");
    assert_eq!(
        update(&server, DigestFunction::Sha256, vec![upload(&other, "there", false)]).await.unwrap(),
        [Code::Internal as i32]
    );
    failing.is_failing.store(false, Ordering::Relaxed);
    assert!(missing(&server, DigestFunction::Sha256, &[digest]).await.is_empty());
}

#[tokio::test]
async fn unsupported_methods_are_unimplemented() {
    let server = InProcessServer::new();
    let mut cas = server.cas().await;
    let status = cas.split_blob(SplitBlobRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let status = cas.splice_blob(SpliceBlobRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("SpliceBlob"), "{status}");
}

/// Stores a tree of `fan` directories with `fan` directories each. Returns its root and how many
/// directories it has.
fn store_tree(server: &InProcessServer, function: DigestFunction, fan: u32) -> (Digest, usize) {
    let node = |name: String, directory: &Directory| {
        let digest = server.insert(function, &directory.encode_to_vec());
        DirectoryNode { name, digest: Some(wire(&digest)) }
    };
    let leaf = |i: u32, j: u32| Directory {
        symlinks: vec![kache_proto::reapi::SymlinkNode {
            name: format!("link-{i}-{j}"),
            target: "x".repeat(100),
            ..Default::default()
        }],
        ..Directory::default()
    };
    let branch = |i: u32| Directory {
        directories: (0..fan).map(|j| node(format!("{j:05}"), &leaf(i, j))).collect(),
        ..Directory::default()
    };
    let root = Directory {
        directories: (0..fan).map(|i| node(format!("{i:05}"), &branch(i))).collect(),
        ..Directory::default()
    };
    let digest = server.insert(function, &root.encode_to_vec());
    (digest, 1 + fan as usize + (fan * fan) as usize)
}

async fn tree(
    server: &InProcessServer,
    function: DigestFunction,
    root: &Digest,
    page_size: i32,
    page_token: &str,
) -> Result<Vec<kache_proto::reapi::GetTreeResponse>, tonic::Status> {
    let request = GetTreeRequest {
        root_digest: Some(wire(root)),
        page_size,
        page_token: page_token.to_owned(),
        digest_function: value(function),
        ..GetTreeRequest::default()
    };
    let mut stream = server.cas().await.get_tree(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

#[tokio::test]
async fn a_large_tree_comes_in_messages_that_clients_accept() {
    let server = InProcessServer::new();
    for function in BOTH {
        let (root, count) = store_tree(&server, function, 105);
        assert!(count > 10_000);
        let pages = tree(&server, function, &root, 0, "").await.unwrap();
        assert!(pages.len() > 1, "{}", pages.len());
        assert!(pages.iter().all(|page| page.encoded_len() < 4 * 1024 * 1024));
        let all: Vec<Vec<u8>> =
            pages.iter().flat_map(|page| &page.directories).map(|d| d.encode_to_vec()).collect();
        assert_eq!(all.len(), count);
        assert_eq!(Digest::of(function, &all[0]), root);
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), count);
    }
}

#[tokio::test]
async fn pages_have_the_requested_size_and_lose_no_directory() {
    let server = InProcessServer::new();
    let (root, count) = store_tree(&server, DigestFunction::Sha256, 5);
    let mut token = String::new();
    let mut all = Vec::new();
    loop {
        let pages = tree(&server, DigestFunction::Sha256, &root, 4, &token).await.unwrap();
        assert_eq!(pages.len(), 1);
        assert!(pages[0].directories.len() <= 4);
        all.extend(pages[0].directories.iter().map(|d| d.encode_to_vec()));
        token = pages[0].next_page_token.clone();
        if token.is_empty() {
            break;
        }
    }
    let whole = tree(&server, DigestFunction::Sha256, &root, 0, "").await.unwrap();
    let whole: Vec<_> = whole.iter().flat_map(|page| &page.directories).map(|d| d.encode_to_vec()).collect();
    assert_eq!(all, whole);
    assert_eq!(all.len(), count);
    for token in ["x", "0123456789abcdef-1", "-", &format!("{}-x", &root.hash.to_hex()[..16])] {
        let status = tree(&server, DigestFunction::Sha256, &root, 4, token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{token}");
    }
    let status = tree(&server, DigestFunction::Sha256, &root, -1, "").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn incomplete_and_malformed_trees_are_handled() {
    let limits = ServeLimits { tree_directories_max: 20, ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let function = DigestFunction::Sha256;
    let absent = Digest::of(function, b"absent");
    assert_eq!(tree(&server, function, &absent, 0, "").await.unwrap_err().code(), Code::NotFound);
    let junk = server.insert(function, b"\xff\xff\xff");
    assert_eq!(tree(&server, function, &junk, 0, "").await.unwrap_err().code(), Code::InvalidArgument);
    let empty = Digest::empty(function);
    let pages = tree(&server, function, &empty, 0, "").await.unwrap();
    assert_eq!(pages[0].directories, [Directory::default()]);
    let node =
        |name: &str, digest: &Digest| DirectoryNode { name: name.to_owned(), digest: Some(wire(digest)) };
    let root = Directory {
        directories: vec![node("a", &absent), node("b", &empty), node("c", &empty)],
        ..Directory::default()
    };
    let root = server.insert(function, &root.encode_to_vec());
    let pages = tree(&server, function, &root, 0, "").await.unwrap();
    assert_eq!(pages[0].directories.len(), 2, "what is missing is left out, what is twice comes once");
    let (large, _) = store_tree(&server, function, 5);
    let status = tree(&server, function, &large, 0, "").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("tree_directories_max"), "{status}");
}
