//! Where the server listens and whom it admits, as the program that runs it configures it.
//!
//! Values only. `listen` decides whether a combination is allowed. The keys in the comments are
//! those of the settings, which error messages name.

use std::path::PathBuf;

use crate::listen_address::ListenAddress;

/// How the server listens on TCP. The Unix socket has no options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// `serve.listen`: the address for gRPC and HTTP; `None` if there is none.
    pub listen: Option<ListenAddress>,
    /// `serve.http_listen`: a second address, with the same rules.
    pub http_listen: Option<ListenAddress>,
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
    pub insecure_address: Option<ListenAddress>,
}

impl ListenOptions {
    /// Whether the user consented twice to serve this address without TLS or authentication.
    pub(crate) fn has_both_consents(&self, address: &ListenAddress) -> bool {
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
    Own(ListenAddress),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_consents_are_needed_and_hold_for_one_address() {
        let [public, other] =
            ["0.0.0.0:9092", "0.0.0.0:9093"].map(|text| text.parse::<ListenAddress>().unwrap());
        let mut options = ListenOptions { allow_insecure: true, ..ListenOptions::default() };
        assert!(!options.has_both_consents(&public));
        options.insecure_address = Some(other);
        assert!(!options.has_both_consents(&public));
        options.insecure_address = Some(public.clone());
        assert!(options.has_both_consents(&public));
        options.allow_insecure = false;
        assert!(!options.has_both_consents(&public));
    }
}
