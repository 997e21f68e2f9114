//! Tests of the remotes, against servers in this process.

use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, OutputFile};
use tokio_stream::StreamExt as _;

use crate::{Authentication, ObjectRemote, Remote, RemoteError, RequestContext, Secret, TokenCommand};

mod aws_credentials;
mod dir;
mod dir_collection;
mod http;
mod http_round_trips;
mod location;
mod open;
mod own_server;
mod raw_server;
mod reapi;
mod s3;
/// The server's tests make their certificates with this file.
#[path = "../../../serve/src/tests/test_authority.rs"]
mod test_authority;

fn context() -> RequestContext {
    RequestContext::default()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, bytes)
}

fn action() -> Digest<ActionMessage> {
    Digest::of(DigestFunction::Sha256, b"action")
}

fn result() -> ActionResult {
    let file = OutputFile { path: "out".into(), ..OutputFile::default() };
    ActionResult { output_files: vec![file], ..ActionResult::default() }
}

/// A program that prints a token.
fn token_command() -> Authentication {
    let argv = ["sh", "-c", "echo t0ken"].map(str::to_owned).to_vec();
    let path = ("PATH".to_owned(), Secret::new("/usr/bin:/bin"));
    Authentication::Command(TokenCommand { argv, environment: vec![path] })
}

async fn read_stream(remote: &ObjectRemote, digest: &Digest) -> Result<Option<Vec<u8>>, RemoteError> {
    let Some(mut stream) = remote.read(digest, &context()).await? else { return Ok(None) };
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(Some(whole))
}

/// Writes and reads blobs of several sizes and a result, as one machine and another would.
async fn round_trip(writer: &ObjectRemote, reader: &ObjectRemote) {
    let sizes = [0, 1, 4_096, 65_537, 3_000_001];
    let blobs: Vec<Vec<u8>> =
        sizes.iter().map(|&len| (0..len).map(|i: usize| (i / 3 % 253) as u8).collect()).collect();
    let digests: Vec<Digest> = blobs.iter().map(|blob| sha256(blob)).collect();
    let digest = WireDigest { hash: digests[3].hash.to_hex(), size_bytes: 65_537 };
    let output = OutputFile { digest: Some(digest), ..result().output_files[0].clone() };
    let result = ActionResult { output_files: vec![output], ..ActionResult::default() };
    assert_eq!(reader.get_result(&action(), &context()).await, Ok(None));
    assert_eq!(reader.read_small(&digests[1..], &context()).await, Ok(vec![None; 4]));
    assert_eq!(writer.find_missing(&digests, &context()).await, Ok(vec![false, true, true, true, true]));
    let contents: Vec<(Digest, Content)> = digests
        .iter()
        .zip(&blobs)
        .map(|(digest, blob)| (*digest, Content::Memory(blob.clone().into())))
        .collect();
    for _ in 0..2 {
        assert_eq!(writer.write(&contents, &context()).await, vec![Ok(()); 5]);
        assert_eq!(writer.put_result(&action(), &result, &context()).await, Ok(()));
    }
    assert_eq!(reader.find_missing(&digests, &context()).await, Ok(vec![false; 5]));
    let small = reader.read_small(&digests, &context()).await.unwrap();
    for ((digest, blob), small) in digests.iter().zip(&blobs).zip(small) {
        assert!(small.as_deref() == Some(blob), "{digest}");
        assert!(read_stream(reader, digest).await.unwrap().as_ref() == Some(blob), "{digest}");
    }
    let read = reader.get_result(&action(), &context()).await.unwrap().unwrap();
    assert_eq!(read.output_files, result.output_files);
}
