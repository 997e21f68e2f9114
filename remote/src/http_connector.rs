//! Opens the connections of the HTTP client: TCP, with TLS for `https`.
//!
//! A connection, its TLS included, has one time limit. The protocol above it is HTTP/2 only if the server
//! chose that by ALPN.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens connections. It is cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    /// The configuration for `https`; `None` if the client only uses `http`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The time for one connection.
    pub(crate) limit: Duration,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<RemoteStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<RemoteStream>>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&uri).await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> io::Result<RemoteStream> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let place = format!("{}:{port}", crate::location::bracketed(&host));
        let opening = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            if is_tls { self.encrypt(&host, stream).await } else { Ok(RemoteStream::Plain(stream)) }
        };
        match tokio::time::timeout(self.limit, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                Err(io::Error::new(error.kind(), format!("failed to connect to {place}: {error}")))
            }
            Err(_) => {
                let message = format!("failed to connect to {place} within {:?}", self.limit);
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    async fn encrypt(&self, host: &str, stream: TcpStream) -> io::Result<RemoteStream> {
        let config = self.tls.clone().ok_or_else(|| io::Error::other("this client does not use TLS"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(RemoteStream::Tls(Box::new(stream)))
    }
}

/// A connection to a remote.
pub(crate) enum RemoteStream {
    /// The bytes are sent as they are.
    Plain(TcpStream),
    /// The connection encrypts all bytes with TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for RemoteStream {
    fn connected(&self) -> Connected {
        let is_h2 = match self {
            RemoteStream::Plain(_) => false,
            RemoteStream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        if is_h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for RemoteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for RemoteStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RemoteStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            RemoteStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
