//! Round trips over HTTP through kache's own server.

use kache_serve::{ListenOptions, TlsOptions as ServedTls};

use super::own_server::OwnServer;
use super::round_trip;
use super::test_authority::TestAuthority;
use crate::{Compression, Location, ObjectRemote, Remote, RemoteOptions, TlsOptions};

fn open(url: &str, options: &RemoteOptions) -> ObjectRemote {
    let (Location::Http(location), _) = Location::parse(url).unwrap() else { panic!("{url} is not HTTP") };
    ObjectRemote::http(&location, options).unwrap()
}

#[tokio::test]
async fn kache_stores_and_returns_what_kache_sends() {
    for compression in [Compression::None, Compression::Zstd(3)] {
        let (_server, port) = OwnServer::on_port(ListenOptions::default()).await;
        let options = RemoteOptions { compression, ..RemoteOptions::default() };
        let url = format!("http://127.0.0.1:{port}/some/prefix");
        round_trip(&open(&url, &options), &open(&url, &options)).await;
    }
}

#[tokio::test]
async fn tls_is_used_and_checked() {
    let authority = TestAuthority::new();
    let (cert, key) = authority.issue("server", |_| {});
    let tls = Some(ServedTls { cert, key, client_ca: None });
    let (_server, port) = OwnServer::on_port(ListenOptions { tls, ..ListenOptions::default() }).await;
    let tls = TlsOptions { ca: Some(authority.ca()), identity: None };
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
    let (_server, port) = OwnServer::on_port(ListenOptions::default()).await;
    let error = open(&format!("https://localhost:{port}"), &options).capabilities().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}
