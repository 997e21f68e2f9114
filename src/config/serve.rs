//! What `serve.*` says, resolved and well-formed: the one struct that the daemon's driver
//! hands to its listeners.
//!
//! It knows no file and no environment, opens nothing and binds nothing. Whether a
//! combination may be listened on at all (a public address without TLS, say) is decided by
//! `daemon::serve::listen`, which owns those rules; here is only what was said.
//!
//! The driver's side of the bargain: it calls
//! `serve::listen::bind(&ServeSettings)` once before anything else, and treats its error as a
//! refusal to start; then, when the store is open, hands what it bound, its Unix listener
//! (bound by the driver, for this user only), the store, an [`Activity`] and a [`Draining`]
//! to `serve::listen::run`, which returns when draining is done.
//!
//! [`Activity`]: crate::daemon::Activity
//! [`Draining`]: crate::daemon::Draining

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Everything under `serve.`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeSettings {
    /// `serve.listen`: the TCP address for gRPC, the HTTP protocol and, unless
    /// [`MetricsDoor`] says otherwise, `/metrics`. `None`: the Unix socket only.
    pub listen: Option<ListenAddress>,
    /// `serve.http_listen`: one more TCP address, for programs that want the HTTP protocol
    /// on a port of its own. Every rule of `listen` holds for it.
    pub http_listen: Option<ListenAddress>,
    /// `serve.metrics`: where `/metrics` is answered.
    pub metrics: MetricsDoor,
    /// `serve.hosts`: host names that a loopback listener answers to besides `localhost`.
    pub hosts: Vec<String>,
    /// `serve.read_only`: nobody may store anything over TCP, whatever their credentials.
    pub read_only: bool,
    /// `serve.tls.*`.
    pub tls: Option<TlsSettings>,
    /// `serve.trust_uploads`: compiles take results that clients have uploaded.
    pub trust_uploads: bool,
    /// `serve.tokens`: the file with names, hashed passwords and hashed tokens.
    pub tokens: Option<PathBuf>,
    /// `serve.anonymous_reads`: with `tokens` or `tls.client_ca` set, callers who present
    /// nothing may still read.
    pub anonymous_reads: bool,
    /// `serve.allow_insecure`: the first of the two times one must say that an address
    /// others can reach is to be served without TLS or without authentication.
    pub allow_insecure: bool,
    /// `serve.insecure_address`: the second. It must repeat `listen`, so that a changed
    /// address asks again.
    pub insecure_address: Option<ListenAddress>,
}

impl ServeSettings {
    /// Whether this listener was insisted on twice, and so may be insecure.
    pub fn is_told_twice(&self, listen: &ListenAddress) -> bool {
        self.allow_insecure && self.insecure_address.as_ref() == Some(listen)
    }
}

/// `serve.tls.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `serve.tls.cert`: the PEM file with our certificate chain.
    pub cert: PathBuf,
    /// `serve.tls.key`: the PEM file with its key.
    pub key: PathBuf,
    /// `serve.tls.client_ca`: clients must present a certificate that one of these signed,
    /// unless they have a token.
    pub client_ca: Option<PathBuf>,
}

/// Where `/metrics` is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsDoor {
    /// On every listener, under its rules.
    #[default]
    Shared,
    /// Nowhere.
    Off,
    /// On an address of its own, and there only; nothing else is answered there.
    Own(ListenAddress),
}

/// A host and a port to listen on: `127.0.0.1:9092`, `[::1]:9092`, `localhost:0`.
///
/// Invariant: the host is not empty and holds nothing but what names and addresses are made
/// of; brackets are taken off an IPv6 address and put back when it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("an address to listen on is `host:port`, such as `127.0.0.1:9092` or `[::1]:9092`")]
pub struct AddressError;

impl ListenAddress {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 lets the system choose.
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

    #[test]
    fn insecurity_is_told_twice_for_one_address() {
        let public: ListenAddress = "0.0.0.0:9092".parse().unwrap();
        let mut settings = ServeSettings { allow_insecure: true, ..ServeSettings::default() };
        assert!(!settings.is_told_twice(&public));
        settings.insecure_address = Some("0.0.0.0:9093".parse().unwrap());
        assert!(!settings.is_told_twice(&public));
        settings.insecure_address = Some(public.clone());
        assert!(settings.is_told_twice(&public));
        settings.allow_insecure = false;
        assert!(!settings.is_told_twice(&public));
    }
}
