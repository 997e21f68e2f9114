//! Whether a request is answered at all, and what its sender may do: the host guard, then
//! the credentials, then the policy.
//!
//! Both protocols ask here, once a request, so that neither can forget a check. It reads
//! headers and nothing else of a request; how a refusal is put into words of HTTP or of
//! gRPC is the protocols' business.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use kache_cas::Hash;
use thiserror::Error;

use super::auth::{self, Access, Policy, Presented, Recognised};
use super::credentials::{Busy, Credentials};
use super::host_guard::{Foreign, HostGuard, Provenance};

/// What a listener asks of those who come.
pub struct Rules {
    /// What is granted to whom.
    pub policy: Policy,
    /// What names, passwords and tokens are checked against.
    pub credentials: Option<Arc<Credentials>>,
    /// Which hosts and pages are answered; none on a Unix socket, which no page can reach.
    pub hosts: Option<HostGuard>,
    /// What is answered at all.
    pub serves: Serves,
    /// Whether only this user can connect.
    pub is_private: bool,
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The cache protocols and the pages.
    Everything,
    /// All but `/metrics`.
    Cache,
    /// `/metrics`, and nothing else.
    Metrics,
}

impl Serves {
    fn answers(self, path: &str) -> bool {
        let is_metrics = path == "/metrics";
        match self {
            Serves::Everything => true,
            Serves::Cache => !is_metrics,
            Serves::Metrics => is_metrics,
        }
    }
}

impl Rules {
    /// For the Unix socket: whoever could connect is this user, and may do everything.
    pub fn this_user() -> Self {
        let policy =
            Policy { anonymous: Access::ReadWrite, certificate: Access::None, ceiling: Access::ReadWrite };
        Rules { policy, credentials: None, hosts: None, serves: Serves::Everything, is_private: true }
    }
}

/// At most this much of a path is repeated.
const PATH_EXCERPT_CHARS_MAX: usize = 80;

/// The other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// What it is called in logs, such as `127.0.0.1:4711`.
    pub name: Arc<str>,
    /// The SHA-256 of its verified certificate.
    pub certificate: Option<Hash>,
    /// What the listener asks of it.
    pub rules: Arc<Rules>,
}

/// Why a request is not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It came through a web page, or meant another host.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It presented nothing where something is needed.
    #[error("this cache needs credentials: send them as `Basic` or `Bearer` in `Authorization`{}", or_certificate(*.certificates))]
    Anonymous {
        /// Whether a client certificate would do as well.
        certificates: bool,
    },
    /// What it presented is wrong.
    #[error("the credentials are wrong; ask whoever runs this cache")]
    Wrong,
    /// What it presented cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// It may look, and not store.
    #[error("these credentials may only read; uploads need some that are `read-write`")]
    ReadOnly,
    /// This listener answers other things.
    #[error("this address does not answer `{path}`; see `serve.listen` and `serve.metrics`")]
    Elsewhere {
        /// What was asked for, shortened.
        path: String,
    },
    /// Too much else is being checked.
    #[error(transparent)]
    Busy(#[from] Busy),
}

fn or_certificate(certificates: bool) -> &'static str {
    if certificates { ", or use a client certificate" } else { "" }
}

impl Refusal {
    /// A word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Foreign(_) => "foreign",
            Refusal::Anonymous { .. } => "anonymous",
            Refusal::Wrong => "wrong_credentials",
            Refusal::Malformed(_) => "malformed_credentials",
            Refusal::ReadOnly => "read_only",
            Refusal::Elsewhere { .. } => "elsewhere",
            Refusal::Busy(_) => "busy",
        }
    }
}

impl Peer {
    /// Somebody on the Unix socket.
    pub fn this_user(rules: Arc<Rules>) -> Self {
        Peer { name: Arc::from("unix"), certificate: None, rules }
    }

    /// Whether it is this user, on the private Unix socket.
    pub fn is_this_user(&self) -> bool {
        self.rules.is_private
    }

    /// What the sender of this request may do: at least read.
    pub async fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<Access, Refusal> {
        let admitted = self.check(uri, headers).await;
        if let Err(refusal) = &admitted {
            tracing::debug!(peer = %self.name, path = uri.path(), why = refusal.label(), "not admitted");
        }
        admitted
    }

    async fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Access, Refusal> {
        if let Some(guard) = &self.rules.hosts {
            guard.check(provenance(uri, headers))?;
        }
        if !self.rules.serves.answers(uri.path()) {
            return Err(Refusal::Elsewhere {
                path: uri.path().chars().take(PATH_EXCERPT_CHARS_MAX).collect(),
            });
        }
        let Some(credentials) = &self.rules.credentials else {
            return self.grant(Recognised::Nobody, &Presented::Nothing);
        };
        let value = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let presented = auth::read_header(value);
        // Boxed, so that requests to a cache without credentials do not carry it about.
        let recognised = Box::pin(credentials.recognise(&presented)).await?;
        self.grant(recognised, &presented)
    }

    fn grant(&self, recognised: Recognised, presented: &Presented) -> Result<Access, Refusal> {
        let access = auth::decide(recognised, self.certificate.is_some(), self.rules.policy);
        if access.may_read() {
            return Ok(access);
        }
        Err(match presented {
            Presented::Nothing => {
                Refusal::Anonymous { certificates: self.rules.policy.certificate.may_read() }
            }
            Presented::Malformed(why) => Refusal::Malformed(why),
            Presented::Basic { .. } | Presented::Bearer(_) => Refusal::Wrong,
        })
    }
}

/// HTTP/2 puts the host into the request's target, HTTP/1.1 into a header; where both are,
/// the target counts.
fn provenance<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Provenance<'a> {
    // What is not text is no name of ours, and no page's origin either.
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

    fn peer(rules: Rules, certificate: bool) -> Peer {
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

    /// Alice may write, and knows `sesame`.
    fn credentials() -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, format!("alice:{}:read-write", bcrypt::hash("sesame", 4).unwrap())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let credentials = Credentials::open(&path).unwrap();
        (dir, credentials)
    }

    #[tokio::test]
    async fn credentials_and_certificates_open_the_door() {
        let (_dir, credentials) = credentials();
        let policy =
            Policy { anonymous: Access::None, certificate: Access::ReadOnly, ceiling: Access::ReadWrite };
        let rules = Rules { policy, credentials: Some(Arc::new(credentials)), ..Rules::this_user() };
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
    async fn without_a_file_credentials_mean_nothing() {
        let peer = peer(Rules::this_user(), false);
        assert_eq!(admit(&peer, "/", &[("authorization", "Basic ???")]).await, Ok(Access::ReadWrite));
    }

    #[tokio::test]
    async fn pages_are_refused_before_credentials_are_looked_at() {
        let rules = Rules { hosts: Some(HostGuard::loopback(9092, &[])), ..Rules::this_user() };
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
    async fn an_address_answers_what_it_is_for() {
        for (serves, path, answered) in [
            (Serves::Everything, "/metrics", true),
            (Serves::Everything, "/ac/x", true),
            (Serves::Cache, "/metrics", false),
            (Serves::Cache, "/ac/x", true),
            (Serves::Metrics, "/metrics", true),
            (Serves::Metrics, "/ac/x", false),
            (Serves::Metrics, "/grpc.health.v1.Health/Check", false),
        ] {
            let peer = peer(Rules { serves, ..Rules::this_user() }, false);
            assert_eq!(admit(&peer, path, &[]).await.is_ok(), answered, "{serves:?} {path}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let anonymous = Refusal::Anonymous { certificates: true }.to_string();
        assert!(anonymous.contains("`Authorization`, or use a client certificate"), "{anonymous}");
        assert!(Refusal::ReadOnly.to_string().contains("`read-write`"));
    }
}
