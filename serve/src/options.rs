//! Where the server listens and whom it admits, as the program that runs it configures it.
//!
//! Values only. `listen` decides whether a combination is allowed. The keys in the comments are
//! those of the settings, which error messages name.

use std::fmt;
use std::path::PathBuf;

/// How the server listens on TCP. The Unix socket has no options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// `serve.listen`: the address for gRPC and HTTP; `None` if there is none.
    pub listen: Option<HostPort>,
    /// `serve.http_listen`: a second address, with the same rules.
    pub http_listen: Option<HostPort>,
    /// `serve.metrics`: where `/metrics` is served.
    pub metrics: MetricsAddress,
    /// `serve.hosts`: host names that are accepted besides those of the addresses.
    pub hosts: Vec<String>,
    /// `serve.read_only`: no client may store anything over TCP.
    pub read_only: bool,
    /// `serve.tls.*`: the files for TLS; `None` for plain text.
    pub tls: Option<TlsOptions>,
    /// `serve.tokens`: the file with names, hashed passwords and hashed tokens.
    pub tokens: Option<PathBuf>,
    /// `serve.anonymous_reads`: clients without credentials may read, even if there is a file of
    /// credentials or a CA of client certificates.
    pub anonymous_reads: bool,
    /// `serve.allow_insecure`: the first consent to serve other machines without TLS or
    /// authentication.
    pub allow_insecure: bool,
    /// `serve.insecure_address`: the second consent, which holds for this address only.
    pub insecure_address: Option<HostPort>,
}

impl ListenOptions {
    /// Whether the user consented twice to serve this address without TLS or authentication.
    pub(crate) fn has_both_consents(&self, address: &HostPort) -> bool {
        self.allow_insecure && self.insecure_address.as_ref() == Some(address)
    }
}

/// The files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// `serve.tls.cert`: the PEM file with the server's certificate chain.
    pub cert: PathBuf,
    /// `serve.tls.key`: the PEM file with its private key.
    pub key: PathBuf,
    /// `serve.tls.client_ca`: the PEM file with the CAs that sign client certificates; `None` if
    /// clients are not asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Where `/metrics` is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsAddress {
    /// On every address, with its rules.
    #[default]
    Shared,
    /// The server has no metrics.
    Off,
    /// On an address of its own, which serves nothing else.
    Own(HostPort),
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host. An IPv6 address has no brackets.
    pub host: String,
    /// The port; 0 lets the system choose one.
    pub port: u16,
}

impl fmt::Display for HostPort {
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
    fn both_consents_are_needed_and_hold_for_one_address() {
        let public = HostPort { host: "0.0.0.0".to_owned(), port: 9092 };
        let mut options = ListenOptions { allow_insecure: true, ..ListenOptions::default() };
        assert!(!options.has_both_consents(&public));
        options.insecure_address = Some(HostPort { port: 9093, ..public.clone() });
        assert!(!options.has_both_consents(&public));
        options.insecure_address = Some(public.clone());
        assert!(options.has_both_consents(&public));
        options.allow_insecure = false;
        assert!(!options.has_both_consents(&public));
    }
}
