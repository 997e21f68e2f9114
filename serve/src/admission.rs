//! Decides whether a request is admitted, and what its sender may do: first the host guard,
//! then the credentials, then the policy of the listener.
//!
//! Both protocols call [`Peer::admit`] once for each request, so that neither can forget a
//! check. It reads the headers of a request and nothing else. How a refusal is encoded in HTTP
//! or gRPC is decided by `http_response` and `protocol_router`.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use kache_cas::Hash;
use thiserror::Error;

use super::auth::{self, Access, AccessPolicy, AuthorizationHeader, CredentialCheck};
use super::credentials::{Credentials, TooManyChecks};
use super::host_guard::{ForeignRequest, HostGuard, Provenance};

/// The rules by which a listener admits requests.
pub struct ListenerRules {
    /// The access of callers with and without credentials.
    pub policy: AccessPolicy,
    /// The file that names, passwords and tokens are checked against; `None` if the listener
    /// does not look at `Authorization`.
    pub credentials: Option<Arc<Credentials>>,
    /// The accepted values of `Host` and `Origin`; `None` on a Unix socket, which no web page can
    /// reach.
    pub hosts: Option<HostGuard>,
    /// The paths that are served.
    pub serves: ServedPaths,
    /// Whether only the user of the daemon can connect.
    pub is_private: bool,
}

/// The paths that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedPaths {
    /// The cache protocols, `/status` and `/metrics`.
    Everything,
    /// The cache protocols and `/status`.
    Cache,
    /// The listener serves `/metrics` and nothing else.
    Metrics,
}

impl ServedPaths {
    fn includes(self, path: &str) -> bool {
        let is_metrics = path == "/metrics";
        match self {
            ServedPaths::Everything => true,
            ServedPaths::Cache => !is_metrics,
            ServedPaths::Metrics => is_metrics,
        }
    }
}

impl ListenerRules {
    /// The rules of the Unix socket: only the user of the daemon can connect, and may do
    /// everything.
    pub fn this_user() -> Self {
        let policy = AccessPolicy {
            anonymous: Access::ReadWrite,
            certificate: Access::None,
            ceiling: Access::ReadWrite,
        };
        ListenerRules {
            policy,
            credentials: None,
            hosts: None,
            serves: ServedPaths::Everything,
            is_private: true,
        }
    }
}

/// How much of a path an error message repeats.
const PATH_EXCERPT_CHARS_MAX: usize = 80;

/// The client at the other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// Its name in the log, such as `127.0.0.1:4711`.
    pub name: Arc<str>,
    /// The SHA-256 of its verified certificate, if it presented one.
    pub certificate: Option<Hash>,
    /// The rules of the listener that it connected to.
    pub rules: Arc<ListenerRules>,
}

/// Why a request is not admitted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdmissionError {
    /// The request came from a web page, or was meant for another host.
    #[error(transparent)]
    Foreign(#[from] ForeignRequest),
    /// The request has no credentials, and the listener requires some.
    #[error("this cache needs credentials: send them as `Basic` or `Bearer` in `Authorization`{}", or_certificate(*.certificates))]
    Anonymous {
        /// Whether a client certificate would do as well.
        certificates: bool,
    },
    /// The credentials are wrong.
    #[error("the credentials are wrong; ask the administrator of this cache")]
    Wrong,
    /// The `Authorization` header cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// The caller may read and not store.
    #[error("these credentials may only read; uploads need credentials that are `read-write`")]
    ReadOnly,
    /// The listener does not serve this path.
    #[error("this address does not serve `{path}`; see `serve.listen` and `serve.metrics`")]
    Elsewhere {
        /// The requested path, shortened.
        path: String,
    },
    /// Too many other passwords are being checked.
    #[error(transparent)]
    Busy(#[from] TooManyChecks),
}

fn or_certificate(certificates: bool) -> &'static str {
    if certificates { ", or use a client certificate" } else { "" }
}

impl AdmissionError {
    /// The value of the label `reason` in the metrics.
    pub fn label(&self) -> &'static str {
        match self {
            AdmissionError::Foreign(_) => "foreign",
            AdmissionError::Anonymous { .. } => "anonymous",
            AdmissionError::Wrong => "wrong_credentials",
            AdmissionError::Malformed(_) => "malformed_credentials",
            AdmissionError::ReadOnly => "read_only",
            AdmissionError::Elsewhere { .. } => "elsewhere",
            AdmissionError::Busy(_) => "busy",
        }
    }
}

impl Peer {
    /// A client on the Unix socket.
    pub fn this_user(rules: Arc<ListenerRules>) -> Self {
        Peer { name: Arc::from("unix"), certificate: None, rules }
    }

    /// Whether the client is the user of the daemon, on the private Unix socket.
    pub fn is_this_user(&self) -> bool {
        self.rules.is_private
    }

    /// Returns the access of the caller, who may at least read. It may wait for a
    /// password check, on another thread.
    pub async fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<Access, AdmissionError> {
        let admitted = self.check(uri, headers).await;
        if let Err(refusal) = &admitted {
            tracing::debug!(peer = %self.name, path = uri.path(), why = refusal.label(), "not admitted");
        }
        admitted
    }

    async fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Access, AdmissionError> {
        // First, so that a web page learns nothing from the other answers, not even whether its credentials are
        // right.
        if let Some(guard) = &self.rules.hosts {
            guard.check(provenance(uri, headers))?;
        }
        if !self.rules.serves.includes(uri.path()) {
            return Err(AdmissionError::Elsewhere {
                path: uri.path().chars().take(PATH_EXCERPT_CHARS_MAX).collect(),
            });
        }
        let Some(credentials) = &self.rules.credentials else {
            return self.grant(CredentialCheck::NotPresented, &AuthorizationHeader::Absent);
        };
        let value = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let presented = auth::read_header(value);
        // Boxed, so that the futures of requests to a cache without credentials stay small.
        let checked = Box::pin(credentials.check(&presented)).await?;
        self.grant(checked, &presented)
    }

    fn grant(
        &self,
        checked: CredentialCheck,
        presented: &AuthorizationHeader,
    ) -> Result<Access, AdmissionError> {
        let access = auth::decide(checked, self.certificate.is_some(), self.rules.policy);
        if access.may_read() {
            return Ok(access);
        }
        Err(match presented {
            AuthorizationHeader::Absent => {
                AdmissionError::Anonymous { certificates: self.rules.policy.certificate.may_read() }
            }
            AuthorizationHeader::Malformed(why) => AdmissionError::Malformed(why),
            AuthorizationHeader::Basic { .. } | AuthorizationHeader::Bearer(_) => AdmissionError::Wrong,
        })
    }
}

/// Collects the headers that the host guard looks at. HTTP/2 puts the host into the request's
/// target, HTTP/1.1 into a header; if both are present, the target counts.
fn provenance<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Provenance<'a> {
    // A value that is not text becomes `?`, which is neither a host name nor an origin.
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    Provenance {
        host: uri.authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST)),
        origin: text(header::ORIGIN),
        fetch_site: text(header::HeaderName::from_static("sec-fetch-site")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn peer(rules: ListenerRules, certificate: bool) -> Peer {
        let certificate = certificate.then_some(Hash([7; Hash::LEN]));
        Peer { name: Arc::from("test"), certificate, rules: Arc::new(rules) }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    async fn admit(peer: &Peer, uri: &str, pairs: &[(&'static str, &str)]) -> Result<Access, &'static str> {
        let uri = uri.parse().unwrap();
        peer.admit(&uri, &headers(pairs)).await.map_err(|refusal| refusal.label())
    }

    /// A file in which the password of alice, who may write, is `sesame`.
    fn credentials() -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, format!("alice:{}:read-write", bcrypt::hash("sesame", 4).unwrap())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let credentials = Credentials::open(&path).unwrap();
        (dir, credentials)
    }

    #[tokio::test]
    async fn credentials_and_certificates_grant_access() {
        let (_dir, credentials) = credentials();
        let policy = AccessPolicy {
            anonymous: Access::None,
            certificate: Access::ReadOnly,
            ceiling: Access::ReadWrite,
        };
        let rules =
            ListenerRules { policy, credentials: Some(Arc::new(credentials)), ..ListenerRules::this_user() };
        let mut peer = peer(rules, false);
        for (certificate, authorization, expected) in [
            (false, None, Err("anonymous")),
            (false, Some("Basic YWxpY2U6c2VzYW1l"), Ok(Access::ReadWrite)),
            (false, Some("Basic YWxpY2U6c2VzYW1m"), Err("wrong_credentials")),
            (false, Some("Bearer sesame"), Err("wrong_credentials")),
            (false, Some("Nonsense"), Err("malformed_credentials")),
            (true, None, Ok(Access::ReadOnly)),
            (true, Some("Basic YWxpY2U6c2VzYW1l"), Ok(Access::ReadWrite)),
            (true, Some("Bearer sesame"), Err("wrong_credentials")),
        ] {
            peer.certificate = certificate.then_some(Hash([7; Hash::LEN]));
            let pairs: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
            assert_eq!(admit(&peer, "/", &pairs).await, expected, "{certificate} {authorization:?}");
        }
    }

    #[tokio::test]
    async fn without_a_credentials_file_the_header_is_ignored() {
        let peer = peer(ListenerRules::this_user(), false);
        assert_eq!(admit(&peer, "/", &[("authorization", "Basic ???")]).await, Ok(Access::ReadWrite));
    }

    #[tokio::test]
    async fn web_pages_are_refused_before_credentials_are_checked() {
        let rules =
            ListenerRules { hosts: Some(HostGuard::loopback(9092, &[])), ..ListenerRules::this_user() };
        let peer = peer(rules, false);
        for (uri, pairs, expected) in [
            ("/", &[("host", "localhost:9092")][..], Ok(Access::ReadWrite)),
            ("/", &[], Err("foreign")),
            ("/", &[("host", "evil.example:9092")], Err("foreign")),
            ("http://localhost:9092/", &[], Ok(Access::ReadWrite)),
            ("http://evil.example:9092/", &[("host", "localhost:9092")], Err("foreign")),
            ("/", &[("host", "localhost:9092"), ("origin", "https://evil.example")], Err("foreign")),
            ("/", &[("host", "localhost:9092"), ("sec-fetch-site", "cross-site")], Err("foreign")),
        ] {
            assert_eq!(admit(&peer, uri, pairs).await, expected, "{uri} {pairs:?}");
        }
    }

    #[tokio::test]
    async fn a_listener_serves_only_its_paths() {
        for (serves, path, answered) in [
            (ServedPaths::Everything, "/metrics", true),
            (ServedPaths::Everything, "/ac/x", true),
            (ServedPaths::Cache, "/metrics", false),
            (ServedPaths::Cache, "/ac/x", true),
            (ServedPaths::Metrics, "/metrics", true),
            (ServedPaths::Metrics, "/ac/x", false),
            (ServedPaths::Metrics, "/grpc.health.v1.Health/Check", false),
        ] {
            let peer = peer(ListenerRules { serves, ..ListenerRules::this_user() }, false);
            assert_eq!(admit(&peer, path, &[]).await.is_ok(), answered, "{serves:?} {path}");
        }
    }

    #[test]
    fn refusals_say_what_the_caller_can_do() {
        let anonymous = AdmissionError::Anonymous { certificates: true }.to_string();
        assert!(anonymous.contains("`Authorization`, or use a client certificate"), "{anonymous}");
        assert!(AdmissionError::ReadOnly.to_string().contains("`read-write`"));
    }
}
