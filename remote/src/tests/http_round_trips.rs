//! Round trips over HTTP through kache's own server.

use std::path::PathBuf;
use std::sync::Arc;

use kache_cas::{Store, StoreSettings};
use kache_serve::{ActivityCounter, ListenOptions, TlsOptions as ServedTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::watch;

use super::round_trip;
use crate::{Compression, Location, ObjectRemote, Remote, RemoteOptions, TlsOptions};

struct Uncounted;

impl ActivityCounter for Uncounted {
    fn request_begun(&self) {}
    fn request_ended(&self) {}
    fn connection_opened(&self) {}
    fn connection_closed(&self) {}
}

/// Starts kache's server with an empty store in memory, and returns its port and what keeps it running.
async fn serve(tls: Option<ServedTls>) -> (u16, watch::Sender<bool>) {
    let options = ListenOptions { listen: "127.0.0.1:0".parse().ok(), tls, ..ListenOptions::default() };
    let bound = kache_serve::bind(&options).await.unwrap();
    let port = bound[0].socket.local_addr().unwrap().port();
    let (sender, draining) = watch::channel(false);
    let store = Arc::new(Store::in_memory(StoreSettings::new("/nonexistent")));
    tokio::spawn(kache_serve::serve(store, bound, None, Arc::new(Uncounted), draining.into()));
    (port, sender)
}

fn open(url: &str, options: &RemoteOptions) -> ObjectRemote {
    let (Location::Http(location), _) = Location::parse(url).unwrap() else { panic!("{url} is not HTTP") };
    ObjectRemote::http(&location, options).unwrap()
}

#[tokio::test]
async fn kache_stores_and_returns_what_kache_sends() {
    for compression in [Compression::None, Compression::Zstd(3)] {
        let (port, _running) = serve(None).await;
        let options = RemoteOptions { compression, ..RemoteOptions::default() };
        let url = format!("http://127.0.0.1:{port}/some/prefix");
        round_trip(&open(&url, &options), &open(&url, &options)).await;
    }
}

/// Writes the files of an authority and of a server that it vouches for, and returns their paths.
fn certificates(directory: &std::path::Path) -> (PathBuf, PathBuf, PathBuf) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    (write("ca", authority.pem()), write("cert", certificate.pem()), write("key", key.serialize_pem()))
}

#[tokio::test]
async fn tls_is_used_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, cert, key) = certificates(directory.path());
    let (port, _running) = serve(Some(ServedTls { cert, key, client_ca: None })).await;
    let tls = TlsOptions { ca: Some(ca), identity: None };
    let options = RemoteOptions { tls, ..RemoteOptions::default() };
    for host in ["localhost", "127.0.0.1"] {
        let remote = open(&format!("https://{host}:{port}"), &options);
        remote.capabilities().await.unwrap();
    }
    let remote = open(&format!("https://localhost:{port}"), &options);
    round_trip(&remote, &remote).await;
    // A host whose name the certificate does not hold.
    let remote = open(&format!("https://127.0.0.2:{port}"), &options);
    let error = remote.capabilities().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    // A server without TLS.
    let (port, _running) = serve(None).await;
    let error = open(&format!("https://localhost:{port}"), &options).capabilities().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}
