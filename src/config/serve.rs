//! The settings under `serve.`, parsed: the struct that the daemon passes to its listeners.
//!
//! This module reads no file, opens nothing and binds nothing. It accepts every combination that
//! can be written down; the crate `kache-serve` decides which of them are safe to serve, such as a
//! public address without TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Everything under `serve.`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeSettings {
    /// `serve.listen`: the TCP address for gRPC, the HTTP protocol and, unless
    /// [`MetricsListener`] says otherwise, `/metrics`. `None`: the Unix socket only.
    pub listen: Option<ListenAddress>,
    /// `serve.http_listen`: one more TCP address, for programs that want the HTTP protocol
    /// on a port of its own. Every rule of `listen` applies to it.
    pub http_listen: Option<ListenAddress>,
    /// `serve.metrics`: where `/metrics` is served.
    pub metrics: MetricsListener,
    /// `serve.hosts`: host names other than `localhost` that requests to a loopback address may
    /// have.
    pub hosts: Vec<String>,
    /// `serve.read_only`: no client may store anything over TCP, whatever its credentials.
    pub read_only: bool,
    /// `serve.tls.*`; `None` serves without TLS.
    pub tls: Option<TlsSettings>,
    /// `serve.trust_uploads`: compiles use results that clients have uploaded.
    pub trust_uploads: bool,
    /// `serve.tokens`: the file with names, hashed passwords and hashed tokens.
    pub tokens: Option<PathBuf>,
    /// `serve.anonymous_reads`: with `tokens` or `tls.client_ca` set, clients without credentials
    /// may still read.
    pub anonymous_reads: bool,
    /// `serve.allow_insecure`: the first of the two settings that allow a public address without
    /// TLS or without authentication.
    pub allow_insecure: bool,
    /// `serve.insecure_address`: the second of these settings. It must repeat the address, so that
    /// another address has to be allowed again.
    pub insecure_address: Option<ListenAddress>,
}

/// `serve.tls.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `serve.tls.cert`: the PEM file with the server's certificate chain.
    pub cert: PathBuf,
    /// `serve.tls.key`: the PEM file with the certificate's private key.
    pub key: PathBuf,
    /// `serve.tls.client_ca`: clients must present a certificate that one of these authorities
    /// signed, unless they have a token.
    pub client_ca: Option<PathBuf>,
}

/// The listeners that serve `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsListener {
    /// Every listener, under its own rules for access.
    #[default]
    Shared,
    /// The metrics have no listener of their own.
    Off,
    /// Only a listener on this address, which serves nothing else.
    Own(ListenAddress),
}

/// A host and a port to listen on: `127.0.0.1:9092`, `[::1]:9092`, `localhost:0`.
///
/// Invariant: the host is not empty, and consists of letters, digits, `.`, `-` and `_`, or is an
/// IPv6 address. The brackets of an IPv6 address are not part of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// The error for a text that is not an address to listen on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("an address to listen on has the form `host:port`, such as `127.0.0.1:9092` or `[::1]:9092`")]
pub struct AddressError;

impl ListenAddress {
    /// The host; an IPv6 address is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; with 0 the system chooses one.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or(AddressError)?;
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError)?;
                inner
            }
            None => host,
        };
        let is_bracketed = text.starts_with('[');
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !(is_bracketed || host.chars().all(is_name)) {
            return Err(AddressError);
        }
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError);
        }
        let port = port.parse().map_err(|_| AddressError)?;
        Ok(ListenAddress { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for text in ["127.0.0.1:9092", "[::1]:9092", "localhost:0", "0.0.0.0:65535", "cache.example:1"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "9092",
            ":9092",
            "localhost",
            "localhost:",
            "localhost:65536",
            "::1:9092",
            "[::1",
            "[::1]",
            "[x]:1",
            "a b:1",
            "unix:/x",
            "localhost:+1",
            "localhost:-1",
            "http://localhost:1",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(AddressError), "{text}");
        }
    }
}
