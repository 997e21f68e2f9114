//! S3: what is sent, and what responses mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::Content;
use kache_proto::Message as _;
use parking_lot::Mutex;

use super::raw_server::{RawRequest, RawServer, Reply, bare_reply, reply};
use super::{action, context, read_stream, result, round_trip, sha256};
use crate::{
    ObjectRemote, Remote, RemoteError, RemoteLimits, RemoteOptions, RequestContext, S3Location, S3Options,
    Secret,
};

const NO_SUCH_KEY: &[u8] =
    b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>No.</Message></Error>";

fn location() -> S3Location {
    S3Location::new("bucket", "team a/artifacts").unwrap()
}

fn options(port: u16) -> RemoteOptions {
    let s3 = S3Options {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        access_key: Some(("AKID".into(), Secret::new("s3cret"))),
        ..S3Options::default()
    };
    let limits = RemoteLimits { stall: Duration::from_millis(500), ..RemoteLimits::default() };
    RemoteOptions { s3, limits, ..RemoteOptions::default() }
}

async fn remote_of(
    handler: impl Fn(&RawRequest) -> Reply + Send + Sync + 'static,
) -> (RawServer, ObjectRemote) {
    let server = RawServer::start(handler).await;
    let remote = ObjectRemote::s3(&location(), &options(server.port)).unwrap();
    (server, remote)
}

/// A bucket that verifies what S3 verifies, except the signature itself.
fn bucket() -> impl Fn(&RawRequest) -> Reply + Send + Sync + 'static {
    let objects: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    move |request| {
        let authorization = request.header("authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/20"), "{authorization}");
        assert!(authorization.contains("/us-east-1/s3/aws4_request,SignedHeaders=host;"), "{authorization}");
        assert_eq!(authorization.rsplit("Signature=").next().unwrap().len(), 64, "{authorization}");
        assert_eq!(request.header("x-amz-date").unwrap().len(), 16);
        let content_sha256 = sha256(&request.body).hash.to_hex();
        assert_eq!(request.header("x-amz-content-sha256"), Some(content_sha256.as_str()));
        let mut objects = objects.lock();
        let found = objects.get(&request.path);
        match (request.method.as_str(), found) {
            ("PUT", Some(_)) if request.header("if-none-match") == Some("*") => bare_reply(412),
            ("PUT", _) => {
                objects.insert(request.path.clone(), request.body.clone());
                // As moto answers.
                reply(200, "Content-Type: text/html; charset=utf-8", b"")
            }
            ("HEAD", found) => bare_reply(if found.is_some() { 200 } else { 404 }),
            (_, Some(body)) => reply(200, "", body),
            (_, None) => reply(404, "", NO_SUCH_KEY),
        }
    }
}

#[tokio::test]
async fn blobs_and_results_survive() {
    let (server, remote) = remote_of(bucket()).await;
    let reader = ObjectRemote::s3(&location(), &options(server.port)).unwrap();
    remote.capabilities().await.unwrap();
    round_trip(&remote, &reader).await;
    let puts: Vec<RawRequest> =
        server.take_requests().into_iter().filter(|request| request.method == "PUT").collect();
    // The empty blob is not stored: it is never missing.
    assert_eq!(puts.len(), 10);
    for put in puts {
        let (kind, hash) =
            put.path.strip_prefix("/bucket/team%20a/artifacts/").unwrap().split_once('/').unwrap();
        assert_eq!(put.header("if-none-match"), (kind == "cas").then_some("*"));
        assert_eq!(hash[..2], hash[3..5]);
        let expected = if kind == "cas" { sha256(&put.body).hash } else { action().hash };
        assert_eq!(hash[3..], expected.to_hex());
    }
}

#[tokio::test]
async fn failures_are_explained() {
    let xml = |code: &str, rest: &str| {
        format!("<Error><Code>{code}</Code><Message>a &amp; b</Message>{rest}</Error>")
    };
    let cases = [
        (403, "", xml("AccessDenied", ""), "Refused 403 Forbidden: AccessDenied: a & b (S3 also says"),
        (403, "", xml("SignatureDoesNotMatch", ""), "Refused 403 Forbidden: SignatureDoesNotMatch: a & b"),
        (404, "", xml("NoSuchBucket", ""), "Refused 404 Not Found: NoSuchBucket: a & b"),
        (503, "", xml("SlowDown", ""), "Unavailable 503 Service Unavailable: SlowDown"),
        (500, "", String::new(), "Unavailable 500 Internal Server Error"),
        (400, "", xml("ExpiredToken", ""), "Unavailable 400 Bad Request: ExpiredToken"),
        (400, "", xml("EntityTooLarge", ""), "TooLarge EntityTooLarge: a & b"),
        (
            301,
            "x-amz-bucket-region: eu-west-1",
            xml("PermanentRedirect", ""),
            "Refused the bucket is in the region `eu-west-1`",
        ),
        (
            400,
            "",
            xml("AuthorizationHeaderMalformed", "<Region>eu-north-1</Region>"),
            "Refused the bucket is in the region `eu-north-1`",
        ),
        (307, "Location: http://elsewhere.example/", String::new(), "Refused 307 Temporary Redirect"),
    ];
    for (status, headers, body, expected) in cases {
        let (_server, remote) = remote_of(move |_| reply(status, headers, body.as_bytes())).await;
        let blob = (sha256(b"blob"), Content::Memory(Bytes::from_static(b"blob")));
        let read = remote.get_result(&action(), &context()).await.unwrap_err();
        let written = remote.write(&[blob], &context()).await.remove(0).unwrap_err();
        for error in [read, written] {
            let (kind, message) = match &error {
                RemoteError::Unavailable { message } => ("Unavailable", message),
                RemoteError::Refused { message } => ("Refused", message),
                RemoteError::TooLarge { message } => ("TooLarge", message),
                other => panic!("{other:?}"),
            };
            assert!(format!("{kind} {message}").starts_with(expected), "{expected}: {error:?}");
        }
    }
    let (_server, remote) = remote_of(|_| bare_reply(403)).await;
    let error = remote.find_missing(&[sha256(b"blob")], &context()).await.unwrap_err();
    assert!(
        matches!(&error, RemoteError::Refused { message } if message.contains("s3:ListBucket")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_damaged_blob_is_replaced() {
    let (server, remote) = remote_of(|request| match request.method.as_str() {
        "PUT" => reply(200, "", b""),
        _ => reply(200, "", b"wrong"),
    })
    .await;
    let blob = (sha256(b"right"), Content::Memory("right".into()));
    let replacing = RequestContext { replaces: true, ..context() };
    for context in [context(), replacing] {
        remote.write(std::slice::from_ref(&blob), &context).await.remove(0).unwrap();
    }
    let conditions = server.take_requests().into_iter().map(|put| put.header("if-none-match").is_some());
    assert_eq!(conditions.collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn servers_without_conditional_requests_are_written_without_them() {
    let (server, remote) = remote_of(|request| match request.header("if-none-match") {
        Some(_) => reply(501, "", b"<Error><Code>NotImplemented</Code></Error>"),
        None => bare_reply(200),
    })
    .await;
    let blobs: Vec<_> = [&b"one"[..], b"two"]
        .map(|blob| (sha256(blob), Content::Memory(Bytes::copy_from_slice(blob))))
        .into_iter()
        .collect();
    for blob in &blobs {
        assert_eq!(remote.write(std::slice::from_ref(blob), &context()).await, [Ok(())]);
    }
    assert_eq!(server.take_lines().len(), 3);
}

#[tokio::test]
async fn what_s3_returns_is_verified() {
    let (_server, remote) = remote_of(|_| reply(200, "", b"blub")).await;
    assert!(matches!(
        remote.read_small(&[sha256(b"blob")], &context()).await,
        Err(RemoteError::Malformed { .. })
    ));
    assert!(read_stream(&remote, &sha256(b"longer than that")).await.is_err());
    let whole = Arc::new(result().encode_to_vec());
    let (_server, remote) = remote_of(move |_| reply(200, "", &whole)).await;
    assert_eq!(remote.get_result(&action(), &context()).await, Ok(Some(result())));
}

#[test]
fn buckets_have_the_urls_that_their_servers_expect() {
    let url = |bucket: &str, endpoint: Option<&str>, region: Option<&str>| {
        let location = S3Location::new(bucket, "").unwrap();
        let s3 = S3Options {
            endpoint: endpoint.map(str::to_owned),
            region: region.map(str::to_owned),
            ..S3Options::default()
        };
        let remote = ObjectRemote::s3(&location, &RemoteOptions { s3, ..RemoteOptions::default() });
        remote.map(|remote| format!("{remote:?}")).map_err(|error| error.to_string())
    };
    let cases = [
        (("bucket", None, None), "https://bucket.s3.us-east-1.amazonaws.com"),
        (("my.bucket", None, Some("eu-west-1")), "https://s3.eu-west-1.amazonaws.com/my.bucket"),
        (("bucket", None, Some("cn-north-1")), "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
        (("bucket", Some("http://minio:9000/"), None), "http://minio:9000/bucket"),
        (("bucket", Some("https://host:443/base"), None), "https://host/base/bucket"),
        (("bucket", Some("http://[::1]:80"), None), "http://[::1]/bucket"),
    ];
    for ((bucket, endpoint, region), expected) in cases {
        let shown = url(bucket, endpoint, region).unwrap();
        assert!(shown.contains(&format!("base: \"{expected}\"")), "{expected}: {shown}");
    }
    for endpoint in ["minio:9000", "grpc://host", "http://me:hunter2@host"] {
        let error = url("bucket", Some(endpoint), None).unwrap_err();
        assert!(error.contains("endpoint") && !error.contains("hunter2"), "{error}");
    }
}
