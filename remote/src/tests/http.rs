//! Bazel's HTTP protocol: what is sent, and what responses mean.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::Message as _;

use super::raw_server::{RawRequest, RawServer, Reply, bare_reply, reply};
use super::{action, context, read_stream, result, sha256, token_command};
use crate::{
    Authentication, Location, ObjectRemote, Remote, RemoteError, RemoteLimits, RemoteOptions, Secret,
};

fn options() -> RemoteOptions {
    let limits = RemoteLimits { stall: Duration::from_millis(300), ..RemoteLimits::default() };
    RemoteOptions { limits, ..RemoteOptions::default() }
}

fn open(url: &str, options: &RemoteOptions) -> ObjectRemote {
    match Location::parse(url).unwrap() {
        (Location::Http(location), authentication) => {
            let authentication = authentication.or(options.authentication.clone());
            ObjectRemote::http(&location, &RemoteOptions { authentication, ..options.clone() }).unwrap()
        }
        (other, _) => panic!("{other:?} is not HTTP"),
    }
}

/// A server with one response for everything, and a remote for it.
async fn remote_of(
    handler: impl Fn(&RawRequest) -> Reply + Send + Sync + 'static,
) -> (RawServer, ObjectRemote) {
    let server = RawServer::start(handler).await;
    let remote = open(&format!("http://127.0.0.1:{}/p", server.port), &options());
    (server, remote)
}

#[tokio::test]
async fn requests_name_objects_and_carry_credentials() {
    let server = RawServer::start(|_| bare_reply(404)).await;
    let mut options = options();
    options.headers = vec![("X-Key".into(), Secret::new("k3y"))];
    let remote = open(&format!("http://me:p%40ss@localhost:{}/a/b/", server.port), &options);
    let blob = sha256(b"blob");
    assert_eq!(remote.get_result(&action(), &context()).await, Ok(None));
    assert_eq!(remote.read_small(&[blob], &context()).await, Ok(vec![None]));
    assert_eq!(remote.find_missing(&[blob], &context()).await, Ok(vec![true]));
    let requests = server.take_requests();
    let lines: Vec<_> =
        requests.iter().map(|request| (request.method.as_str(), request.path.clone())).collect();
    let (ac, cas) = (format!("/a/b/ac/{}", action().hash), format!("/a/b/cas/{}", blob.hash));
    assert_eq!(lines, [("GET", ac), ("GET", cas.clone()), ("HEAD", cas)]);
    for request in &requests {
        assert_eq!(request.header("authorization"), Some("Basic bWU6cEBzcw=="));
        assert_eq!(request.header("x-key"), Some("k3y"));
        assert_eq!(request.header("host"), Some(format!("localhost:{}", server.port).as_str()));
    }
    assert_eq!(
        requests.iter().map(|r| r.header("accept-encoding")).collect::<Vec<_>>(),
        [None, Some("zstd"), None]
    );
    assert!(!format!("{remote:?}").contains("k3y") && !format!("{remote:?}").contains("bWU6"));
    options.authentication = Some(Authentication::Bearer(Secret::new("t0ken")));
    let remote = open(&format!("http://localhost:{}", server.port), &options);
    assert_eq!(remote.get_result(&action(), &context()).await, Ok(None));
    assert_eq!(server.take_requests()[0].header("authorization"), Some("Bearer t0ken"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_made_anew() {
    let server = RawServer::start(|_| bare_reply(401)).await;
    let options = RemoteOptions { authentication: Some(token_command()), ..options() };
    let remote = open(&format!("http://localhost:{}", server.port), &options);
    for _ in 0..2 {
        remote.get_result(&action(), &context()).await.unwrap_err();
        assert_eq!(server.take_requests()[0].header("authorization"), Some("Bearer t0ken"));
    }
}

#[tokio::test]
async fn statuses_of_reads() {
    let words = "quota of nobody\nsecond line";
    let unavailable = |text: &str| Err(RemoteError::unavailable(text));
    let refused = |text: &str| Err(RemoteError::refused(text));
    let cases = [
        (204, Ok(None)),
        (404, Ok(None)),
        (400, refused("400 Bad Request: quota of nobody")),
        (401, refused("401 Unauthorized: quota of nobody")),
        (403, refused("403 Forbidden: quota of nobody")),
        (405, refused("405 Method Not Allowed: quota of nobody")),
        (429, unavailable("429 Too Many Requests: quota of nobody")),
        (500, unavailable("500 Internal Server Error: quota of nobody")),
        (503, unavailable("503 Service Unavailable: quota of nobody")),
        (507, refused("507 Insufficient Storage: quota of nobody")),
        (413, Err(RemoteError::too_large("413 Payload Too Large: quota of nobody"))),
        (302, refused("302 Found: quota of nobody")),
        (206, Err(RemoteError::malformed("unexpected status 206 Partial Content: quota of nobody"))),
    ];
    for (status, expected) in cases {
        let answer = move |_: &RawRequest| {
            if status == 204 { bare_reply(204) } else { reply(status, "", words.as_bytes()) }
        };
        let (_server, remote) = remote_of(answer).await;
        assert_eq!(remote.get_result(&action(), &context()).await, expected, "{status}");
        let expected = expected.map(|_| vec![None]);
        assert_eq!(remote.read_small(&[sha256(b"x")], &context()).await, expected, "{status}");
    }
}

#[tokio::test]
async fn statuses_of_writes() {
    let blob = Bytes::from_static(b"blob");
    for (status, is_stored) in
        [(200, true), (201, true), (202, true), (204, true), (404, false), (206, false)]
    {
        let (server, remote) = remote_of(move |_| bare_reply(status)).await;
        let outcomes = remote.write(&[(sha256(&blob), Content::Memory(blob.clone()))], &context()).await;
        assert_eq!(outcomes[0].is_ok(), is_stored, "{status}: {outcomes:?}");
        assert_eq!(remote.put_result(&action(), &result(), &context()).await.is_ok(), is_stored, "{status}");
        let requests = server.take_requests();
        assert_eq!((requests[0].method.as_str(), requests[0].body.as_slice()), ("PUT", blob.as_ref()));
        assert_eq!(requests[1].body, result().encode_to_vec());
        assert_eq!(requests[0].header("content-encoding"), None);
    }
}

#[tokio::test]
async fn a_result_is_only_what_decodes_as_one() {
    let page = b"<!DOCTYPE html><html>log in</html>".to_vec();
    let right = result().encode_to_vec();
    let cases = [
        ("", right.clone(), Some(result())),
        ("Content-Type: Text/HTML; charset=utf-8", right.clone(), None),
        ("", page, None),
        ("", b"{\"exitCode\":0}".to_vec(), None),
        ("", Vec::new(), None),
    ];
    for (headers, body, expected) in cases {
        let (_server, remote) = remote_of(move |_| reply(200, headers, &body)).await;
        assert_eq!(remote.get_result(&action(), &context()).await, Ok(expected));
    }
    let (_server, remote) = remote_of(|_| reply(200, "", &vec![0; 5_000_000])).await;
    let error = remote.get_result(&action(), &context()).await.unwrap_err();
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_login_page_confirms_nothing() {
    let (_server, remote) = remote_of(|request| match request.method.as_str() {
        "HEAD" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n".to_vec()),
        _ => reply(200, "Content-Type: text/html", b"<html>log in</html>"),
    })
    .await;
    assert_eq!(remote.find_missing(&[sha256(b"blob")], &context()).await, Ok(vec![true]));
    let blob = (sha256(b"blob"), Content::Memory(Bytes::from_static(b"blob")));
    let outcomes = remote.write(&[blob], &context()).await;
    assert!(matches!(outcomes[0], Err(RemoteError::Refused { .. })), "{outcomes:?}");
    assert!(remote.put_result(&action(), &result(), &context()).await.is_err());
    // Nothing is no page, whatever its type.
    let (_server, remote) = remote_of(|_| reply(200, "Content-Type: text/html", b"")).await;
    assert_eq!(remote.put_result(&action(), &result(), &context()).await, Ok(()));
}

#[tokio::test]
async fn compressed_blobs_are_read() {
    let blob: Vec<u8> = (0..600_000_u32).map(|i| (i / 7 % 251) as u8).collect();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let (one, two) = blob.split_at(200_000);
    let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let whole = [skippable.clone(), pack(one), pack(two), skippable].concat();
    let longer = [pack(&blob), pack(b"x")].concat();
    let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 19).unwrap();
    let cut = whole[..whole.len() - 20].to_vec();
    for (body, is_right) in
        [(whole, true), (longer, false), (bomb, false), (cut, false), (b"no".to_vec(), false)]
    {
        let (_server, remote) = remote_of(move |_| reply(200, "Content-Encoding: zstd", &body)).await;
        let read = read_stream(&remote, &sha256(&blob)).await;
        let small = remote.read_small(&[sha256(&blob)], &context()).await;
        if is_right {
            assert!(read == Ok(Some(blob.clone())) && small == Ok(vec![Some(blob.clone().into())]));
        } else {
            assert!(matches!(read, Err(RemoteError::Malformed { .. })), "{:?}", read.err());
            assert!(matches!(small, Err(RemoteError::Malformed { .. })), "{:?}", small.err());
        }
    }
}

#[tokio::test]
async fn wrong_bytes_are_malformed() {
    for body in ["blub", "blo", "blob "] {
        let (_server, remote) = remote_of(move |_| reply(200, "", body.as_bytes())).await;
        let error = remote.read_small(&[sha256(b"blob")], &context()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Malformed { .. }), "{body}: {error:?}");
        // The caller of a stream hashes it, so wrong bytes of the right length arrive.
        assert_eq!(read_stream(&remote, &sha256(b"blob")).await.is_ok(), body == "blub");
    }
    let (_server, remote) = remote_of(|_| reply(200, "Content-Encoding: gzip", b"blob")).await;
    assert!(read_stream(&remote, &sha256(b"blob")).await.unwrap_err().to_string().contains("`gzip`"));
}

#[tokio::test]
async fn servers_that_stop_in_the_middle_are_unavailable() {
    let cases: [fn() -> Reply; 4] = [
        || Reply::BytesAndHang(Vec::new()),
        || Reply::BytesAndClose(Vec::new()),
        || Reply::BytesAndHang(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbl".to_vec()),
        || Reply::BytesAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbl".to_vec()),
    ];
    for case in cases {
        let (_server, remote) = remote_of(move |_| case()).await;
        let begun = Instant::now();
        let error = read_stream(&remote, &sha256(b"blob")).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        let error = remote.get_result(&action(), &context()).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let remote = open(&format!("http://127.0.0.1:{closed}"), &options());
    let error = remote.capabilities().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("refused"), "{error:?}");
}

#[tokio::test]
async fn net_01_a_response_that_trickles_ends_like_one_that_is_silent() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let trickle = |_: &RawRequest| Reply::BytesAndTrickle(head.to_vec(), Duration::from_millis(100));
    let server = RawServer::start(trickle).await;
    let mut options = options();
    options.limits.bytes_per_second_min = 1 << 20;
    let remote = open(&format!("http://127.0.0.1:{}/p", server.port), &options);
    let blob = Digest::new(DigestFunction::Sha256, sha256(b"blob").hash, 1000);
    let begun = Instant::now();
    for error in [
        read_stream(&remote, &blob).await.unwrap_err(),
        remote.read_small(&[blob], &context()).await.unwrap_err(),
        remote.get_result(&action(), &context()).await.unwrap_err(),
    ] {
        assert!(error.is_transient() && error.to_string().contains("1048576 bytes a second"), "{error}");
    }
    // Each whole response would take a hundred seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dead_remote_costs_its_time_limit_once() {
    let (server, remote) = remote_of(|_| Reply::BytesAndHang(Vec::new())).await;
    let blobs: Vec<Digest> = (0..200_u32).map(|i| sha256(&i.to_le_bytes())).collect();
    let contents: Vec<(Digest, Content)> = (0..200_u32)
        .map(|i| (blobs[i as usize], Content::Memory(Bytes::copy_from_slice(&i.to_le_bytes()))))
        .collect();
    let begun = Instant::now();
    assert!(remote.find_missing(&blobs, &context()).await.unwrap_err().is_transient());
    assert!(remote.read_small(&blobs, &context()).await.unwrap_err().is_transient());
    let outcomes = remote.write(&contents, &context()).await;
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(RemoteError::is_transient)));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(server.take_lines().len() <= 3 * RemoteLimits::default().concurrency);
}

#[tokio::test]
async fn one_refused_blob_does_not_keep_the_others_back() {
    let (_server, remote) = remote_of(|request| match request.body.as_slice() {
        b"large" => reply(413, "", b"too much"),
        _ => bare_reply(200),
    })
    .await;
    let blobs = [&b"large"[..], b"small"].repeat(30);
    let contents: Vec<(Digest, Content)> =
        blobs.iter().map(|blob| (sha256(blob), Content::Memory(Bytes::copy_from_slice(blob)))).collect();
    for (blob, outcome) in blobs.iter().zip(remote.write(&contents, &context()).await) {
        assert_eq!(outcome.is_ok(), *blob == b"small");
    }
}

#[tokio::test]
async fn capabilities_are_asked_again_after_an_error_of_the_server() {
    let (server, remote) = remote_of(|request| match request.method.as_str() {
        "PUT" => bare_reply(503),
        _ => bare_reply(404),
    })
    .await;
    remote.capabilities().await.unwrap();
    assert!(remote.put_result(&action(), &result(), &context()).await.unwrap_err().is_transient());
    server.take_requests();
    remote.capabilities().await.unwrap();
    assert_eq!(server.take_lines().len(), 1);
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let (server, remote) = remote_of(|request| match request.path.as_str() {
        path if path.starts_with("/p/") => reply(307, &format!("Location: /q{path}"), b""),
        path if request.method == "PUT" && path.starts_with("/q/") => bare_reply(201),
        path if path.starts_with("/q/") => reply(200, "", &result().encode_to_vec()),
        _ => bare_reply(500),
    })
    .await;
    assert_eq!(remote.get_result(&action(), &context()).await, Ok(Some(result())));
    assert_eq!(remote.put_result(&action(), &result(), &context()).await, Ok(()));
    assert_eq!(server.take_requests()[3].body, result().encode_to_vec());

    let elsewhere = RawServer::start(|_| bare_reply(404)).await;
    for target in [
        format!("http://127.0.0.1:{}/login?token=s3cret", elsewhere.port),
        format!("//127.0.0.1:{}/login?token=s3cret", elsewhere.port),
        format!("https://127.0.0.1:{}/login?token=s3cret", server.port),
        format!("http://localhost:{}/login?token=s3cret", server.port),
    ] {
        let (_server, remote) = remote_of(move |_| reply(302, &format!("Location: {target}"), b"")).await;
        let error = remote.get_result(&action(), &context()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("redirects to http") && !error.to_string().contains("s3cret"));
    }
    assert_eq!(elsewhere.take_lines(), [""; 0]);

    let (server, remote) = remote_of(|request| reply(302, &format!("Location: {}", request.path), b"")).await;
    let error = remote.get_result(&action(), &context()).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 times"), "{error}");
    assert_eq!(server.take_lines().len(), 6);
}

#[tokio::test]
async fn confirmed_blobs_are_remembered() {
    let (server, remote) = remote_of(|request| match request.method.as_str() {
        "HEAD" if request.path.ends_with(&sha256(b"there").hash.to_hex()) => bare_reply(200),
        "PUT" => bare_reply(200),
        _ => bare_reply(404),
    })
    .await;
    let blobs = [sha256(b"there"), sha256(b"not there"), sha256(b""), sha256(b"there")];
    let missing = Ok(vec![false, true, false, false]);
    assert_eq!(remote.find_missing(&blobs, &context()).await, missing);
    server.take_requests();
    assert_eq!(remote.find_missing(&blobs, &context()).await, missing);
    assert_eq!(server.take_lines(), [format!("HEAD /p/cas/{}", blobs[1].hash)]);
    let content = Content::Memory(Bytes::from_static(b"not there"));
    assert_eq!(remote.write(&[(blobs[1], content)], &context()).await, [Ok(())]);
    server.take_requests();
    assert_eq!(remote.find_missing(&blobs, &context()).await, Ok(vec![false; 4]));
    assert_eq!(server.take_lines(), [""; 0]);
    // A blob that turns out to be missing is not known any more.
    assert_eq!(remote.read_small(&blobs[..1], &context()).await, Ok(vec![None]));
    server.take_requests();
    remote.find_missing(&blobs[..1], &context()).await.unwrap();
    assert_eq!(server.take_lines().len(), 1);
}

#[tokio::test]
async fn capabilities_ask_once_until_the_remote_fails() {
    let (server, remote) = remote_of(|request| match request.method.as_str() {
        "PUT" => Reply::BytesAndHang(Vec::new()),
        _ => bare_reply(404),
    })
    .await;
    let is_sha256 = |capabilities: crate::Capabilities| capabilities.function == DigestFunction::Sha256;
    assert!(is_sha256(remote.capabilities().await.unwrap()));
    assert!(is_sha256(remote.capabilities().await.unwrap()));
    assert_eq!(server.take_lines(), [format!("GET /p/cas/{}", sha256(b"").hash)]);
    assert!(remote.put_result(&action(), &result(), &context()).await.unwrap_err().is_transient());
    server.take_requests();
    remote.capabilities().await.unwrap();
    assert_eq!(server.take_lines().len(), 1);
    let (_server, remote) = remote_of(|_| bare_reply(401)).await;
    assert!(matches!(remote.capabilities().await, Err(RemoteError::Refused { .. })));
    let (_server, remote) = remote_of(|_| reply(401, "", b"401 Unauthorized")).await;
    assert_eq!(remote.get_result(&action(), &context()).await, Err(RemoteError::refused("401 Unauthorized")));
    assert!(matches!(
        remote.put_result(&action(), &result(), &context()).await,
        Err(RemoteError::Refused { .. })
    ));
}

#[tokio::test]
async fn files_are_uploaded_and_files_that_shrank_are_local_errors() {
    let blob: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 253) as u8).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &blob).unwrap();
    let file = std::sync::Arc::new(std::fs::File::open(&path).unwrap());
    let (server, remote) = remote_of(|_| bare_reply(200)).await;
    let content = Content::File { file, size_bytes: blob.len() as u64 };
    assert_eq!(remote.write(&[(sha256(&blob), content.clone())], &context()).await, [Ok(())]);
    assert!(server.take_requests()[0].body == blob);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300_000).unwrap();
    let outcomes = remote.write(&[(sha256(&blob), content)], &context()).await;
    assert!(matches!(outcomes[0], Err(RemoteError::Local { .. })), "{outcomes:?}");
}

#[tokio::test]
async fn blake3_digests_are_refused() {
    let (server, remote) = remote_of(|_| bare_reply(200)).await;
    let digest = Digest::of(DigestFunction::Blake3, b"blob");
    assert!(remote.find_missing(&[digest], &context()).await.is_err());
    assert_eq!(server.take_lines(), [""; 0]);
}
