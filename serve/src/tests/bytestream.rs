//! `ByteStream` as its clients see it.

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction};
use kache_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, ReadResponse, WriteRequest};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::grpc_server::{FaultyStore, InProcessServer, memory, sample};
use crate::limits::ServeLimits;

/// Sizes below, at and above what is stored on the connection's thread, and above one chunk.
const SIZES: [usize; 7] = [1, 4_096, 65_536, 65_537, 600_000, 3_000_000, 9_000_001];

fn segment(function: DigestFunction) -> &'static str {
    match function {
        DigestFunction::Sha256 => "",
        DigestFunction::Blake3 => "blake3/",
    }
}

fn name(digest: &Digest) -> String {
    format!("{}{}/{}", segment(digest.function), digest.hash, digest.size_bytes)
}

fn upload_name(digest: &Digest) -> String {
    format!("uploads/3f2a/blobs/{}", name(digest))
}

fn zip_upload_name(digest: &Digest) -> String {
    format!("uploads/3f2a/compressed-blobs/zstd/{}", name(digest))
}

/// How an existing client cuts its messages and fills their fields.
#[derive(Clone, Copy)]
struct Style {
    chunk: usize,
    repeats_name: bool,
    keeps_offset_zero: bool,
    finishes: bool,
}

/// Bazel sends 16 KiB at a time and names the blob once.
const BAZEL: Style =
    Style { chunk: 16 * 1024, repeats_name: false, keeps_offset_zero: false, finishes: true };

/// bazel-remote as a proxy never finishes and leaves offsets at zero.
const PROXY: Style = Style { chunk: 100_000, repeats_name: true, keeps_offset_zero: true, finishes: false };

fn messages(name: &str, bytes: &[u8], style: Style) -> Vec<WriteRequest> {
    let count = bytes.len().div_ceil(style.chunk).max(1);
    let message = |index: usize| {
        let start = index * style.chunk;
        let end = bytes.len().min(start + style.chunk);
        WriteRequest {
            resource_name: if index == 0 || style.repeats_name { name.to_owned() } else { String::new() },
            write_offset: if style.keeps_offset_zero { 0 } else { i64::try_from(start).unwrap() },
            finish_write: style.finishes && index + 1 == count,
            data: Bytes::copy_from_slice(&bytes[start..end]),
        }
    };
    (0..count).map(message).collect()
}

async fn write(server: &InProcessServer, messages: Vec<WriteRequest>) -> Result<i64, Status> {
    let response = server.bytestream().await.write(tokio_stream::iter(messages)).await?;
    Ok(response.into_inner().committed_size)
}

async fn read(server: &InProcessServer, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
    let request = ReadRequest { resource_name: name.to_owned(), read_offset: offset, read_limit: limit };
    let mut stream = server.bytestream().await.read(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(response) = stream.message().await? {
        assert!(!response.data.is_empty(), "a message without bytes");
        bytes.extend_from_slice(&response.data);
    }
    Ok(bytes)
}

async fn read_zipped(server: &InProcessServer, digest: &Digest, offset: i64) -> Result<Vec<u8>, Status> {
    let zipped = read(server, &format!("compressed-blobs/zstd/{}", name(digest)), offset, 0).await?;
    Ok(zstd::stream::decode_all(zipped.as_slice()).unwrap())
}

#[tokio::test]
async fn written_blobs_are_read() {
    write_and_read(&InProcessServer::new()).await;
}

#[tokio::test]
async fn written_blobs_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    write_and_read(&InProcessServer::on_disk(dir.path())).await;
}

async fn write_and_read(server: &InProcessServer) {
    for (seed, (size, function)) in
        SIZES.into_iter().flat_map(|size| DigestFunction::ALL.map(|function| (size, function))).enumerate()
    {
        let style = if seed % 2 == 0 { BAZEL } else { PROXY };
        let bytes = sample(size, seed as u64);
        let digest = Digest::of(function, &bytes);
        let sent = messages(&upload_name(&digest), &bytes, style);
        let size = i64::try_from(size).unwrap();
        assert_eq!(write(server, sent).await.unwrap(), size);
        let resource = format!("blobs/{}", name(&digest));
        assert!(read(server, &resource, 0, 0).await.unwrap() == bytes, "{size}");
        assert!(read_zipped(server, &digest, 0).await.unwrap() == bytes, "{size}");
    }
}

#[tokio::test]
async fn the_upload_of_a_stored_blob_succeeds_before_its_bytes_come() {
    let server = InProcessServer::new();
    let digest = server.insert(DigestFunction::Sha256, &sample(9_000_000, 1));
    for (name, expected) in [(upload_name(&digest), 9_000_000), (zip_upload_name(&digest), -1)] {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let first = WriteRequest { resource_name: name, ..WriteRequest::default() };
        sender.send(first).await.unwrap();
        // The stream never ends and never carries a byte.
        let response = server.bytestream().await.write(ReceiverStream::new(receiver)).await.unwrap();
        assert_eq!(response.into_inner().committed_size, expected);
        drop(sender);
    }
    let empty = Digest::empty(DigestFunction::Blake3);
    assert_eq!(write(&server, messages(&upload_name(&empty), b"", BAZEL)).await.unwrap(), 0);
    assert_eq!(read(&server, &format!("blobs/{}", name(&empty)), 0, 0).await.unwrap(), b"");
    assert_eq!(read_zipped(&server, &empty, 0).await.unwrap(), b"");
}

#[tokio::test]
async fn sto_02_bytes_that_do_not_match_their_digest_are_refused_and_leave_nothing() {
    let server = InProcessServer::new();
    for size in [100, 200_000] {
        let bytes = sample(size, 6);
        let digest = Digest::of(DigestFunction::Sha256, &bytes);
        let mut flipped = bytes.clone();
        flipped[size / 2] ^= 1;
        let mut long = bytes.clone();
        long.push(0);
        for wrong in [&flipped[..], &long, &bytes[..size - 1], b""] {
            for style in [BAZEL, PROXY] {
                let sent = messages(&upload_name(&digest), wrong, style);
                let status = write(&server, sent).await.unwrap_err();
                assert_eq!(status.code(), Code::InvalidArgument, "{} of {size}", wrong.len());
                assert!(!server.has(&digest));
            }
            let zipped = zstd::bulk::compress(wrong, 1).unwrap();
            let sent = messages(&zip_upload_name(&digest), &zipped, BAZEL);
            let status = write(&server, sent).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{} of {size}", wrong.len());
            assert!(!server.has(&digest));
        }
    }
}

#[tokio::test]
async fn compressed_uploads_are_stored_decompressed() {
    let server = InProcessServer::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let bytes = sample(size, 100 + seed as u64);
        let digest = Digest::of(DigestFunction::ALL[seed % 2], &bytes);
        let half = size / 2;
        // A skippable frame, then two frames.
        let mut zipped = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        zipped.extend(zstd::bulk::compress(&bytes[..half], 3).unwrap());
        zipped.extend(zstd::bulk::compress(&bytes[half..], 1).unwrap());
        let sent = messages(&zip_upload_name(&digest), &zipped, BAZEL);
        let committed = i64::try_from(zipped.len()).unwrap();
        assert_eq!(write(&server, sent.clone()).await.unwrap(), committed);
        assert_eq!(write(&server, sent).await.unwrap(), -1, "it is there now");
        let resource = format!("blobs/{}", name(&digest));
        assert!(read(&server, &resource, 0, 0).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn damaged_compression_is_refused() {
    let server = InProcessServer::new();
    let bytes = sample(300_000, 7);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let zipped = zstd::bulk::compress(&bytes, 3).unwrap();
    let mut damaged = zipped.clone();
    damaged[100] ^= 0xff;
    let bomb = zstd::bulk::compress(&vec![0; 50_000_000], 3).unwrap();
    let mut tailed = zipped.clone();
    tailed.extend_from_slice(b"tail");
    // All bytes came but the end of the frame.
    let mut summed = zstd::bulk::Compressor::new(3).unwrap();
    summed.include_checksum(true).unwrap();
    let mut endless = summed.compress(&bytes).unwrap();
    endless.pop();
    for wrong in [
        damaged,
        zipped[..zipped.len() - 1].to_vec(),
        b"not zstd".to_vec(),
        bomb,
        tailed,
        endless,
        Vec::new(),
    ] {
        let sent = messages(&zip_upload_name(&digest), &wrong, BAZEL);
        let status = write(&server, sent).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(!server.has(&digest));
    }
}

#[tokio::test]
async fn resource_names_of_all_forms_are_served() {
    let server = InProcessServer::new();
    let function = DigestFunction::Sha256;
    for (index, shape) in [
        "uploads/u/blobs/{}",
        "/uploads/u/blobs/{}",
        "a/b/uploads/u/blobs/{}",
        "a/b/uploads/u/blobs/sha256/{}",
        "uploads/u/blobs/{}/trailing/metadata",
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = sample(1_000, 200 + index as u64);
        let digest = Digest::of(function, &bytes);
        let sent = messages(&shape.replace("{}", &name(&digest)), &bytes, BAZEL);
        assert_eq!(write(&server, sent).await.unwrap(), 1_000, "{shape}");
        for shape in ["blobs/{}", "/blobs/{}", "x/y/blobs/{}", "blobs/sha256/{}"] {
            let resource = shape.replace("{}", &name(&digest));
            assert!(read(&server, &resource, 0, 0).await.unwrap() == bytes, "{shape}");
        }
    }
    let digest = Digest::of(function, b"x");
    for garbage in ["", "x", "blobs/", &name(&digest), &format!("blobs/{}", name(&digest))] {
        let status = write(&server, messages(garbage, b"x", BAZEL)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{garbage}");
        let status = read(&server, &format!("uploads/{garbage}"), 0, 0).await;
        assert!(status.is_err(), "{garbage}");
    }
}

#[tokio::test]
async fn downloads_honour_offsets_and_limits() {
    let server = InProcessServer::new();
    for size in [10_i64, 700_000] {
        let bytes = sample(usize::try_from(size).unwrap(), 8);
        let digest = server.insert(DigestFunction::Blake3, &bytes);
        let resource = format!("blobs/{}", name(&digest));
        for (offset, limit, from, to) in [
            (0, 0, 0, size),
            (3, 0, 3, size),
            (size, 0, size, size),
            (size, 5, size, size),
            (0, 4, 0, 4),
            (3, 4, 3, 7),
            (3, size, 3, size),
            (0, i64::MAX, 0, size),
        ] {
            let part = read(&server, &resource, offset, limit).await.unwrap();
            let expected = &bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
            assert!(part == expected, "{offset} {limit}");
        }
        for (offset, limit, code) in [
            (size + 1, 0, Code::OutOfRange),
            (-1, 0, Code::OutOfRange),
            (i64::MAX, 0, Code::OutOfRange),
            (0, -1, Code::InvalidArgument),
        ] {
            let status = read(&server, &resource, offset, limit).await.unwrap_err();
            assert_eq!(status.code(), code, "{offset} {limit}");
        }
        assert!(read_zipped(&server, &digest, 7).await.unwrap() == bytes[7..]);
        assert!(read_zipped(&server, &digest, size).await.unwrap().is_empty());
        let zipped = format!("compressed-blobs/zstd/{}", name(&digest));
        let status = read(&server, &zipped, 0, 5).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn missing_blobs_are_not_found() {
    let server = InProcessServer::new();
    let digest = server.insert(DigestFunction::Sha256, b"here");
    let absent = Digest::of(DigestFunction::Sha256, b"absent");
    let wrong_size: Digest = Digest::new(DigestFunction::Sha256, digest.hash, 3);
    let other_function: Digest = Digest::new(DigestFunction::Blake3, digest.hash, 4);
    let no_empty: Digest = Digest::new(DigestFunction::Sha256, digest.hash, 0);
    for digest in [absent, wrong_size, other_function, no_empty] {
        let status = read(&server, &format!("blobs/{}", name(&digest)), 0, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{digest}");
    }
}

#[tokio::test]
async fn inconsistent_uploads_are_refused() {
    let server = InProcessServer::new();
    let bytes = sample(100_000, 9);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let good = messages(&upload_name(&digest), &bytes, Style { chunk: 40_000, ..BAZEL });
    let with = |index: usize, change: &dyn Fn(&mut WriteRequest)| {
        let mut changed = good.clone();
        change(&mut changed[index]);
        changed
    };
    for (what, wrong) in [
        ("offset", with(0, &|first| first.write_offset = 5)),
        ("offset", with(1, &|second| second.write_offset = 39_999)),
        ("offset", with(1, &|second| second.write_offset = -1)),
        ("changed", with(1, &|second| second.resource_name = "other".to_owned())),
        ("finish_write", with(1, &|second| second.finish_write = true)),
        ("not of the form", with(0, &|first| first.resource_name = String::new())),
    ] {
        let status = write(&server, wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(!server.has(&digest));
    }
    assert_eq!(write(&server, Vec::new()).await.unwrap_err().code(), Code::InvalidArgument);
    let status = write(&server.read_only(), good.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(write(&server, good).await.unwrap(), 100_000);
}

#[tokio::test]
async fn a_blob_above_the_limit_is_refused_with_the_name_of_the_limit() {
    let server =
        InProcessServer::with(memory(), ServeLimits { blob_bytes_max: 1_000, ..ServeLimits::default() });
    let bytes = sample(1_001, 10);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let status = write(&server, messages(&upload_name(&digest), &bytes, BAZEL)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("max_cas_blob_size_bytes"), "{status}");
}

#[tokio::test]
async fn an_upload_is_committed_completely_or_not_at_all() {
    let server = InProcessServer::new();
    let bytes = sample(500_000, 11);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let query = async || {
        let request = QueryWriteStatusRequest { resource_name: upload_name(&digest) };
        let status = server.bytestream().await.query_write_status(request).await.unwrap().into_inner();
        (status.committed_size, status.complete)
    };
    assert_eq!(query().await, (0, false));
    let mut sent = messages(&upload_name(&digest), &bytes, BAZEL);
    let last = sent.pop().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    for message in sent {
        sender.send(message).await.unwrap();
    }
    let mut client = server.bytestream().await;
    let upload = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    tokio::task::yield_now().await;
    assert_eq!(query().await, (0, false));
    sender.send(last).await.unwrap();
    assert_eq!(upload.await.unwrap().unwrap().into_inner().committed_size, 500_000);
    assert_eq!(query().await, (500_000, true));
    let request = QueryWriteStatusRequest { resource_name: "garbage".to_owned() };
    let status = server.bytestream().await.query_write_status(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn sto_01_an_interrupted_upload_leaves_nothing() {
    let server = InProcessServer::new();
    let bytes = sample(500_000, 12);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    let mut sent = messages(&upload_name(&digest), &bytes, BAZEL);
    sent.pop();
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    for message in sent {
        sender.send(message).await.unwrap();
    }
    let mut client = server.bytestream().await;
    let upload = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    upload.abort();
    assert!(upload.await.is_err());
    let idle = || server.activity.requests_in_flight() == 0;
    for _ in 0..200 {
        if idle() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(idle() && !server.has(&digest));
    drop(sender);
}

#[tokio::test]
async fn sto_08_failures_are_neither_hits_nor_misses() {
    let failing = FaultyStore::new(libc::ENOSPC);
    let server = InProcessServer::with(failing.clone(), ServeLimits::default());
    let bytes = sample(100_000, 13);
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    failing.is_failing.store(true, Ordering::Relaxed);
    let sent = messages(&upload_name(&digest), &bytes, BAZEL);
    assert_eq!(write(&server, sent.clone()).await.unwrap_err().code(), Code::ResourceExhausted);
    let resource = format!("blobs/{}", name(&digest));
    assert_eq!(read(&server, &resource, 0, 0).await.unwrap_err().code(), Code::ResourceExhausted);
    failing.is_failing.store(false, Ordering::Relaxed);
    assert_eq!(write(&server, sent).await.unwrap(), 100_000);
}

#[tokio::test]
async fn uploads_share_one_memory_budget() {
    let limits = ServeLimits { messages_in_memory_bytes_max: 1_000_000, ..ServeLimits::default() };
    let server = InProcessServer::with(memory(), limits);
    let mut uploads = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let bytes = sample(3_000_000, 300 + seed);
        let digest = Digest::of(DigestFunction::Blake3, &bytes);
        let sent = messages(&upload_name(&digest), &bytes, Style { chunk: 60_000, ..BAZEL });
        let mut client = server.bytestream().await;
        uploads.spawn(async move { client.write(tokio_stream::iter(sent)).await });
    }
    while let Some(upload) = uploads.join_next().await {
        assert_eq!(upload.unwrap().unwrap().into_inner().committed_size, 3_000_000);
    }
}

/// Unlinks all files of blobs, as eviction does.
fn unlink_blobs(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let unlink = |path: std::path::PathBuf| match path.is_dir() {
        true => unlink_blobs(&path),
        false => std::fs::remove_file(path).map(|()| 1).unwrap(),
    };
    entries.map(unlink).sum()
}

#[tokio::test]
async fn sto_04_a_download_outlives_its_blob() {
    let dir = tempfile::tempdir().unwrap();
    let server = InProcessServer::on_disk(dir.path());
    let bytes = sample(20_000_000, 14);
    let digest = server.insert(DigestFunction::Blake3, &bytes);
    let mut downloads = Vec::new();
    for resource in [format!("blobs/{}", name(&digest)), format!("compressed-blobs/zstd/{}", name(&digest))] {
        let request = ReadRequest { resource_name: resource, ..ReadRequest::default() };
        let stream = server.bytestream().await.read(request).await.unwrap().into_inner();
        downloads.push(stream);
    }
    assert!(unlink_blobs(&dir.path().join("blobs")) > 0);
    let whole = drain(downloads.remove(0)).await;
    assert!(whole == bytes);
    let zipped = drain(downloads.remove(0)).await;
    assert!(zstd::stream::decode_all(zipped.as_slice()).unwrap() == bytes);
}

async fn drain(mut stream: tonic::Streaming<ReadResponse>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&response.data);
    }
    bytes
}
