//! Good and bad TLS files, and handshakes over a pipe.

use std::os::unix::fs::PermissionsExt as _;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tests::test_authority::TestAuthority;
use crate::tests::tls_client::tls_client;

/// Returns the files of a server with a certificate of this authority.
fn server_files(authority: &TestAuthority, client_ca: bool, required: bool) -> TlsFiles {
    let (certificate, key) = authority.issue("server", |_| {});
    let client_ca = client_ca.then(|| authority.ca());
    TlsFiles { certificate, key, client_ca, client_certificate_required: required }
}

/// Does a handshake. Returns `None` if it fails on either side, and otherwise whether the server
/// got a client certificate.
async fn handshake(tls: &Tls, client: ClientConfig) -> Option<bool> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = async {
        use tokio::io::AsyncReadExt as _;
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        // With TLS 1.3 a client learns that it was refused when it reads.
        stream.read_u8().await
    };
    let accepting = async {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = TlsAcceptor::from(tls.config()).accept(far).await?;
        stream.write_u8(b'!').await?;
        stream.flush().await?;
        io::Result::Ok(stream.get_ref().1.peer_certificates().is_some())
    };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    connected.ok().and(accepted.ok())
}

#[tokio::test]
async fn client_certificates_are_required_optional_or_not_asked_for() {
    let authority = TestAuthority::new();
    let stranger = TestAuthority::new();
    let own = authority.issue("client", |_| {});
    let foreign = stranger.issue("client", |_| {});
    for (client_ca, required, certificate, expected) in [
        (false, false, None, Some(false)),
        (false, false, Some(&own), Some(false)),
        (true, false, None, Some(false)),
        (true, false, Some(&own), Some(true)),
        (true, false, Some(&foreign), None),
        (true, true, None, None),
        (true, true, Some(&own), Some(true)),
        (true, true, Some(&foreign), None),
    ] {
        let tls = Tls::open(server_files(&authority, client_ca, required), SystemTime::now()).unwrap();
        assert_eq!(tls.asks_for_certificates(), client_ca);
        let client = tls_client(&authority, certificate.cloned());
        let row = (client_ca, required, certificate);
        assert_eq!(handshake(&tls, client).await, expected, "{row:?}");
    }
}

#[test]
fn unusable_files_are_named_with_a_reason() {
    let authority = TestAuthority::new();
    let good = server_files(&authority, false, false);
    let other_key = authority.issue("other", |_| {}).1;
    let expired = authority.issue("expired", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)).0;
    let early = authority.issue("early", |params| params.not_before = rcgen::date_time_ymd(3001, 1, 1)).0;
    let nonsense = authority.write("nonsense.pem", "hello");
    let cut = authority.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let encrypted = authority.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let open_key = authority.write("open.key", &fs::read_to_string(&good.key).unwrap());
    fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644)).unwrap();
    let missing = PathBuf::from("/nonexistent/server.pem");
    let certificate = |path: &PathBuf| TlsFiles { certificate: path.clone(), ..good.clone() };
    let key = |path: &PathBuf| TlsFiles { key: path.clone(), ..good.clone() };
    let ca = |path: &PathBuf| TlsFiles { client_ca: Some(path.clone()), ..good.clone() };
    for (files, path, expected) in [
        (certificate(&missing), &missing, "failed to read"),
        (certificate(&nonsense), &nonsense, "holds no certificate"),
        (certificate(&cut), &cut, "not well-formed PEM"),
        (certificate(&good.key), &good.key, "holds no certificate"),
        (certificate(&expired), &expired, "expired"),
        (certificate(&early), &early, "this machine's clock"),
        (key(&missing), &missing, "failed to read"),
        (key(&nonsense), &nonsense, "holds no key"),
        (key(&good.certificate), &good.certificate, "holds no key"),
        (key(&encrypted), &encrypted, "openssl pkey"),
        (key(&open_key), &open_key, "chmod 600"),
        (key(&other_key), &other_key, "is not the key of the certificate"),
        (ca(&missing), &missing, "failed to read"),
        (ca(&nonsense), &nonsense, "holds no certificate"),
    ] {
        let error = Tls::open(files, SystemTime::now()).err().unwrap().to_string();
        let path = path.display().to_string();
        assert!(error.contains(expected) && error.contains(&path), "{path}: {error}");
    }
}

#[tokio::test]
async fn renewed_files_are_used_and_broken_ones_are_not() {
    let authority = TestAuthority::new();
    let files = server_files(&authority, false, false);
    let tls = Tls::open(files.clone(), SystemTime::now()).unwrap();
    let look_again = || tls.refresh(&mut tls.current.lock(), SystemTime::now());

    let before = tls.config();
    look_again();
    assert!(Arc::ptr_eq(&before, &tls.config()), "nothing changed");

    fs::write(&files.certificate, "half a renewal").unwrap();
    look_again();
    assert!(Arc::ptr_eq(&before, &tls.config()), "the old pair stays in use");

    server_files(&authority, false, false);
    look_again();
    assert!(!Arc::ptr_eq(&before, &tls.config()), "the new pair is in use");
    assert_eq!(handshake(&tls, tls_client(&authority, None)).await, Some(false));
}

#[test]
fn durations_are_written_in_words() {
    for (seconds, words) in [(30, "1 minutes"), (7_200, "2 hours"), (200_000, "2 days")] {
        assert_eq!(in_words(Duration::from_secs(seconds)), words);
    }
}
