//! Concurrent gRPC load, and checks that what a daemon serves is complete.
//!
//! Every worker uploads blobs of all sizes that the store handles differently, and then an action result that names
//! them. Acknowledged uploads are entered in the `Ledger`, which says after a restart what must be there.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kache_cas::digest::{Blob, Digest, DigestFunction};
use kache_proto::bytestream::byte_stream_client::ByteStreamClient;
use kache_proto::bytestream::{ReadRequest, WriteRequest};
use kache_proto::reapi;
use kache_proto::reapi::action_cache_client::ActionCacheClient;
use kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use kache_proto::reapi::digest_function::Value as WireFunction;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Sizes: stored inline, the largest inline size, the smallest file, files of one message and of several.
const SIZES: [usize; 6] = [1, 700, 4096, 4097, 90_000, 600_000];
/// Blobs up to this size are stored in the database, not as files.
pub(crate) const INLINE_BYTES_MAX: usize = 4096;
/// Blobs of at least this size are sent by ByteStream.
const STREAM_FROM: usize = 90_000;
const CHUNK: usize = 256 * 1024;

/// The uploads that the daemon acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    acknowledged: Mutex<BTreeSet<u64>>,
    attempted: AtomicU64,
}

impl Ledger {
    /// The seeds of all acknowledged uploads.
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.lock().iter().copied().collect()
    }

    /// The seed of the next upload.
    pub(crate) fn next(&self) -> u64 {
        self.attempted.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters an acknowledged upload.
    pub(crate) fn acknowledge(&self, seed: u64) {
        self.acknowledged.lock().insert(seed);
    }

    /// Removes actions that name this seed's output, because the test has torn it.
    pub(crate) fn forget_output(&self, seed: u64) {
        let mut acknowledged = self.acknowledged.lock();
        acknowledged.retain(|action| !output_seeds(*action).contains(&seed));
    }

    /// The number of uploads that were begun. Their seeds are the numbers below it.
    pub(crate) fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::Relaxed)
    }
}

/// The bytes of a seed's output, if the store keeps them as a file.
pub(crate) fn file_bytes(seed: u64) -> Option<Bytes> {
    Some(blob_bytes(seed)).filter(|bytes| bytes.len() > INLINE_BYTES_MAX)
}

/// The bytes of a seed, in a size that depends on the seed: first the seed's own bytes, then noise from an offset
/// that depends on the seed. The noise is generated once, because in an unoptimised test generating it takes longer
/// than all of the daemon's work.
fn blob_bytes(seed: u64) -> Bytes {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(noise);
    let size = SIZES[(seed % SIZES.len() as u64) as usize];
    let own = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let from = (own >> 32) as usize % NOISE_PLACES;
    let mut bytes = Vec::with_capacity(size + 8);
    bytes.extend_from_slice(&own.to_le_bytes());
    bytes.extend_from_slice(&NOISE[from..from + size]);
    bytes.truncate(size);
    Bytes::from(bytes)
}

/// The number of offsets at which noise begins.
const NOISE_PLACES: usize = 1 << 16;

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let largest = SIZES.into_iter().max().expect("there are sizes");
    (0..(largest + NOISE_PLACES).div_ceil(8)).flat_map(|_| next()).collect()
}

/// The seeds of an action's two outputs, which have neighbouring sizes. Some actions share an output.
fn output_seeds(seed: u64) -> [u64; 2] {
    [seed, seed / 2]
}

fn function_of(seed: u64) -> DigestFunction {
    if seed.is_multiple_of(3) { DigestFunction::Blake3 } else { DigestFunction::Sha256 }
}

fn wire_function(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Blake3 => WireFunction::Blake3 as i32,
        DigestFunction::Sha256 => WireFunction::Sha256 as i32,
    }
}

fn wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash.to_hex(), size_bytes: digest.size_bytes as i64 }
}

fn action_digest(seed: u64) -> Digest {
    Digest::of(function_of(seed), format!("action {seed}").as_bytes())
}

/// Uploads until the daemon dies. Returns the first error with another cause.
pub(crate) async fn upload_until_death(channel: Channel, ledger: &Ledger) -> Result<(), Status> {
    loop {
        let seed = ledger.next();
        match upload(channel.clone(), seed).await {
            Ok(()) => ledger.acknowledge(seed),
            Err(status) if is_death(&status) => return Ok(()),
            Err(status) => return Err(status),
        }
    }
}

/// Whether the connection broke, as opposed to an error that the daemon returned.
pub(crate) fn is_death(status: &Status) -> bool {
    use std::error::Error as _;
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
        && status.source().is_some()
}

/// Uploads the outputs of an action, then its result.
pub(crate) async fn upload(channel: Channel, seed: u64) -> Result<(), Status> {
    let function = function_of(seed);
    let mut output_files = Vec::new();
    for (index, output) in output_seeds(seed).into_iter().enumerate() {
        let bytes = blob_bytes(output);
        let digest = Digest::of(function, &bytes);
        upload_blob(channel.clone(), &digest, bytes).await?;
        output_files.push(reapi::OutputFile {
            path: format!("out/{index}"),
            digest: Some(wire(&digest)),
            ..Default::default()
        });
    }
    let request = reapi::UpdateActionResultRequest {
        action_digest: Some(wire(&action_digest(seed))),
        action_result: Some(reapi::ActionResult { output_files, ..Default::default() }),
        digest_function: wire_function(function),
        ..Default::default()
    };
    ActionCacheClient::new(channel).update_action_result(request).await.map(drop)
}

async fn upload_blob(channel: Channel, digest: &Digest, bytes: Bytes) -> Result<(), Status> {
    if bytes.len() >= STREAM_FROM {
        return upload_stream(channel, digest, bytes).await;
    }
    let request = reapi::BatchUpdateBlobsRequest {
        requests: vec![reapi::batch_update_blobs_request::Request {
            digest: Some(wire(digest)),
            data: bytes,
            ..Default::default()
        }],
        digest_function: wire_function(digest.function),
        ..Default::default()
    };
    let reply = ContentAddressableStorageClient::new(channel).batch_update_blobs(request).await?;
    let status = reply.into_inner().responses.pop().and_then(|response| response.status).unwrap_or_default();
    if status.code == 0 { Ok(()) } else { Err(Status::new(Code::from_i32(status.code), status.message)) }
}

fn function_segment(function: DigestFunction) -> &'static str {
    match function {
        DigestFunction::Blake3 => "blake3/",
        DigestFunction::Sha256 => "",
    }
}

async fn upload_stream(channel: Channel, digest: &Digest, bytes: Bytes) -> Result<(), Status> {
    let resource_name = format!(
        "uploads/00000000-0000-4000-8000-{:012x}/blobs/{}{}/{}",
        digest.size_bytes,
        function_segment(digest.function),
        digest.hash,
        digest.size_bytes
    );
    let offsets = (0..bytes.len()).step_by(CHUNK);
    let messages: Vec<WriteRequest> = offsets
        .map(|offset| {
            let end = bytes.len().min(offset + CHUNK);
            WriteRequest {
                resource_name: if offset == 0 { resource_name.clone() } else { String::new() },
                write_offset: offset as i64,
                finish_write: end == bytes.len(),
                data: bytes.slice(offset..end),
            }
        })
        .collect();
    let reply = ByteStreamClient::new(channel).write(tokio_stream::iter(messages)).await?;
    assert_eq!(reply.into_inner().committed_size as u64, digest.size_bytes);
    Ok(())
}

/// The outcome of a check of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A result whose outputs were all there with the right bytes.
    Whole,
    /// There was no result.
    Nothing,
}

/// Requests an action's result and every blob that it names. Panics if the daemon serves something incomplete.
/// Returns other errors.
pub(crate) async fn check(channel: Channel, seed: u64) -> Result<Found, Status> {
    let function = function_of(seed);
    let request = reapi::GetActionResultRequest {
        action_digest: Some(wire(&action_digest(seed))),
        digest_function: wire_function(function),
        ..Default::default()
    };
    let result = match ActionCacheClient::new(channel.clone()).get_action_result(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::NotFound => return Ok(Found::Nothing),
        Err(status) => return Err(status),
    };
    assert_eq!(result.output_files.len(), 2, "the result of action {seed} has lost an output");
    for (file, output) in result.output_files.iter().zip(output_seeds(seed)) {
        let expected = blob_bytes(output);
        let digest: Digest<Blob> = Digest::of(function, &expected);
        assert_eq!(file.digest, Some(wire(&digest)), "an output of action {seed} has another digest");
        let bytes = download(channel.clone(), &digest).await.inspect_err(|status| {
            assert_ne!(status.code(), Code::NotFound, "action {seed} was served but its `{digest}` is gone");
        })?;
        assert!(bytes == expected, "`{digest}` of action {seed} has other bytes");
    }
    Ok(Found::Whole)
}

/// The digests of these that the daemon does not have.
pub(crate) async fn missing(channel: Channel, blobs: &[Digest]) -> Result<Vec<Digest>, Status> {
    let request = reapi::FindMissingBlobsRequest {
        blob_digests: blobs.iter().map(wire).collect(),
        digest_function: WireFunction::Blake3 as i32,
        ..Default::default()
    };
    let reply = ContentAddressableStorageClient::new(channel).find_missing_blobs(request).await?.into_inner();
    let is_missing = |digest: &&Digest| reply.missing_blob_digests.contains(&wire(digest));
    Ok(blobs.iter().filter(is_missing).copied().collect())
}

async fn download(channel: Channel, digest: &Digest) -> Result<Vec<u8>, Status> {
    let resource_name =
        format!("blobs/{}{}/{}", function_segment(digest.function), digest.hash, digest.size_bytes);
    let request = ReadRequest { resource_name, ..Default::default() };
    let mut stream = ByteStreamClient::new(channel).read(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend_from_slice(&message.data);
    }
    Ok(bytes)
}
