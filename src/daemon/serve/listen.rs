//! Where the door stands: it resolves the addresses, refuses those that would be open to
//! strangers, binds them, and hands what connects to the door.
//!
//! The rule it keeps: an address that others can reach is served with TLS *and*
//! authentication, or not at all, unless that was asked for twice (`serve.allow_insecure`
//! and `serve.insecure_address`). It knows no protocol; a connection that is let in is a
//! stream and a [`Peer`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tokio::net::{TcpListener, lookup_host};

use super::admission::{Peer, Rules, Serves};
use super::auth::{Access, Policy};
use super::credentials::{Credentials, CredentialsError};
use super::host_guard::HostGuard;
use super::stream::{Duplex, Paced};
use super::tls::{Tls, TlsError, TlsFiles};
use crate::config::serve::{ListenAddress, MetricsDoor, ServeSettings, TlsSettings};
use crate::daemon::Draining;

/// The most addresses that one name is listened on; `localhost` has two.
const ADDRESSES_MAX: usize = 8;

/// A connection that was let in.
pub type Stream = Paced<Box<dyn Duplex>>;

/// What serves a connection once it is let in.
pub trait Door: Clone + Send + Sync + 'static {
    /// Serves it to its end; soon after draining has begun, to the end of what is under way.
    fn serve(&self, stream: Stream, peer: Peer, draining: Draining) -> impl Future<Output = ()> + Send;
}

/// Why an address is not listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("failed to resolve `{address}`")]
    Resolve {
        /// What was configured.
        address: ListenAddress,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The address cannot be had.
    #[error("failed to listen on `{address}`")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Strangers could reach it.
    #[error(
        "refusing to listen on `{address}`, which others can reach, without {lacking}: set {remedy}; or, to have it \
         all the same, set both `serve.allow_insecure = true` and `serve.insecure_address = \"{address}\"`"
    )]
    Exposed {
        /// What was configured.
        address: ListenAddress,
        /// What is missing.
        lacking: &'static str,
        /// What would provide it.
        remedy: &'static str,
    },
    /// The TLS files are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The credentials file is unusable.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// An address that is listened on.
pub struct Bound {
    /// The socket, already listening.
    pub socket: TcpListener,
    /// What is asked of those who connect.
    pub rules: Arc<Rules>,
    /// With what they are to speak TLS.
    pub tls: Option<Arc<Tls>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("socket", &self.socket).field("tls", &self.tls.is_some()).finish()
    }
}

/// Binds every TCP address of the settings, or says why none is: half a door is none.
pub async fn bind(settings: &ServeSettings) -> Result<Vec<Bound>, ListenError> {
    let wanted = wanted(settings);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let tls = settings.tls.as_ref().map(|tls| open_tls(tls, settings)).transpose()?;
    let credentials = settings.tokens.as_deref().map(Credentials::open).transpose()?;
    let shared = Shared { tls: tls.map(Arc::new), credentials: credentials.map(Arc::new), settings };
    let mut bound = Vec::new();
    for (address, serves) in wanted {
        bound.extend(shared.bind(address, serves).await?);
    }
    Ok(bound)
}

/// Each address once, with what is answered there.
fn wanted(settings: &ServeSettings) -> Vec<(&ListenAddress, Serves)> {
    let everything = if settings.metrics == MetricsDoor::Shared { Serves::Everything } else { Serves::Cache };
    let caches = settings.listen.iter().chain(&settings.http_listen);
    let mut wanted: Vec<_> = caches.map(|address| (address, everything)).collect();
    // The same port twice would be a second listener that never gets a connection.
    wanted.dedup_by(|second, first| second.0 == first.0 && first.0.port() != 0);
    if let MetricsDoor::Own(address) = &settings.metrics {
        wanted.push((address, Serves::Metrics));
    }
    wanted
}

fn open_tls(tls: &TlsSettings, settings: &ServeSettings) -> Result<Tls, TlsError> {
    let files = TlsFiles {
        certificate: tls.cert.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
        // Those without a certificate are let through the handshake where they may still
        // have a token, or need none.
        client_certificate_required: settings.tokens.is_none() && !settings.anonymous_reads,
    };
    Tls::open(files, SystemTime::now())
}

/// What all addresses have in common.
struct Shared<'a> {
    tls: Option<Arc<Tls>>,
    credentials: Option<Arc<Credentials>>,
    settings: &'a ServeSettings,
}

impl Shared<'_> {
    async fn bind(&self, address: &ListenAddress, serves: Serves) -> Result<Vec<Bound>, ListenError> {
        let resolved = resolve(address).await?;
        let is_loopback = is_loopback(&resolved);
        check_exposure(self.settings, address, is_loopback)?;
        let mut bound = Vec::new();
        for resolved in resolved {
            let failed = |source| ListenError::Bind { address: resolved, source };
            let socket = TcpListener::bind(resolved).await.map_err(failed)?;
            let port = socket.local_addr().map_err(failed)?.port();
            let rules = Arc::new(self.rules(address, port, is_loopback, serves));
            bound.push(Bound { socket, rules, tls: self.tls.clone() });
            if address.port() == 0 {
                // A second address would get another port, and nobody could tell which.
                break;
            }
        }
        Ok(bound)
    }

    fn rules(&self, address: &ListenAddress, port: u16, is_loopback: bool, serves: Serves) -> Rules {
        let settings = self.settings;
        let asks_everybody = has_authentication(settings) && !settings.anonymous_reads;
        let hosts = if self.tls.is_some() {
            HostGuard::pages_only(port)
        } else if is_loopback {
            HostGuard::loopback(port, &settings.hosts)
        } else if asks_everybody {
            HostGuard::pages_only(port)
        } else {
            let own = address.host().to_owned();
            HostGuard::no_domains(port, &[&settings.hosts[..], &[own]].concat())
        };
        let credentials = self.credentials.clone();
        Rules { policy: policy(settings), credentials, hosts: Some(hosts), serves, is_private: false }
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

/// A name that means this machine and also something else can be reached by others.
fn is_loopback(resolved: &[SocketAddr]) -> bool {
    resolved.iter().all(|resolved| resolved.ip().is_loopback())
}

/// Whether anything but knowing the address is asked of those who connect.
fn has_authentication(settings: &ServeSettings) -> bool {
    settings.tokens.is_some() || settings.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

fn check_exposure(
    settings: &ServeSettings,
    address: &ListenAddress,
    is_loopback: bool,
) -> Result<(), ListenError> {
    if is_loopback || settings.is_told_twice(address) {
        return Ok(());
    }
    let (lacking, remedy) = match (settings.tls.is_some(), has_authentication(settings)) {
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

fn policy(settings: &ServeSettings) -> Policy {
    let anonymous = match (has_authentication(settings), settings.anonymous_reads) {
        (false, _) => Access::ReadWrite,
        (true, true) => Access::ReadOnly,
        (true, false) => Access::None,
    };
    let ceiling = if settings.read_only { Access::ReadOnly } else { Access::ReadWrite };
    Policy { anonymous, certificate: Access::ReadWrite, ceiling }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_can_reach_is_loopback() {
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
