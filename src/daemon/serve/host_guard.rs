//! Keeps web pages away from a listener that any program on this machine can reach.
//!
//! A page in a browser can send requests to `127.0.0.1`, and by DNS rebinding can even read
//! the answers, under a `Host` of its own. So a loopback listener without TLS answers only to
//! names that mean loopback (or that were configured), and no TCP listener answers to a page
//! of another origin. Pure: header values in, a verdict out. It knows nothing of credentials.
//!
//! gRPC's `:authority` is a host like any other.

use std::net::Ipv6Addr;

use thiserror::Error;

/// What a listener answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGuard {
    /// The port it listens on.
    port: u16,
    /// Whether the host must be a loopback name, or one of `names`.
    loopback_only: bool,
    /// Further names, lower-case, with any port.
    names: Vec<String>,
}

/// What a request says about where it comes from and whom it means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Provenance<'a> {
    /// `Host`, or the authority of the request's target.
    pub host: Option<&'a str>,
    /// `Origin`, which browsers add to what pages send.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`, which newer browsers add to everything.
    pub fetch_site: Option<&'a str>,
}

/// Why a request is not answered. The texts come from a stranger and are shortened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Foreign {
    /// No host at all.
    #[error("the request names no host; send `Host: localhost:{port}`")]
    NoHost {
        /// The listener's port.
        port: u16,
    },
    /// A host that is not this listener.
    #[error(
        "`{host}` is not a name of this listener; use `localhost:{port}`, or list the name under `serve.hosts`"
    )]
    Host {
        /// What was asked for.
        host: String,
        /// The listener's port.
        port: u16,
    },
    /// A web page of somebody else.
    #[error("a web page of `{origin}` may not use this cache")]
    Origin {
        /// Whose page it is.
        origin: String,
    },
}

impl HostGuard {
    /// For a loopback listener without TLS.
    pub fn loopback(port: u16, names: &[String]) -> Self {
        HostGuard { port, loopback_only: true, names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// For any other TCP listener: all hosts, but no foreign pages.
    pub fn pages_only(port: u16) -> Self {
        HostGuard { port, loopback_only: false, names: Vec::new() }
    }

    /// Whether the request may be answered.
    pub fn check(&self, request: Provenance<'_>) -> Result<(), Foreign> {
        if self.loopback_only {
            let host = request.host.ok_or(Foreign::NoHost { port: self.port })?;
            if !self.is_ours(host) {
                return Err(Foreign::Host { host: excerpt(host), port: self.port });
            }
        }
        // A page served by another program on this machine is `same-site`: ports do not
        // count for a site. Typed into the address bar it is `none`.
        if !matches!(request.fetch_site, None | Some("same-origin" | "none")) {
            let origin = request.origin.unwrap_or("another site");
            return Err(Foreign::Origin { origin: excerpt(origin) });
        }
        match request.origin {
            Some(origin) if !self.is_own_origin(origin, request.host) => {
                Err(Foreign::Origin { origin: excerpt(origin) })
            }
            _ => Ok(()),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some((name, port)) = split_port(host) else { return false };
        let name = name.to_ascii_lowercase();
        // A configured name may stand for a proxy or a forwarded port.
        self.names.contains(&name) || (is_loopback(&name) && port.unwrap_or(80) == self.port)
    }

    /// Whether a page was served by this very listener: its origin is the host it asks.
    fn is_own_origin(&self, origin: &str, host: Option<&str>) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        match (authority, host) {
            (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
            _ => false,
        }
    }
}

/// The name and the port of an authority; `None` where it is malformed.
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

/// Names that no resolver can point elsewhere.
fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// At most this much of a stranger's header is repeated.
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
    fn only_names_of_loopback_are_answered() {
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
            assert!(matches!(guard.check(host(bad)), Err(Foreign::Host { .. })), "{bad}");
        }
        assert_eq!(guard.check(Provenance::default()), Err(Foreign::NoHost { port: 9092 }));
        assert_eq!(HostGuard::loopback(80, &[]).check(host("localhost")), Ok(()));
    }

    #[test]
    fn pages_of_others_are_refused_everywhere() {
        let own = "localhost:9092";
        for guard in [HostGuard::loopback(9092, &[]), HostGuard::pages_only(9092)] {
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
    fn elsewhere_any_host_will_do() {
        let guard = HostGuard::pages_only(443);
        assert_eq!(guard.check(host("cache.example")), Ok(()));
        assert_eq!(guard.check(Provenance::default()), Ok(()));
    }
}
