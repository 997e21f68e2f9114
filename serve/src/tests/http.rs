//! The HTTP protocol over real sockets, with requests as Bazel and clients of bazel-remote send
//! them, and with malformed ones.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kache_cas::{
    AccessKind, ActionCache, ActionKey, BlobNames, BlobStore, BlobWriter, Content, Digest, DigestFunction,
    Hash, Store, StoreError, StoreSettings, StoredResult,
};
use kache_proto::Message as _;
use kache_proto::reapi::{self, ActionResult, ExecutedActionMetadata, OutputFile};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;

use super::socket_server::{RawResponse, ServerSetup, exchange, noise, read_response, sha256};
use crate::context::Backend;
use crate::limits::ServeLimits;

const EMPTY: &str = "/cas/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn cas(bytes: &[u8]) -> String {
    format!("/cas/{}", sha256(bytes))
}

#[tokio::test]
async fn reapi_check_02_an_empty_store_has_the_empty_blob() {
    let server = ServerSetup::default().start().await;
    for head in [format!("HEAD {EMPTY}"), format!("GET {EMPTY}")] {
        let answer = server.ask(&head, b"").await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("0")), "{head}");
    }
    assert_eq!(server.put(EMPTY, b"").await.status, 200);
}

#[tokio::test]
async fn stored_blobs_are_returned_unchanged() {
    let server = ServerSetup::default().start().await;
    for len in [1, 4_096, 65_536, 65_537, 1_000_003] {
        let blob = noise(len);
        let path = cas(&blob);
        assert_eq!(server.get(&path).await.status, 404);
        assert_eq!(server.ask(&format!("HEAD {path}"), b"").await.status, 404);
        assert_eq!(server.put(&path, &blob).await.status, 200);
        // Bazel uploads it again with every build.
        assert_eq!(server.put(&path, &blob).await.status, 200);
        for prefix in ["", "/main", "/a/b"] {
            let answer = server.get(&format!("{prefix}{path}")).await;
            assert_eq!(answer.status, 200);
            assert!(answer.body == blob, "{len} bytes");
            assert_eq!(answer.header("content-length"), Some(len.to_string().as_str()));
            assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
        let head = server.ask(&format!("HEAD {path}"), b"").await;
        assert_eq!(head.header("content-length"), Some(len.to_string().as_str()));
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = ServerSetup::default().start().await;
    let blob = noise(200_000);
    let path = cas(&blob);
    let close =
        |text: String, last: bool| if last { text } else { text.replace("Connection: close\r\n", "") };
    let mut request = close(server.head(&format!("PUT {path}"), blob.len()), false).into_bytes();
    request.extend_from_slice(&blob);
    let wrong = close(server.head(&format!("PUT {}", cas(b"other")), blob.len()), false);
    request.extend_from_slice(wrong.as_bytes());
    request.extend_from_slice(&blob);
    request.extend_from_slice(close(server.head(&format!("GET {path}"), 0), true).as_bytes());
    let mut stream = server.connect().await;
    let answer = exchange(&mut stream, std::str::from_utf8(&[]).unwrap(), &request).await;
    // The three answers follow each other; the last ends with the blob.
    let rest = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200);
    assert!(rest.contains("HTTP/1.1 400 Bad Request") && rest.contains("HTTP/1.1 200 OK"), "{rest:.500}");
    assert!(answer.body.ends_with(&blob));
}

#[tokio::test]
async fn sto_02_bytes_that_do_not_match_their_digest_are_refused_and_not_kept() {
    let server = ServerSetup::default().start().await;
    for len in [10, 5_000, 300_000] {
        let (blob, other) = (noise(len), noise(len + 1));
        let path = cas(&blob);
        server.put(&path, &other).await.refuses(400, "do not match");
        server.put(&path, &other[1..]).await.refuses(400, "do not match");
        assert_eq!(server.get(&path).await.status, 404);

        // Cut off in the middle.
        let mut stream = server.connect().await;
        stream.write_all(server.head(&format!("PUT {path}"), len).as_bytes()).await.unwrap();
        stream.write_all(&blob[..len / 2]).await.unwrap();
        stream.shutdown().await.unwrap();
        read_response(&mut stream).await;
        assert_eq!(server.get(&path).await.status, 404);
    }
}

#[tokio::test]
async fn a_part_is_206_past_the_end_is_416_and_the_whole_is_200() {
    let server = ServerSetup::default().start().await;
    let blob = noise(300_000);
    let path = cas(&blob);
    server.put(&path, &blob).await;
    let tag = format!("\"{}\"", sha256(&blob));
    for (headers, status, range) in [
        ("Range: bytes=0-", 206, 0..300_000),
        ("Range: bytes=100-199", 206, 100..200),
        ("Range: bytes=100000-", 206, 100_000..300_000),
        ("Range: bytes=-5", 206, 299_995..300_000),
        ("Range: nonsense", 200, 0..300_000),
        ("Range: bytes=0-1,5-6", 200, 0..300_000),
        ("Range: bytes=100-199\nIf-Range: TAG", 206, 100..200),
        ("Range: bytes=100-199\nIf-Range: \"other\"", 200, 0..300_000),
        ("Range: bytes=100-199\nAccept-Encoding: zstd", 206, 100..200),
    ] {
        let headers = headers.replace("TAG", &tag);
        let answer = server.ask(&format!("GET {path}\n{headers}"), b"").await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(answer.body == blob[range.clone()], "{headers}");
        let expected = format!("bytes {}-{}/300000", range.start, range.end - 1);
        assert_eq!(answer.header("content-range"), (status == 206).then_some(expected.as_str()), "{headers}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    let answer = server.ask(&format!("GET {path}\nRange: bytes=300000-"), b"").await;
    answer.refuses(416, "300000 bytes");
    assert_eq!(answer.header("content-range"), Some("bytes */300000"));
}

#[tokio::test]
async fn zstd_works_in_both_directions() {
    let server = ServerSetup::default().start().await;
    for len in [10, 100, 65_530, 70_000, 2_000_000] {
        // Some blobs are longer compressed than plain.
        let blob: Vec<u8> = noise(len / 10).repeat(10);
        let path = cas(&blob);
        let (first, second) = blob.split_at(len / 3);
        let mut packed = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        packed.extend(zstd::encode_all(first, 3).unwrap());
        packed.extend(zstd::encode_all(second, 19).unwrap());
        let put = format!("PUT {path}\nContent-Encoding: zstd\nX-Digest-SizeBytes: {len}");
        assert_eq!(server.ask(&put, &packed).await.status, 200, "{len}");
        assert!(server.get(&path).await.body == blob);

        let answer = server.ask(&format!("GET {path}\nAccept-Encoding: gzip, zstd"), b"").await;
        assert_eq!(answer.header("content-encoding"), Some("zstd"));
        assert_eq!(answer.header("x-digest-sizebytes"), Some(len.to_string().as_str()));
        assert_eq!(answer.header("etag"), None);
        assert!(zstd::decode_all(&answer.body[..]).unwrap() == blob, "{len}");
        let gzip = server.ask(&format!("GET {path}\nAccept-Encoding: gzip"), b"").await;
        assert!(gzip.body == blob && gzip.header("content-encoding").is_none());
    }
}

#[tokio::test]
async fn net_02_decompression_stops_at_the_stated_size() {
    let server = ServerSetup::default().start().await;
    for len in [1_000usize, 100_000] {
        let blob = vec![0; len];
        let bomb = zstd::encode_all(std::io::repeat(0).take_bytes(50_000_000), 1).unwrap();
        assert!(bomb.len() < 20_000);
        let put = format!("PUT {}\nContent-Encoding: zstd\nX-Digest-SizeBytes: {len}", cas(&blob));
        server.ask(&put, &bomb).await.refuses(400, &format!("more than the {len} bytes"));
        server.ask(&put, b"this is not zstd").await.refuses(400, "compressed bytes are damaged");
        let half = zstd::encode_all(&blob[..len / 2], 1).unwrap();
        assert_eq!(server.ask(&put, &half).await.status, 400);
        assert_eq!(server.get(&cas(&blob)).await.status, 404);
    }
    // A frame with a large window is refused, because the window is memory.
    let blob = noise(100_000);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&blob).unwrap();
    let wide = encoder.finish().unwrap();
    let put = format!("PUT {}\nContent-Encoding: zstd\nX-Digest-SizeBytes: 100000", cas(&blob));
    server.ask(&put, &wide).await.refuses(400, "too much memory");
}

trait TakeBytes: std::io::Read + Sized {
    fn take_bytes(self, len: u64) -> std::io::Take<Self> {
        std::io::Read::take(self, len)
    }
}
impl<R: std::io::Read> TakeBytes for R {}

/// A result with one output file.
fn result(output: &[u8]) -> ActionResult {
    let digest = reapi::Digest { hash: sha256(output), size_bytes: output.len() as i64 };
    ActionResult {
        output_files: vec![OutputFile {
            path: "out.o".to_owned(),
            digest: Some(digest),
            ..OutputFile::default()
        }],
        execution_metadata: Some(ExecutedActionMetadata {
            worker: "test".to_owned(),
            ..ExecutedActionMetadata::default()
        }),
        ..ActionResult::default()
    }
}

#[tokio::test]
async fn sto_03_a_result_is_returned_only_if_all_its_blobs_exist() {
    let server = ServerSetup::default().start().await;
    let output = noise(5_000);
    let path = format!("/ac/{}", sha256(b"action"));
    let body = result(&output).encode_to_vec();
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.put(&path, &body).await.status, 200);
    server.get(&path).await.refuses(404, "no complete action result");
    assert_eq!(server.put(&cas(&output), &output).await.status, 200);
    let answer = server.get(&path).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let found = ActionResult::decode(&answer.body[..]).unwrap();
    assert_eq!(found.output_files, result(&output).output_files);
    let head = server.ask(&format!("HEAD {path}"), b"").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), answer.header("content-length"));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_prefix_isolates_results() {
    let server = ServerSetup::default().start().await;
    let path = format!("/ac/{}", sha256(b"action"));
    let body = result(b"").encode_to_vec();
    assert_eq!(server.put(&format!("/a/b{path}"), &body).await.status, 200);
    for (prefix, expected) in
        [("/a/b", 200), ("/%61/b", 200), ("", 404), ("/a", 404), ("/b", 404), ("/a/b/c", 404)]
    {
        assert_eq!(server.get(&format!("{prefix}{path}")).await.status, expected, "{prefix}");
    }
}

#[tokio::test]
async fn results_that_no_cache_may_keep_are_refused() {
    let server = ServerSetup::default().start().await;
    let path = format!("/ac/{}", sha256(b"action"));
    let with_path = |text: &str| {
        let mut result = result(b"");
        result.output_files[0].path = text.to_owned();
        result.encode_to_vec()
    };
    let mut no_digest = result(b"");
    no_digest.output_files[0].digest = None;
    for (body, words) in [
        (b"this is no message".to_vec(), "not an encoded `ActionResult`"),
        (with_path("/etc/passwd"), "not well-formed"),
        (with_path("../out"), "not well-formed"),
        (with_path(""), "not well-formed"),
        (no_digest.encode_to_vec(), "not well-formed"),
    ] {
        server.put(&path, &body).await.refuses(400, words);
        assert_eq!(server.get(&path).await.status, 404);
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_with_a_reason() {
    let limits =
        ServeLimits { blob_bytes_max: 1_000, action_result_bytes_max: 1_000, ..ServeLimits::default() };
    let server = ServerSetup { limits, ..ServerSetup::default() }.start().await;
    let hash = sha256(b"x");
    for (head, body, status, words) in [
        ("GET /".to_owned(), 0, 404, "use `/ac/<hash>`"),
        ("PUT /robots.txt".to_owned(), 5, 404, "nothing is served there"),
        ("GET /cas/123".to_owned(), 0, 400, "`123` is not a hash"),
        (format!("GET /cas/{}", hash.to_uppercase()), 0, 400, "is not a hash"),
        (format!("GET //cas/{hash}"), 0, 400, "a segment is empty"),
        (format!("GET /a%2fb/ac/{hash}"), 0, 400, "encoded `/`"),
        (format!("GET /{}", "x".repeat(2_000)), 0, 414, "PATH_BYTES_MAX"),
        (format!("DELETE /cas/{hash}"), 0, 405, "use `GET`, `HEAD` or `PUT`"),
        (format!("POST /ac/{hash}\nContent-Length: 0"), 0, 405, "use `GET`"),
        (format!("OPTIONS /ac/{hash}"), 0, 405, "use `GET`"),
        ("PUT /status".to_owned(), 1, 405, "use `GET`"),
        (format!("PUT /cas/{hash}\nContent-Encoding: gzip"), 5, 415, "`zstd`"),
        (format!("PUT /cas/{hash}\nContent-Encoding: zstd"), 5, 400, "X-Digest-SizeBytes"),
        (format!("PUT /ac/{hash}\nContent-Encoding: zstd"), 5, 415, "without `Content-Encoding`"),
        (format!("PUT /cas/{hash}\nX-Digest-SizeBytes: 7"), 5, 400, "differ"),
        (format!("PUT /cas/{hash}\nX-Digest-SizeBytes: x"), 5, 400, "not a number"),
        (format!("PUT /cas/{hash}"), 1_001, 413, "blob_bytes_max"),
        (format!("PUT /ac/{hash}"), 1_001, 413, "action_result_bytes_max"),
    ] {
        server.ask(&head, &vec![7; body]).await.refuses(status, words);
    }
    let answer = server.ask(&format!("DELETE /cas/{hash}"), b"").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
}

#[tokio::test]
async fn chunked_uploads_need_their_size() {
    let server = ServerSetup::default().start().await;
    let path = cas(b"hello");
    let chunked = |extra: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n{extra}Connection: close\r\n\r\n",
            server.addresses[0]
        )
    };
    let body = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    exchange(&mut server.connect().await, &chunked(""), body).await.refuses(411, "Content-Length");
    let answer = exchange(&mut server.connect().await, &chunked("X-Digest-SizeBytes: 5\r\n"), body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.get(&path).await.body, b"hello");
    let path_of_action = format!("/ac/{}", sha256(b"action"));
    let head = chunked("").replace(&path, &path_of_action);
    let mut body = format!("{:x}\r\n", result(b"").encoded_len()).into_bytes();
    body.extend(result(b"").encode_to_vec());
    body.extend(b"\r\n0\r\n\r\n");
    assert_eq!(exchange(&mut server.connect().await, &head, &body).await.status, 200);
}

#[tokio::test]
async fn a_stalled_upload_is_refused_with_the_name_of_the_limit() {
    let limits = ServeLimits { stream_idle_max: Duration::from_millis(300), ..ServeLimits::default() };
    let server = ServerSetup { limits, ..ServerSetup::default() }.start().await;
    for len in [1_000, 1_000_000] {
        let blob = noise(len);
        let mut stream = server.connect().await;
        stream.write_all(server.head(&format!("PUT {}", cas(&blob)), len).as_bytes()).await.unwrap();
        stream.write_all(&blob[..len / 2]).await.unwrap();
        read_response(&mut stream).await.unwrap().refuses(408, "stream_idle_max");
        assert_eq!(server.get(&cas(&blob)).await.status, 404);
    }
}

/// A store in which every operation fails in the same way.
struct Failing(fn() -> StoreError);

impl BlobStore for Failing {
    fn find_missing(&self, digests: &[Digest], _: AccessKind) -> Result<Vec<bool>, StoreError> {
        Ok(vec![true; digests.len()])
    }
    fn open(&self, _: &Digest, _: AccessKind) -> Result<Option<Content>, StoreError> {
        Err((self.0)())
    }
    fn size_of(&self, _: DigestFunction, _: Hash) -> Result<Option<u64>, StoreError> {
        Err((self.0)())
    }
    fn names_of(&self, _: &Digest) -> Result<Option<BlobNames>, StoreError> {
        Err((self.0)())
    }
    fn create(&self, _: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        Err((self.0)())
    }
    fn deletions(&self) -> u64 {
        0
    }
    fn may_block(&self) -> bool {
        false
    }
}

impl ActionCache for Failing {
    fn get(&self, _: &ActionKey, _: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        Err((self.0)())
    }
    fn put(&self, _: &ActionKey, _: &ActionResult) -> Result<StoredResult, StoreError> {
        Err((self.0)())
    }
    fn remove(&self, _: &ActionKey) -> Result<bool, StoreError> {
        Err((self.0)())
    }
    fn page(&self, _: Option<&ActionKey>, _: usize) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        Err((self.0)())
    }
}

impl Backend for Failing {
    fn blobs(&self) -> &dyn BlobStore {
        self
    }
    fn actions(&self) -> &dyn ActionCache {
        self
    }
}

fn no_space() -> StoreError {
    StoreError::NoSpace { wanted_bytes: 1, why: "the limit `max_size` is reached".to_owned() }
}

fn broken() -> StoreError {
    StoreError::io("read", "/a/secret/path", std::io::Error::from_raw_os_error(libc::EIO))
}

#[tokio::test]
async fn sto_08_failures_are_not_misses() {
    for (error, expected) in [(no_space as fn() -> StoreError, 507), (broken, 500)] {
        let server = ServerSetup { store: Arc::new(Failing(error)), ..ServerSetup::default() }.start().await;
        for len in [10, 100_000] {
            let blob = noise(len);
            for answer in [
                server.get(&cas(&blob)).await,
                server.put(&cas(&blob), &blob).await,
                server.get(&format!("/ac/{}", sha256(b"x"))).await,
                server.put(&format!("/ac/{}", sha256(b"x")), &result(b"").encode_to_vec()).await,
            ] {
                answer.refuses(expected, "");
                assert!(!answer.text().contains("secret"), "{answer:?}");
            }
        }
    }
}

/// A store that notes each call with its `AccessKind`.
struct Noting {
    store: Store,
    accesses: Mutex<Vec<(&'static str, AccessKind)>>,
}

impl Noting {
    fn note(&self, what: &'static str, access: AccessKind) {
        self.accesses.lock().push((what, access));
    }
}

impl BlobStore for Noting {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        self.note("find_missing", access);
        self.store.blobs().find_missing(digests, access)
    }
    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        self.note("open", access);
        self.store.blobs().open(digest, access)
    }
    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.store.blobs().size_of(function, hash)
    }
    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.store.blobs().names_of(digest)
    }
    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.note("create", AccessKind::Use);
        self.store.blobs().create(digest)
    }
    fn deletions(&self) -> u64 {
        self.store.blobs().deletions()
    }
    fn may_block(&self) -> bool {
        self.store.blobs().may_block()
    }
}

impl ActionCache for Noting {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        self.note("get", access);
        self.store.actions().get(key, access)
    }
    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError> {
        self.store.actions().put(key, result)
    }
    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        self.store.actions().remove(key)
    }
    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        self.store.actions().page(after, results_max)
    }
}

impl Backend for Noting {
    fn blobs(&self) -> &dyn BlobStore {
        self
    }
    fn actions(&self) -> &dyn ActionCache {
        self
    }
}

#[tokio::test]
async fn sto_04_blobs_that_a_client_was_told_of_get_a_lease() {
    let store = Store::in_memory(StoreSettings::new("/nonexistent"));
    let store = Arc::new(Noting { store, accesses: Mutex::default() });
    let server =
        ServerSetup { store: Arc::clone(&store) as Arc<dyn Backend>, ..ServerSetup::default() }.start().await;
    let blob = noise(100_000);
    let action = format!("/ac/{}", sha256(b"action"));
    server.put(&action, &result(&blob).encode_to_vec()).await;
    for (head, body, expected) in [
        (
            format!("PUT {}", cas(&blob)),
            &blob[..],
            &[("find_missing", AccessKind::Promise), ("create", AccessKind::Use)][..],
        ),
        // The blob exists: its lease is extended, and nothing is written.
        (format!("PUT {}", cas(&blob)), &blob, &[("find_missing", AccessKind::Promise)]),
        (format!("HEAD {}", cas(&blob)), b"", &[("find_missing", AccessKind::Promise)]),
        (format!("GET {}", cas(&blob)), b"", &[("open", AccessKind::Use)]),
        // The lookup of a result that was made here comes first, and only peeks.
        (format!("GET {action}"), b"", &[("get", AccessKind::Peek), ("get", AccessKind::Promise)]),
        (format!("HEAD {action}"), b"", &[("get", AccessKind::Peek), ("get", AccessKind::Promise)]),
    ] {
        store.accesses.lock().clear();
        assert_eq!(server.ask(&head, body).await.status, 200, "{head}");
        assert_eq!(store.accesses.lock()[..], *expected, "{head}");
    }
}

#[tokio::test]
async fn stored_blobs_cannot_be_replaced() {
    let server = ServerSetup::default().start().await;
    let (blob, other) = (noise(100_000), vec![7; 100_000]);
    let path = cas(&blob);
    assert_eq!(server.put(&path, &blob).await.status, 200);
    // The bytes of a stored blob are not checked, but their number is.
    assert_eq!(server.put(&path, &other).await.status, 200);
    server.put(&path, &other[1..]).await.refuses(400, "do not match");
    assert!(server.get(&path).await.body == blob);
}

#[tokio::test]
async fn the_pages_show_the_requests() {
    let store = Store::in_memory(StoreSettings::new("/nonexistent"));
    let server = ServerSetup { store: Arc::new(store), ..ServerSetup::default() }.start().await;
    let blob = noise(5_000);
    server.put(&cas(&blob), &blob).await;
    server.get(&cas(&blob)).await;
    server.get(&cas(b"missing")).await;
    let status = server.get("/status").await;
    assert_eq!((status.status, status.header("content-type")), (200, Some("application/json")));
    let json: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
    assert_eq!(json["blobs"], 1);
    assert_eq!(json["trouble_count"], 0);
    assert!(json.get("troubles").is_none(), "names of files are not for the network");
    let metrics = server.get("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "kache_store_blobs 1",
        "kache_blob_puts_total 1",
        r#"kache_http_requests_total{operation="get_blob",outcome="ok"} 1"#,
        r#"kache_http_requests_total{operation="get_blob",outcome="miss"} 1"#,
        "kache_http_received_bytes_total 5000",
        "kache_http_sent_bytes_total 5000",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} is not in\n{}", metrics.text());
    }
    check_exposition(&metrics);
}

/// Checks what Prometheus checks: each sample follows its family, and no sample occurs twice.
fn check_exposition(answer: &RawResponse) {
    let mut families = std::collections::HashSet::new();
    let mut samples = std::collections::HashSet::new();
    for line in answer.text().lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap().to_owned()), "{line} twice");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(sample.to_owned()), "{line} twice");
            let name = sample.split('{').next().unwrap();
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known = families.contains(name) || stem.is_some_and(|stem| families.contains(stem));
            assert!(is_known, "{line} has no family");
        }
    }
}
