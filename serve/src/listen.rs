//! Resolves the configured TCP addresses, checks that they may be served, and binds them.
//!
//! Invariant: an address that other machines can reach is served with TLS *and* authentication,
//! or not at all, unless the user consented twice (`serve.allow_insecure` and
//! `serve.insecure_address`). It knows no protocol.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tokio::net::{TcpListener, lookup_host};

use super::admission::{ListenerRules, Peer, ServedPaths};
use super::auth::{Access, AccessPolicy};
use super::credentials::{Credentials, CredentialsError};
use super::host_guard::HostGuard;
use super::stream::{DeadlineStream, Duplex};
use super::tls::{Tls, TlsError, TlsFiles};
use crate::listen_address::ListenAddress;
use crate::options::{ListenOptions, MetricsAddress, TlsOptions};
use crate::program::DrainSignal;

/// The most addresses of one name that are bound; `localhost` has two.
const ADDRESSES_MAX: usize = 8;

/// The stream of an accepted connection.
pub type Stream = DeadlineStream<Box<dyn Duplex>>;

/// Serves each connection that a listener accepts.
pub trait ConnectionHandler: Clone + Send + Sync + 'static {
    /// Serves a connection until it is closed. Once draining has begun, no new requests are taken,
    /// and it returns when the open ones are answered or their deadline has passed.
    fn serve(&self, stream: Stream, peer: Peer, draining: DrainSignal) -> impl Future<Output = ()> + Send;
}

/// Why the server does not listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The name cannot be resolved, or has no address.
    #[error("failed to resolve `{address}`")]
    Resolve {
        /// The address as the configuration names it.
        address: ListenAddress,
        /// The error of the resolver.
        #[source]
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("failed to listen on `{address}`")]
    Bind {
        /// The address to which the name was resolved.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// Other machines could reach the address, without TLS or without authentication.
    #[error(
        "refusing to listen on `{address}`, which others can reach, without {lacking}: set {remedy}; or, to have it \
         all the same, set both `serve.allow_insecure = true` and `serve.insecure_address = \"{address}\"`"
    )]
    Exposed {
        /// The address as the configuration names it.
        address: ListenAddress,
        /// `TLS`, `authentication` or both.
        lacking: &'static str,
        /// The options that would provide it.
        remedy: &'static str,
    },
    /// The TLS files are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The credentials file is unusable.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// A socket that listens, and the address that it is bound to.
pub struct Bound {
    /// The socket that accepts connections.
    pub socket: TcpListener,
    /// The rules by which requests are admitted.
    pub rules: Arc<ListenerRules>,
    /// The TLS configuration; `None` if it is served in plain text.
    pub tls: Option<Arc<Tls>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("socket", &self.socket).field("tls", &self.tls.is_some()).finish()
    }
}

/// Binds all TCP addresses of the options. If one of them cannot be served, none is.
pub async fn bind(options: &ListenOptions) -> Result<Vec<Bound>, ListenError> {
    let wanted = wanted(options);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // Files are read before the first address is bound, so that an error leaves nothing listening.
    let tls = options.tls.as_ref().map(|tls| open_tls(tls, options)).transpose()?;
    let credentials = options.tokens.as_deref().map(Credentials::open).transpose()?;
    let shared = BindContext { tls: tls.map(Arc::new), credentials: credentials.map(Arc::new), options };
    let mut bound = Vec::new();
    for (address, serves) in wanted {
        bound.extend(shared.bind(address, serves).await?);
    }
    Ok(bound)
}

/// Each configured address once, with the paths that are served there.
fn wanted(options: &ListenOptions) -> Vec<(&ListenAddress, ServedPaths)> {
    let everything =
        if options.metrics == MetricsAddress::Shared { ServedPaths::Everything } else { ServedPaths::Cache };
    let caches = options.listen.iter().chain(&options.http_listen);
    let mut wanted: Vec<_> = caches.map(|address| (address, everything)).collect();
    // The same address twice would be a second listener that never gets a connection.
    wanted.dedup_by(|second, first| second.0 == first.0 && first.0.port() != 0);
    if let MetricsAddress::Own(address) = &options.metrics {
        wanted.push((address, ServedPaths::Metrics));
    }
    wanted
}

fn open_tls(tls: &TlsOptions, options: &ListenOptions) -> Result<Tls, TlsError> {
    let files = TlsFiles {
        certificate: tls.cert.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
        // A client without a certificate passes the handshake if it may present a token instead,
        // or needs no credentials.
        client_certificate_required: options.tokens.is_none() && !options.anonymous_reads,
    };
    Tls::open(files, SystemTime::now())
}

/// The settings that the addresses of one `bind` share.
struct BindContext<'a> {
    tls: Option<Arc<Tls>>,
    credentials: Option<Arc<Credentials>>,
    options: &'a ListenOptions,
}

impl BindContext<'_> {
    async fn bind(&self, address: &ListenAddress, serves: ServedPaths) -> Result<Vec<Bound>, ListenError> {
        let resolved = resolve(address).await?;
        let is_loopback = is_loopback(&resolved);
        check_exposure(self.options, address, is_loopback)?;
        let mut bound = Vec::new();
        for resolved in resolved {
            let failed = |source| ListenError::Bind { address: resolved, source };
            let socket = TcpListener::bind(resolved).await.map_err(failed)?;
            let port = socket.local_addr().map_err(failed)?.port();
            let rules = Arc::new(self.rules(address, port, is_loopback, serves));
            bound.push(Bound { socket, rules, tls: self.tls.clone() });
            if address.port() == 0 {
                // A second address would get another port, and clients could not know which.
                break;
            }
        }
        Ok(bound)
    }

    fn rules(
        &self,
        address: &ListenAddress,
        port: u16,
        is_loopback: bool,
        serves: ServedPaths,
    ) -> ListenerRules {
        let options = self.options;
        let requires_credentials = has_authentication(options) && !options.anonymous_reads;
        let hosts = if self.tls.is_some() {
            HostGuard::pages_only(port)
        } else if is_loopback {
            HostGuard::loopback(port, &options.hosts)
        } else if requires_credentials {
            HostGuard::pages_only(port)
        } else {
            let own = address.host().to_owned();
            HostGuard::no_domains(port, &[&options.hosts[..], &[own]].concat())
        };
        let credentials = self.credentials.clone();
        ListenerRules { policy: policy(options), credentials, hosts: Some(hosts), serves, is_private: false }
    }
}

async fn resolve(address: &ListenAddress) -> Result<Vec<SocketAddr>, ListenError> {
    let failed = |source| ListenError::Resolve { address: address.clone(), source };
    let mut resolved: Vec<_> =
        lookup_host((address.host(), address.port())).await.map_err(failed)?.take(ADDRESSES_MAX).collect();
    resolved.dedup();
    if resolved.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(resolved)
}

/// Whether all addresses of a name are loopback. If one is not, other machines can reach it.
fn is_loopback(resolved: &[SocketAddr]) -> bool {
    resolved.iter().all(|resolved| resolved.ip().is_loopback())
}

/// Whether clients can authenticate themselves, by a token, a password or a certificate.
fn has_authentication(options: &ListenOptions) -> bool {
    options.tokens.is_some() || options.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// Refuses an address that other machines can reach without TLS or without authentication.
fn check_exposure(
    options: &ListenOptions,
    address: &ListenAddress,
    is_loopback: bool,
) -> Result<(), ListenError> {
    if is_loopback || options.has_both_consents(address) {
        return Ok(());
    }
    let (lacking, remedy) = match (options.tls.is_some(), has_authentication(options)) {
        (true, true) => return Ok(()),
        (true, false) => ("authentication", "`serve.tokens` or `serve.tls.client_ca`"),
        (false, true) => ("TLS", "`serve.tls.cert` and `serve.tls.key`"),
        (false, false) => (
            "TLS and authentication",
            "`serve.tls.cert`, `serve.tls.key`, and `serve.tokens` or `serve.tls.client_ca`",
        ),
    };
    Err(ListenError::Exposed { address: address.clone(), lacking, remedy })
}

/// Without authentication every client may read and write; with it, anonymous clients may only
/// read, and only if that is configured.
fn policy(options: &ListenOptions) -> AccessPolicy {
    let anonymous = match (has_authentication(options), options.anonymous_reads) {
        (false, _) => Access::ReadWrite,
        (true, true) => Access::ReadOnly,
        (true, false) => Access::None,
    };
    let ceiling = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
    AccessPolicy { anonymous, certificate: Access::ReadWrite, ceiling }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_loopback_only_if_all_its_addresses_are() {
        for (addresses, expected) in [
            (&["127.0.0.1:1"][..], true),
            (&["127.0.0.1:1", "[::1]:1"], true),
            (&["127.0.0.1:1", "192.168.0.1:1"], false),
            (&["0.0.0.0:1"], false),
            (&["[::]:1"], false),
            (&["[::ffff:127.0.0.1]:1"], false),
        ] {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(is_loopback(&addresses), expected, "{addresses:?}");
        }
    }
}
