//! Tests of accepted and rejected connections and requests over real sockets: addresses, limits, TLS and credentials.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kache_proto::Message as _;
use kache_proto::reapi::{self, action_cache_client::ActionCacheClient};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::socket_server::{RawResponse, ServerSetup, SocketServer, exchange, noise, read_response, sha256};
use super::test_authority::TestAuthority;
use super::tls_client::tls_client;
use crate::accept;
use crate::connection_threads::ConnectionThreads;
use crate::credentials::BCRYPTS_AT_ONCE_MAX;
use crate::limits::ServeLimits;
use crate::listen::{self, ListenError};
use crate::listen_address::ListenAddress;
use crate::metrics::ConnectionRejection;
use crate::options::{ListenOptions, MetricsAddress, TlsOptions};
use crate::stream::{self, StreamDeadlines};

fn address(text: &str) -> Option<ListenAddress> {
    Some(text.parse().unwrap())
}

/// Files for the configuration of a server.
struct Files(TestAuthority);

impl Files {
    fn new() -> Self {
        Files(TestAuthority::new())
    }

    fn tls(&self, with_client_ca: bool) -> TlsOptions {
        let (cert, key) = self.0.issue("server", |_| {});
        TlsOptions { cert, key, client_ca: with_client_ca.then(|| self.0.ca()) }
    }

    /// alice may write with `sesame`, bob may read with `open`, and the token `t0ken` may write.
    fn tokens(&self) -> PathBuf {
        use base64::Engine as _;
        let token = base64::engine::general_purpose::STANDARD
            .encode(kache_cas::DigestFunction::Sha256.hash(b"t0ken").0);
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        let (alice, bob) = (hash("sesame"), hash("open"));
        self.0.write(
            "tokens",
            &format!("# who\nalice:{alice}:read-write\nbob:{bob}\nbearer ci:{{SHA256}}{token}:read-write\n"),
        )
    }

    /// TLS of a client, with a certificate of its own or without.
    fn connector(&self, protocols: &[&str], with_certificate: bool) -> TlsConnector {
        let certificate = with_certificate.then(|| self.0.issue("client", |_| {}));
        let mut config = tls_client(&self.0, certificate);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(
        &self,
        server: &SocketServer,
        with_certificate: bool,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(&["http/1.1"], with_certificate).connect(name, server.connect().await).await
    }
}

async fn refusal(settings: ListenOptions) -> ListenError {
    listen::bind(&settings).await.unwrap_err()
}

#[tokio::test]
async fn an_open_address_needs_tls_and_authentication_or_two_consents() {
    let files = Files::new();
    let public = ListenOptions { listen: address("0.0.0.0:0"), ..ListenOptions::default() };
    let (tls, mtls, tokens) = (Some(files.tls(false)), Some(files.tls(true)), Some(files.tokens()));
    for (settings, lacking) in [
        (public.clone(), "without TLS and authentication"),
        (ListenOptions { tls: tls.clone(), ..public.clone() }, "without authentication"),
        (ListenOptions { tokens: tokens.clone(), ..public.clone() }, "without TLS:"),
        (ListenOptions { allow_insecure: true, ..public.clone() }, "without TLS and authentication"),
        (ListenOptions { insecure_address: address("0.0.0.0:0"), ..public.clone() }, "without TLS and"),
        (
            ListenOptions { allow_insecure: true, insecure_address: address("0.0.0.0:1"), ..public.clone() },
            "without TLS and authentication",
        ),
        (ListenOptions { listen: address("[::]:0"), ..public.clone() }, "without TLS and authentication"),
        (
            ListenOptions {
                listen: address("127.0.0.1:0"),
                http_listen: address("0.0.0.0:0"),
                ..public.clone()
            },
            "without TLS and authentication",
        ),
        (
            ListenOptions {
                listen: address("127.0.0.1:0"),
                metrics: MetricsAddress::Own("0.0.0.0:0".parse().unwrap()),
                ..public.clone()
            },
            "without TLS and authentication",
        ),
    ] {
        let error = refusal(settings).await.to_string();
        assert!(error.contains(lacking) && error.contains("serve.insecure_address"), "{error}");
    }
    for settings in [
        ListenOptions { listen: None, ..public.clone() },
        ListenOptions { listen: address("127.0.0.1:0"), ..public.clone() },
        ListenOptions { listen: address("localhost:0"), ..public.clone() },
        ListenOptions { tls: tls.clone(), tokens: tokens.clone(), ..public.clone() },
        ListenOptions { tls: mtls, ..public.clone() },
        ListenOptions { allow_insecure: true, insecure_address: address("0.0.0.0:0"), ..public.clone() },
    ] {
        let bound = listen::bind(&settings).await.unwrap();
        assert_eq!(bound.is_empty(), settings.listen.is_none(), "{settings:?}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = taken.local_addr().unwrap().to_string();
    let error = refusal(ListenOptions { listen: address(&text), ..ListenOptions::default() }).await;
    assert!(matches!(error, ListenError::Bind { .. }) && error.to_string().contains(&text), "{error}");
    let nowhere = ListenOptions { listen: address("no-such-host.invalid:1"), ..ListenOptions::default() };
    let error = refusal(nowhere).await;
    assert!(matches!(error, ListenError::Resolve { .. }), "{error}");
    let missing = TlsOptions { cert: "/nonexistent".into(), key: "/nonexistent".into(), client_ca: None };
    let settings =
        ListenOptions { listen: address("127.0.0.1:0"), tls: Some(missing), ..ListenOptions::default() };
    assert!(matches!(refusal(settings).await, ListenError::Tls(_)));
    let settings = ListenOptions {
        listen: address("127.0.0.1:0"),
        tokens: Some("/nonexistent".into()),
        ..ListenOptions::default()
    };
    assert!(matches!(refusal(settings).await, ListenError::Credentials(_)));
}

#[tokio::test]
async fn web_pages_cannot_reach_a_loopback_listener() {
    let server = ServerSetup::default().start().await;
    let port = server.addresses[0].port();
    for (headers, status) in [
        (format!("Host: 127.0.0.1:{port}"), 200),
        (format!("Host: localhost:{port}"), 200),
        // A name that was rebound to 127.0.0.1.
        (format!("Host: evil.example:{port}"), 403),
        ("Host: evil.example".to_owned(), 403),
        (format!("Host: localhost:{port}\nOrigin: https://evil.example"), 403),
        (format!("Host: localhost:{port}\nOrigin: null"), 403),
        (format!("Host: localhost:{port}\nSec-Fetch-Site: cross-site"), 403),
        (format!("Host: localhost:{port}\nSec-Fetch-Site: none"), 200),
    ] {
        let answer = server.ask(&format!("GET /status\n{headers}"), b"").await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    let mut stream = server.connect().await;
    let answer = exchange(&mut stream, "GET /status HTTP/1.0\r\n\r\n", b"").await;
    answer.refuses(403, "names no host");
}

#[tokio::test]
async fn web_pages_cannot_reach_an_open_listener_by_a_name_of_their_own() {
    let open = ListenOptions {
        listen: address("0.0.0.0:0"),
        allow_insecure: true,
        insecure_address: address("0.0.0.0:0"),
        hosts: vec!["cache.example".to_owned()],
        ..ListenOptions::default()
    };
    let files = Files::new();
    let with_tokens = ListenOptions { tokens: Some(files.tokens()), ..open.clone() };
    let reads = ListenOptions { anonymous_reads: true, ..with_tokens.clone() };
    let alice = "Authorization: Basic YWxpY2U6c2VzYW1l";
    for (settings, host, credentials, status) in [
        (&open, "192.168.0.1:9092", "", 200),
        (&open, "buildbox", "", 200),
        (&open, "cache.example", "", 200),
        (&open, "evil.example", "", 403),
        (&with_tokens, "evil.example", "", 401),
        (&with_tokens, "any.example", alice, 200),
        (&reads, "evil.example", "", 403),
    ] {
        let server = ServerSetup { settings: settings.clone(), ..ServerSetup::default() }.start().await;
        let answer = server.ask(&format!("GET /status\nHost: {host}\n{credentials}"), b"").await;
        assert_eq!(answer.status, status, "{host} {credentials}");
    }
}

#[tokio::test]
async fn credentials_decide_about_access() {
    let files = Files::new();
    let settings = ListenOptions { tokens: Some(files.tokens()), ..ServerSetup::default().settings };
    let server = ServerSetup { settings: settings.clone(), ..ServerSetup::default() }.start().await;
    let reads = ListenOptions { anonymous_reads: true, ..settings.clone() };
    let with_reads = ServerSetup { settings: reads, ..ServerSetup::default() }.start().await;
    let locked = ListenOptions { read_only: true, ..settings };
    let read_only = ServerSetup { settings: locked, ..ServerSetup::default() }.start().await;
    let path = format!("/cas/{}", sha256(b"x"));
    for (authorization, reading, writing, reading_if_anyone_may, writing_if_nobody_may) in [
        ("", 401, 401, 404, 401),
        ("Authorization: Basic YWxpY2U6c2VzYW1l", 404, 200, 404, 403),
        ("Authorization: Basic Ym9iOm9wZW4=", 404, 403, 404, 403),
        ("Authorization: Basic Ym9iOnNlc2FtZQ==", 401, 401, 401, 401),
        ("Authorization: Bearer t0ken", 404, 200, 404, 403),
        ("Authorization: Bearer token", 401, 401, 401, 401),
        ("Authorization: ?", 401, 401, 401, 401),
    ] {
        let get = format!("GET /cas/{}\n{authorization}", sha256(b"missing"));
        let put = format!("PUT {path}\n{authorization}");
        assert_eq!(server.ask(&get, b"").await.status, reading, "{authorization}");
        assert_eq!(server.ask(&put, b"x").await.status, writing, "{authorization}");
        assert_eq!(with_reads.ask(&get, b"").await.status, reading_if_anyone_may, "{authorization}");
        assert_eq!(read_only.ask(&put, b"x").await.status, writing_if_nobody_may, "{authorization}");
    }
    let answer = server.get("/metrics").await;
    answer.refuses(401, "`Authorization`");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="));
    server
        .ask(&format!("PUT {path}\nAuthorization: Basic Ym9iOm9wZW4="), b"x")
        .await
        .refuses(403, "read-write");
}

#[tokio::test]
async fn tls_is_served_and_plain_text_is_not() {
    let files = Files::new();
    let settings = ListenOptions { tls: Some(files.tls(false)), ..ServerSetup::default().settings };
    let server = ServerSetup { settings, ..ServerSetup::default() }.start().await;
    let blob = noise(300_000);
    let path = format!("/cas/{}", sha256(&blob));
    let mut stream = files.connect(&server, false).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let head = server.head(&format!("PUT {path}"), blob.len());
    assert_eq!(exchange(&mut stream, &head, &blob).await.status, 200);
    let mut stream = files.connect(&server, false).await.unwrap();
    let answer = exchange(&mut stream, &server.head(&format!("GET {path}"), 0), b"").await;
    assert!(answer.body == blob);

    let name = ServerName::try_from("localhost").unwrap();
    let stream =
        files.connector(&["h2", "http/1.1"], false).connect(name, server.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let mut plain = server.connect().await;
    plain.write_all(server.head("GET /status", 0).as_bytes()).await.unwrap();
    assert!(read_response(&mut plain).await.is_none_or(|answer: RawResponse| answer.status != 200));
    assert_eq!(server.metrics.connections_rejected(ConnectionRejection::Handshake), 1);
}

#[tokio::test]
async fn certificates_of_the_client_ca_are_accepted_and_others_are_not() {
    let (files, strangers) = (Files::new(), Files::new());
    let mut stranger = files.connector(&["http/1.1"], false);
    let settings = ListenOptions { tls: Some(files.tls(true)), ..ServerSetup::default().settings };
    let server = ServerSetup { settings: settings.clone(), ..ServerSetup::default() }.start().await;
    let put = server.head(&format!("PUT /cas/{}", sha256(b"x")), 1);
    let mut stream = files.connect(&server, true).await.unwrap();
    assert_eq!(exchange(&mut stream, &put, b"x").await.status, 200, "a certificate may write");
    for foreign in [false, true] {
        if foreign {
            stranger = strangers.connector(&["http/1.1"], true);
        }
        let name = ServerName::try_from("localhost").unwrap();
        let connected = stranger.connect(name, server.connect().await).await;
        // With TLS 1.3 the client learns of the refusal when it reads.
        let Ok(mut stream) = connected else { continue };
        let _ = stream.write_all(put.as_bytes()).await;
        assert!(read_response(&mut stream).await.is_none(), "foreign: {foreign}");
    }

    // If tokens are configured as well, a client without a certificate may present one.
    let settings = ListenOptions { tokens: Some(files.tokens()), ..settings };
    let server = ServerSetup { settings, ..ServerSetup::default() }.start().await;
    for (certificate, authorization, status) in
        [(true, "", 200), (false, "", 401), (false, "Authorization: Bearer t0ken", 200)]
    {
        let mut stream = files.connect(&server, certificate).await.unwrap();
        let put = server.head(&format!("PUT /cas/{}\n{authorization}", sha256(b"x")), 1);
        let put = put.replace("\r\n\r\n\r\n", "\r\n\r\n");
        assert_eq!(exchange(&mut stream, &put, b"x").await.status, status, "{certificate} {authorization}");
    }
}

/// The log of this thread.
#[derive(Clone, Default)]
struct Logged(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn net_06_logs_and_pages_show_no_secret() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one dispatcher only, a callsite that another test's thread reaches first would be
    // off for good, because that thread has none.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    // A test's runtime has one thread, and this holds for it.
    let _guard = tracing::subscriber::set_default(subscriber);
    let files = Files::new();
    let settings = ListenOptions { tokens: Some(files.tokens()), ..ServerSetup::default().settings };
    let server = ServerSetup { settings, ..ServerSetup::default() }.start().await;
    let mut shown = String::new();
    for credentials in
        ["Basic YWxpY2U6c2VzYW1l", "Bearer t0ken", "Basic Ym9iOnNlc2FtZQ==", "Bearer s3same", "?"]
    {
        for path in ["/metrics", "/status", "/cas/1", "/nowhere"] {
            let answer = server.ask(&format!("GET {path}\nAuthorization: {credentials}"), b"").await;
            shown.push_str(&answer.head);
            shown.push_str(answer.text());
        }
        let mut actions = ActionCacheClient::new(server.channel().await);
        let mut request = tonic::Request::new(reapi::GetActionResultRequest::default());
        request.metadata_mut().insert("authorization", credentials.parse().unwrap());
        shown.push_str(&actions.get_action_result(request).await.unwrap_err().to_string());
    }
    let logged = String::from_utf8(logged.0.lock().clone()).unwrap();
    assert!(logged.contains("not admitted"), "the log is looked at at all: {logged}");
    for secret in ["sesame", "t0ken", "s3same", "YWxpY2U6c2VzYW1l", "Ym9iOnNlc2FtZQ", "$2b$", "{SHA256}"] {
        assert!(!shown.contains(secret), "{secret} was answered");
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was logged");
    }
}

fn short_deadlines() -> accept::AcceptLimits {
    let short = Duration::from_millis(300);
    accept::AcceptLimits {
        handshake: short,
        deadlines: StreamDeadlines { first_bytes: short, write_stall: short },
        ..accept::AcceptLimits::default()
    }
}

#[tokio::test]
async fn clients_that_send_too_little_are_disconnected() {
    let files = Files::new();
    let limits = || ServeLimits { header_wait_max: Duration::from_millis(300), ..ServeLimits::default() };
    let tls = ListenOptions { tls: Some(files.tls(false)), ..ServerSetup::default().settings };
    let plain =
        ServerSetup { accept: short_deadlines(), limits: limits(), ..ServerSetup::default() }.start().await;
    let server =
        ServerSetup { accept: short_deadlines(), limits: limits(), settings: tls, ..ServerSetup::default() }
            .start()
            .await;
    for (server, said) in [
        (&plain, &b""[..]),
        (&plain, b"P"),
        (&plain, b"PRI * HTTP/2.0\r\n"),
        (&plain, b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Slow: "),
        (&server, b""),
        (&server, b"\x16\x03\x01"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(said).await.unwrap();
        // The connection ends, whatever the response. The client sends a byte now and then.
        let (mut reading, mut writing) = stream.split();
        let dripping = async {
            while said.len() > 30 && writing.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut rest = Vec::new();
        let ending = tokio::time::timeout(Duration::from_secs(5), reading.read_to_end(&mut rest));
        tokio::select! {
            ended = ending => assert!(ended.is_ok(), "{said:?} was waited for"),
            () = dripping => {}
        }
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_a_download_is_disconnected() {
    let deadlines =
        StreamDeadlines { first_bytes: Duration::from_secs(10), write_stall: Duration::from_secs(1) };
    let accept = accept::AcceptLimits { deadlines, ..accept::AcceptLimits::default() };
    let server = ServerSetup { accept, ..ServerSetup::default() }.start().await;
    let blob = noise(40_000_000);
    let path = format!("/cas/{}", sha256(&blob));
    assert_eq!(server.put(&path, &blob).await.status, 200);
    let mut stream = server.connect().await;
    stream.write_all(server.head(&format!("GET {path}"), 0).as_bytes()).await.unwrap();
    let is_closed = async {
        while server.metrics.connections_open() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_closed).await.expect("the connection is given up");
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_and_later_ones_are_served() {
    let accept = accept::AcceptLimits { connections: 4, ..accept::AcceptLimits::default() };
    let server = ServerSetup { accept, ..ServerSetup::default() }.start().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream
            .write_all(server.head("GET /status", 0).replace("close", "keep-alive").as_bytes())
            .await
            .unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
        open.push(stream);
    }
    for turned in 1..=20 {
        let mut stream = server.connect().await;
        assert!(read_response(&mut stream).await.is_none(), "the connection is closed at once");
        assert_eq!(server.metrics.connections_rejected(ConnectionRejection::Limit), turned);
    }
    open.pop();
    while server.metrics.connections_open() > 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.get("/status").await.status, 200);
    let metrics = {
        open.clear();
        while server.metrics.connections_open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.get("/metrics").await
    };
    assert!(metrics.text().contains(r#"kache_connections_turned_away_total{reason="connections_max"} 20"#));
}

#[tokio::test]
async fn dmn_02_only_the_user_of_the_daemon_can_use_the_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let unix = Some(UnixListener::bind(&path).unwrap());
    let settings = ListenOptions::default();
    let server = ServerSetup { settings, unix, ..ServerSetup::default() }.start().await;
    assert!(server.addresses.is_empty());
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let answer = exchange(&mut stream, "GET /status HTTP/1.1\r\nConnection: close\r\n\r\n", b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("\"troubles\""), "this user may know the names of files");
}

#[tokio::test]
async fn metrics_are_served_where_they_are_configured() {
    let own = MetricsAddress::Own("127.0.0.1:0".parse().unwrap());
    for (metrics, shared_status, own_status) in
        [(MetricsAddress::Shared, 200, None), (MetricsAddress::Off, 404, None), (own, 404, Some(200))]
    {
        let settings = ListenOptions { metrics, ..ServerSetup::default().settings };
        let mut server = ServerSetup { settings, ..ServerSetup::default() }.start().await;
        assert_eq!(server.get("/metrics").await.status, shared_status);
        assert_eq!(server.get("/status").await.status, 200);
        assert_eq!(server.addresses.len(), if own_status.is_some() { 2 } else { 1 });
        if let Some(own_status) = own_status {
            server.addresses.swap(0, 1);
            assert_eq!(server.get("/metrics").await.status, own_status);
            server.get("/status").await.refuses(404, "serve.metrics");
        }
    }
}

#[tokio::test]
async fn draining_finishes_open_requests_and_takes_no_new_ones() {
    for threads in [0, 2] {
        drain_under_way(
            ServerSetup { threads: ConnectionThreads::at_most(threads), ..ServerSetup::default() }
                .start()
                .await,
        )
        .await;
    }
}

async fn drain_under_way(server: SocketServer) {
    let blob = noise(100_000);
    let path = format!("/cas/{}", sha256(&blob));
    let mut idle = server.connect().await;
    idle.write_all(server.head("GET /status", 0).replace("close", "keep-alive").as_bytes()).await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(server.head(&format!("PUT {path}"), blob.len()).as_bytes()).await.unwrap();
    busy.write_all(&blob[..50_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    server.drain.begin();
    let mut rest = Vec::new();
    let closing = tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut rest));
    assert!(closing.await.is_ok(), "an idle connection is closed");
    assert!(TcpStream::connect(server.addresses[0]).await.is_err(), "the address is free again");
    busy.write_all(&blob[50_000..]).await.unwrap();
    assert_eq!(read_response(&mut busy).await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(5), server.running).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn each_protocol_reads_what_the_other_wrote() {
    let server = ServerSetup::default().start().await;
    let blob = noise(100);
    server.put(&format!("/cas/{}", sha256(&blob)), &blob).await;
    let digest = reapi::Digest { hash: sha256(&blob), size_bytes: 100 };
    let output = reapi::OutputFile {
        path: "out".to_owned(),
        digest: Some(digest.clone()),
        ..reapi::OutputFile::default()
    };
    let result = reapi::ActionResult { output_files: vec![output], ..reapi::ActionResult::default() };
    server.put(&format!("/x/y/ac/{}", sha256(b"by http")), &result.encode_to_vec()).await;

    let mut actions = ActionCacheClient::new(server.channel().await);
    let action = |name: &[u8]| Some(reapi::Digest { hash: sha256(name), size_bytes: 7 });
    let ask = |instance: &str| reapi::GetActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: action(b"by http"),
        ..reapi::GetActionResultRequest::default()
    };
    let found = actions.get_action_result(ask("x/y")).await.unwrap().into_inner();
    assert_eq!(found.output_files, result.output_files);
    let code = actions.get_action_result(ask("x")).await.unwrap_err().code();
    assert_eq!(code, tonic::Code::NotFound);

    let update = reapi::UpdateActionResultRequest {
        instance_name: "a/b".to_owned(),
        action_digest: action(b"by grpc"),
        action_result: Some(result.clone()),
        ..reapi::UpdateActionResultRequest::default()
    };
    actions.update_action_result(update).await.unwrap();
    let answer = server.get(&format!("/a/b/ac/{}", sha256(b"by grpc"))).await;
    let found = reapi::ActionResult::decode(&answer.body[..]).unwrap();
    assert_eq!(found.output_files, result.output_files);
    assert_eq!(server.get(&format!("/ac/{}", sha256(b"by grpc"))).await.status, 404);
    let metrics = server.get("/metrics").await;
    for line in [
        r#"kache_grpc_requests_total{method="GetActionResult",code="NotFound"} 1"#,
        r#"kache_grpc_request_duration_seconds_count{method="GetActionResult"} 2"#,
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn the_documentation_states_the_limits() {
    let page = include_str!("../../../docs/serving.md");
    let limits = ServeLimits::default();
    let seconds = |duration: Duration| format!("{} s", duration.as_secs());
    for (name, value) in [
        ("CONNECTIONS_MAX", accept::CONNECTIONS_MAX.to_string()),
        ("HANDSHAKE_TIMEOUT", seconds(accept::HANDSHAKE_TIMEOUT)),
        ("FIRST_BYTES_TIMEOUT", seconds(stream::FIRST_BYTES_TIMEOUT)),
        ("WRITE_STALL_TIMEOUT", seconds(stream::WRITE_STALL_TIMEOUT)),
        ("header_wait_max", seconds(limits.header_wait_max)),
        ("stream_idle_max", seconds(limits.stream_idle_max)),
        ("connection_idle_max", seconds(limits.connection_idle_max)),
        ("streams_per_connection_max", limits.streams_per_connection_max.to_string()),
        ("blob_bytes_max", limits.blob_bytes_max.to_string()),
        ("action_result_bytes_max", limits.action_result_bytes_max.to_string()),
        ("batch_bytes_max", limits.batch_bytes_max.to_string()),
        ("BCRYPTS_AT_ONCE_MAX", BCRYPTS_AT_ONCE_MAX.to_string()),
    ] {
        let row = format!("| `{name}` | {value} |");
        assert!(page.contains(&row), "docs/serving.md does not say {row}");
    }
}
