//! What our own server takes, it gives back.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{AccessKind, Content, Digest, DigestFunction};
use kache_proto::reapi::{ActionResult, ExecutedActionMetadata, OutputFile};
use kache_serve::{ListenOptions, TlsOptions};
use tokio_stream::StreamExt as _;

use super::samples::{context, digests, is_refused, named, options, sample, uncompressed};
use crate::tests::own_server::{OwnServer, open};
use crate::tests::test_authority::TestAuthority;
use crate::{Authentication, ReapiRemote, Remote as _, RemoteError, RemoteOptions, Secret, TlsIdentity};

/// A server on a socket, with a remote that is connected to it.
fn on_socket(options: &RemoteOptions) -> (tempfile::TempDir, OwnServer, ReapiRemote) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = OwnServer::on_socket(&path);
    let remote = open(&format!("unix:{}", path.display()), options);
    (dir, server, remote)
}

/// Reads a blob as a stream.
async fn read(remote: &ReapiRemote, digest: &Digest) -> Option<Vec<u8>> {
    let mut stream = remote.read(digest, &context()).await.unwrap()?;
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece.unwrap());
    }
    Some(whole)
}

#[tokio::test]
async fn blobs_of_all_sizes_survive_in_both_functions() {
    let blobs = [0, 1, 1000, 300_000, 3_999_900, 3_999_901, 9_000_000].map(|len| sample(len, len as u64));
    for options in [options(), uncompressed()] {
        let (_dir, _server, remote) = on_socket(&options);
        assert_eq!(remote.capabilities().await.unwrap().function, DigestFunction::Blake3);
        assert!(remote.capabilities().await.unwrap().takes_results);
        for function in DigestFunction::ALL {
            let blobs_named = named(function, &blobs);
            let digests = digests(&blobs_named);
            let missing = remote.find_missing(&digests, &context()).await.unwrap();
            // The store knows some blobs by both names after the first round.
            assert!(!missing[0] && (function == DigestFunction::Sha256 || missing[1..].iter().all(|m| *m)));
            for outcome in remote.write(&blobs_named, &context()).await {
                outcome.unwrap();
            }
            assert_eq!(remote.find_missing(&digests, &context()).await.unwrap(), [false; 7]);
            let found = remote.read_small(&digests, &context()).await.unwrap();
            assert!(found.iter().zip(&blobs).all(|(found, blob)| found.as_ref() == Some(blob)));
            for (digest, blob) in digests.iter().zip(&blobs) {
                assert!(read(&remote, digest).await.unwrap() == *blob, "{digest}");
            }
        }
    }
}

#[tokio::test]
async fn a_blob_of_a_file_is_read_piece_by_piece() {
    let (dir, _server, remote) = on_socket(&options());
    let bytes = sample(5_000_000, 3);
    let path = dir.path().join("blob");
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    let file = Arc::new(File::open(&path).unwrap());
    let content = Content::File { file: Arc::clone(&file), size_bytes: 5_000_000 };
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    assert_eq!(remote.write(&[(digest, content)], &context()).await, [Ok(())]);
    assert!(read(&remote, &digest).await.unwrap() == bytes);
    // A file that has become shorter is this machine's fault, and leaves nothing on the server.
    let other = Digest::of(DigestFunction::Sha256, &sample(6_000_000, 4));
    let content = Content::File { file, size_bytes: 6_000_000 };
    let outcomes = remote.write(&[(other, content)], &context()).await;
    assert!(matches!(outcomes[..], [Err(RemoteError::Local { .. })]), "{outcomes:?}");
    assert_eq!(remote.find_missing(&[other], &context()).await.unwrap(), [true]);
}

#[tokio::test]
async fn what_is_not_there_is_none_and_duplicates_are_answered() {
    let (_dir, _server, remote) = on_socket(&options());
    let here = named(DigestFunction::Blake3, &[sample(10, 1), sample(20, 2)]);
    let large = Digest::of(DigestFunction::Blake3, &sample(5_000_000, 9));
    let small = Digest::of(DigestFunction::Blake3, b"absent");
    for outcome in remote.write(&here, &context()).await {
        outcome.unwrap();
    }
    let asked = [here[0].0, small, here[1].0, here[0].0, large, small];
    let missing = remote.find_missing(&asked, &context()).await.unwrap();
    assert_eq!(missing, [false, true, false, false, true, true]);
    let found = remote.read_small(&asked, &context()).await.unwrap();
    let lengths: Vec<_> = found.iter().map(|found| found.as_ref().map(Bytes::len)).collect();
    assert_eq!(lengths, [Some(10), None, Some(20), Some(10), None, None]);
    assert!(remote.read(&large, &context()).await.unwrap().is_none());
    assert!(remote.find_missing(&[], &context()).await.unwrap().is_empty());
    assert!(remote.read_small(&[], &context()).await.unwrap().is_empty());
    assert!(remote.write(&[], &context()).await.is_empty());
}

#[tokio::test]
async fn many_blobs_travel_in_several_batches() {
    let (_dir, _server, remote) = on_socket(&options());
    let blobs: Vec<Bytes> = (0..12_000u32).map(|i| Bytes::copy_from_slice(&i.to_le_bytes())).collect();
    let blobs = named(DigestFunction::Blake3, &blobs);
    let digests = digests(&blobs);
    assert!(remote.find_missing(&digests, &context()).await.unwrap().iter().all(|missing| *missing));
    assert!(remote.write(&blobs, &context()).await.iter().all(Result::is_ok));
    assert!(!remote.find_missing(&digests, &context()).await.unwrap().contains(&true));
    let found = remote.read_small(&digests, &context()).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test]
async fn results_are_stored_and_found() {
    let (_dir, _server, remote) = on_socket(&options());
    for function in DigestFunction::ALL {
        let action = Digest::of(function, b"an action");
        assert_eq!(remote.get_result(&action, &context()).await.unwrap(), None);
        let blobs = named(function, &[sample(100, 5)]);
        remote.write(&blobs, &context()).await.remove(0).unwrap();
        let (hash, size_bytes) = (blobs[0].0.hash.to_hex(), 100);
        let digest = Some(kache_proto::reapi::Digest { hash, size_bytes });
        let file = OutputFile { path: "a.rlib".to_owned(), digest, ..OutputFile::default() };
        let worker = ExecutedActionMetadata { worker: "here".to_owned(), ..Default::default() };
        let result = ActionResult {
            output_files: vec![file],
            execution_metadata: Some(worker),
            ..ActionResult::default()
        };
        remote.put_result(&action, &result, &context()).await.unwrap();
        assert_eq!(remote.get_result(&action, &context()).await.unwrap(), Some(result));
    }
}

/// A server with TLS, which asks for credentials.
async fn with_tls(authority: &TestAuthority) -> (OwnServer, String) {
    let (cert, key) = authority.issue("server", |_| {});
    let token = "{SHA256}".to_owned() + &base64(&DigestFunction::Sha256.hash(b"t0ken").0);
    let tokens = authority.write("tokens", &format!("bearer ci:{token}:read-write\n"));
    let options = ListenOptions {
        tls: Some(TlsOptions { cert, key, client_ca: Some(authority.ca()) }),
        tokens: Some(tokens),
        ..ListenOptions::default()
    };
    let (server, port) = OwnServer::on_port(options).await;
    (server, format!("grpcs://localhost:{port}"))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn tls_certificates_and_tokens_open_a_server() {
    let authority = TestAuthority::new();
    let (_server, location) = with_tls(&authority).await;
    let mut trusting = options();
    trusting.tls.ca = Some(authority.ca());
    let digest = Digest::of(DigestFunction::Blake3, b"x");

    let error = open(&location, &trusting).find_missing(&[digest], &context()).await.unwrap_err();
    assert!(is_refused(&error), "{error}");

    let token = |text: &str| Some(Authentication::Bearer(Secret::new(text)));
    let with_token = RemoteOptions { authentication: token("t0ken"), ..trusting.clone() };
    assert_eq!(open(&location, &with_token).find_missing(&[digest], &context()).await.unwrap(), [true]);
    let wrong_token = RemoteOptions { authentication: token("hunter2"), ..trusting.clone() };
    let error = open(&location, &wrong_token).find_missing(&[digest], &context()).await.unwrap_err();
    assert!(is_refused(&error) && !error.to_string().contains("hunter2"), "{error}");

    let (cert, key) = authority.issue("client", |_| {});
    let mut with_certificate = trusting;
    with_certificate.tls.identity = Some(TlsIdentity { cert, key });
    let remote = open(&location, &with_certificate);
    assert_eq!(remote.find_missing(&[digest], &context()).await.unwrap(), [true]);
    assert!(!format!("{remote:?}{with_token:?}").contains("t0ken"));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let (authority, stranger) = (TestAuthority::new(), TestAuthority::new());
    let (_server, location) = with_tls(&authority).await;
    let mut options = options();
    options.tls.ca = Some(stranger.ca());
    let error = open(&location, &options).capabilities().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("certificate"), "{error}");
    assert!(error.to_string().contains(&location), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let remote = open(&format!("unix:{}", path.display()), &options());
    let error = remote.capabilities().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(path.to_str().unwrap()), "{error}");
    let server = OwnServer::on_socket(&path);
    remote.capabilities().await.unwrap();
    drop(server);
    std::fs::remove_file(&path).unwrap();
    let server = OwnServer::on_socket(&path);
    let blobs = named(DigestFunction::Sha256, &[sample(10, 1)]);
    // The first request may still go to the connection that is being closed.
    let first = remote.write(&blobs, &context()).await.remove(0);
    assert!(first.as_ref().err().is_none_or(RemoteError::is_transient), "{first:?}");
    assert_eq!(remote.write(&blobs, &context()).await, [Ok(())]);
    let blobs_of = kache_serve::Backend::blobs(&*server.store);
    assert_eq!(blobs_of.find_missing(&[blobs[0].0], AccessKind::Peek).unwrap(), [false]);
}
