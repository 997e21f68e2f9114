//! Makes the connections to a server: TCP, TLS over TCP, or a Unix socket, within the time limit.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::location::ReapiLocation;
use crate::options::{OptionsError, RemoteOptions};
use crate::tls;

/// The protocol that TLS negotiates.
const ALPN: &[&[u8]] = &[b"h2"];

/// The stream of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// The connector that opens connections to one location.
#[derive(Clone)]
pub(super) struct Connector {
    location: Arc<ReapiLocation>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    limit: Duration,
    connects: Arc<AtomicU64>,
}

impl Connector {
    /// Makes a connector, and reads the files for TLS if the location needs them.
    pub(super) fn new(location: ReapiLocation, options: &RemoteOptions) -> Result<Connector, OptionsError> {
        let tls = match &location {
            ReapiLocation::Tcp { host, is_tls: true, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| OptionsError::Location {
                    location: location.to_string(),
                    why: "its host is no name that a certificate can hold".to_owned(),
                })?;
                let config = tls::client_config(&options.tls, ALPN)?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            ReapiLocation::Tcp { is_tls: false, .. } | ReapiLocation::Unix(_) => None,
        };
        let limit = options.limits.connect;
        Ok(Connector { location: Arc::new(location), tls, limit, connects: Arc::default() })
    }

    /// Returns the location.
    pub(super) fn location(&self) -> &ReapiLocation {
        &self.location
    }

    /// Returns how many connections were begun by this connector and its clones.
    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Duplex>>> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout(self.limit, self.open()).await {
            Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
            Ok(Err(error)) => {
                let text = format!("failed to connect to `{}`: {error}", self.location);
                Err(io::Error::new(error.kind(), text))
            }
            Err(_) => {
                let text = format!("failed to connect to `{}` within {:?}", self.location, self.limit);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    async fn open(&self) -> io::Result<Box<dyn Duplex>> {
        match &*self.location {
            ReapiLocation::Unix(path) => unix(path).await,
            ReapiLocation::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), stream).await?)),
                    None => Ok(Box::new(stream)),
                }
            }
        }
    }
}

async fn unix(path: &Path) -> io::Result<Box<dyn Duplex>> {
    Ok(Box::new(UnixStream::connect(path).await?))
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Duplex>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
