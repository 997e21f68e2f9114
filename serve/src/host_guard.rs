//! Refuses requests of web pages, which a browser on this machine can send to a listener.
//!
//! A page can send requests to `127.0.0.1`, and by DNS rebinding it can even read the
//! responses, under a `Host` of its own. So:
//! - a loopback listener without TLS accepts only names of loopback and configured names;
//! - a listener that others can reach, without TLS and credentials, accepts no domain that was
//!   not configured;
//! - no TCP listener accepts a page of another origin.
//!
//! Pure: it reads header values. gRPC's `:authority` counts as `Host`. It knows no credentials.

use std::net::Ipv6Addr;

use thiserror::Error;

/// Decides by `Host`, `Origin` and `Sec-Fetch-Site` which requests a listener accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGuard {
    /// The port it listens on.
    port: u16,
    hosts: Hosts,
    /// Configured names, in lower case; they are accepted with any port.
    names: Vec<String>,
}

/// The hosts that are accepted besides the configured names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hosts {
    /// Names and addresses of loopback, with the port of the listener.
    Loopback,
    /// Addresses, and names without a dot. The owner of an internet domain controls neither, so
    /// DNS rebinding cannot use them.
    NoDomains,
    /// The listener accepts every host name.
    Any,
}

/// The headers that say where a request comes from and which host it is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Provenance<'a> {
    /// `Host`, or the authority of the request's target.
    pub host: Option<&'a str>,
    /// `Origin`, which browsers add to what pages send.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`, which newer browsers add to everything.
    pub fetch_site: Option<&'a str>,
}

/// Why a request is refused. Texts from the request are shortened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ForeignRequest {
    /// The request names no host.
    #[error("the request names no host; send `Host: localhost:{port}`")]
    NoHost {
        /// The port of the listener, which the message names.
        port: u16,
    },
    /// The request names a host that is not this listener.
    #[error(
        "`{host}` is not a name of this listener (port {port}); use its address, or list the name under `serve.hosts`"
    )]
    Host {
        /// The host that the request names.
        host: String,
        /// The port of the listener, which the message names.
        port: u16,
    },
    /// The request comes from a web page of another origin.
    #[error("a web page of `{origin}` may not use this cache")]
    Origin {
        /// The origin of the page.
        origin: String,
    },
}

impl HostGuard {
    /// The guard of a loopback listener without TLS.
    pub fn loopback(port: u16, names: &[String]) -> Self {
        HostGuard::new(port, Hosts::Loopback, names)
    }

    /// The guard of a listener that others can reach without TLS or credentials.
    pub fn no_domains(port: u16, names: &[String]) -> Self {
        HostGuard::new(port, Hosts::NoDomains, names)
    }

    /// The guard of a listener with TLS or credentials, which a page does not have: all hosts
    /// are accepted, pages of other origins are not.
    pub fn pages_only(port: u16) -> Self {
        HostGuard::new(port, Hosts::Any, &[])
    }

    fn new(port: u16, hosts: Hosts, names: &[String]) -> Self {
        HostGuard { port, hosts, names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// Checks the headers of a request.
    pub fn check(&self, request: Provenance<'_>) -> Result<(), ForeignRequest> {
        if self.hosts != Hosts::Any {
            let host = request.host.ok_or(ForeignRequest::NoHost { port: self.port })?;
            if !self.is_ours(host) {
                return Err(ForeignRequest::Host { host: excerpt(host), port: self.port });
            }
        }
        // `same-site` is not enough: a page of another program on this machine has it, because
        // ports do not count for a site. An address typed by the user has `none`.
        if !matches!(request.fetch_site, None | Some("same-origin" | "none")) {
            let origin = request.origin.unwrap_or("another site");
            return Err(ForeignRequest::Origin { origin: excerpt(origin) });
        }
        match request.origin {
            Some(origin) if !self.is_own_origin(origin, request.host) => {
                Err(ForeignRequest::Origin { origin: excerpt(origin) })
            }
            _ => Ok(()),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some((name, port)) = split_port(host) else { return false };
        let name = name.to_ascii_lowercase();
        // A configured name is accepted with any port: it may be that of a proxy.
        let is_ours = match self.hosts {
            Hosts::Loopback => is_loopback(&name) && port.unwrap_or(80) == self.port,
            Hosts::NoDomains => is_address(&name) || is_plain_word(&name),
            Hosts::Any => true,
        };
        is_ours || self.names.contains(&name)
    }

    /// Whether the page was served by this listener: its origin is the host of the request.
    fn is_own_origin(&self, origin: &str, host: Option<&str>) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        match (authority, host) {
            (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
            _ => false,
        }
    }
}

/// Splits an authority into name and port; `None` if it is malformed.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            (name, rest)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if rest.is_empty() {
        return Some((name, None));
    }
    let digits = rest.strip_prefix(':')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    Some((name, Some(digits.parse().ok()?)))
}

/// Whether the name means loopback on every system, so that no resolver can change that.
fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether the name has no dot, so that only a local resolver knows it.
fn is_plain_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// How much of a header an error message repeats.
const EXCERPT_CHARS_MAX: usize = 80;

fn excerpt(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> Provenance<'_> {
        Provenance { host: Some(host), ..Provenance::default() }
    }

    #[test]
    fn a_loopback_listener_accepts_only_names_of_loopback() {
        let guard = HostGuard::loopback(9092, &["Build.Local".to_owned()]);
        for good in [
            "localhost:9092",
            "LOCALHOST:9092",
            "127.0.0.1:9092",
            "127.8.9.10:9092",
            "[::1]:9092",
            "build.local",
            "build.local:80",
        ] {
            assert_eq!(guard.check(host(good)), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:9093",
            "localhost:",
            "localhost:+9092",
            "localhost:9092:9092",
            "localhost.evil.example:9092",
            "127.0.0.1.evil.example:9092",
            "evil.example:9092",
            "192.168.0.1:9092",
            "[::2]:9092",
            "[::1:9092",
            "[localhost]:9092",
            "[::1]x:9092",
            "user@localhost:9092",
            "0.0.0.0:9092",
        ] {
            assert!(matches!(guard.check(host(bad)), Err(ForeignRequest::Host { .. })), "{bad}");
        }
        assert_eq!(guard.check(Provenance::default()), Err(ForeignRequest::NoHost { port: 9092 }));
        assert_eq!(HostGuard::loopback(80, &[]).check(host("localhost")), Ok(()));
    }

    #[test]
    fn pages_of_other_origins_are_refused_by_every_guard() {
        let own = "localhost:9092";
        let open = HostGuard::no_domains(9092, &[]);
        for guard in [HostGuard::loopback(9092, &[]), open, HostGuard::pages_only(9092)] {
            for (origin, fetch_site, answered) in [
                (None, None, true),
                (None, Some("none"), true),
                (None, Some("same-origin"), true),
                (Some("http://localhost:9092"), Some("same-origin"), true),
                (Some("http://localhost:9092"), None, true),
                (Some("http://localhost:3000"), Some("same-site"), false),
                (Some("http://localhost:3000"), None, false),
                (None, Some("same-site"), false),
                (None, Some("cross-site"), false),
                (None, Some("nonsense"), false),
                (Some("null"), None, false),
                (Some("https://evil.example"), None, false),
                (Some("http://localhost:9092.evil.example"), None, false),
                (Some(""), None, false),
            ] {
                let request = Provenance { host: Some(own), origin, fetch_site };
                assert_eq!(guard.check(request).is_ok(), answered, "{request:?}");
            }
        }
    }

    #[test]
    fn an_open_listener_accepts_no_domain_that_was_not_configured() {
        let guard = HostGuard::no_domains(9092, &["Cache.Example".to_owned()]);
        for good in [
            "192.168.0.1:9092",
            "192.168.0.1",
            "[fd00::1]:9092",
            "127.0.0.1:1",
            "localhost:9092",
            "buildbox:9092",
            "build-box_2",
            "cache.example:9092",
            "CACHE.example",
        ] {
            assert_eq!(guard.check(host(good)), Ok(()), "{good}");
        }
        for bad in
            ["evil.example:9092", "evil.example", "buildbox.", "192.168.0.1.evil.example", "", "a b", ":9092"]
        {
            assert!(matches!(guard.check(host(bad)), Err(ForeignRequest::Host { .. })), "{bad}");
        }
        // A page of a name that was made to point here is its own origin.
        let rebound = Provenance {
            host: Some("evil.example:9092"),
            origin: Some("http://evil.example:9092"),
            fetch_site: Some("same-origin"),
        };
        assert!(matches!(guard.check(rebound), Err(ForeignRequest::Host { .. })));
    }

    #[test]
    fn a_listener_with_tls_or_credentials_accepts_any_host() {
        let guard = HostGuard::pages_only(443);
        assert_eq!(guard.check(host("cache.example")), Ok(()));
        assert_eq!(guard.check(Provenance::default()), Ok(()));
    }
}
