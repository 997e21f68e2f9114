//! Keeps web pages away from a listener that any program on this machine can reach.
//!
//! A page in a browser can send requests to `127.0.0.1`, and by DNS rebinding can even read
//! the answers, under a `Host` of its own. So a loopback listener without TLS answers only to
//! names that mean loopback (or that were configured), one that is open to others without TLS
//! and credentials to no domain that was not configured, and no TCP listener to a page of
//! another origin. Pure: header values in, a verdict out. It knows nothing of credentials.
//!
//! gRPC's `:authority` is a host like any other.

use std::net::Ipv6Addr;

use thiserror::Error;

/// What a listener answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGuard {
    /// The port it listens on.
    port: u16,
    hosts: Hosts,
    /// Further names, lower-case, with any port.
    names: Vec<String>,
}

/// Which hosts are answered besides the names that were configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hosts {
    /// Loopback names and addresses, with the right port.
    Loopback,
    /// Addresses, and names without a dot: nobody on the internet can have one of those
    /// point here.
    NoDomains,
    /// All.
    Any,
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
        "`{host}` is not a name of this listener (port {port}); use its address, or list the name under `serve.hosts`"
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
        HostGuard::new(port, Hosts::Loopback, names)
    }

    /// For a listener that others can reach, and that asks them for nothing.
    pub fn no_domains(port: u16, names: &[String]) -> Self {
        HostGuard::new(port, Hosts::NoDomains, names)
    }

    /// For a listener with TLS or credentials, which no page has: all hosts, but no foreign
    /// pages.
    pub fn pages_only(port: u16) -> Self {
        HostGuard::new(port, Hosts::Any, &[])
    }

    fn new(port: u16, hosts: Hosts, names: &[String]) -> Self {
        HostGuard { port, hosts, names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// Whether the request may be answered.
    pub fn check(&self, request: Provenance<'_>) -> Result<(), Foreign> {
        if self.hosts != Hosts::Any {
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
        let is_ours = match self.hosts {
            Hosts::Loopback => is_loopback(&name) && port.unwrap_or(80) == self.port,
            Hosts::NoDomains => is_address(&name) || is_plain_word(&name),
            Hosts::Any => true,
        };
        is_ours || self.names.contains(&name)
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

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

/// A name that only a local resolver knows.
fn is_plain_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
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
    fn an_open_listener_answers_to_no_domain_that_was_not_listed() {
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
            assert!(matches!(guard.check(host(bad)), Err(Foreign::Host { .. })), "{bad}");
        }
        // A page of a name that was made to point here is its own origin.
        let rebound = Provenance {
            host: Some("evil.example:9092"),
            origin: Some("http://evil.example:9092"),
            fetch_site: Some("same-origin"),
        };
        assert!(matches!(guard.check(rebound), Err(Foreign::Host { .. })));
    }

    #[test]
    fn elsewhere_any_host_will_do() {
        let guard = HostGuard::pages_only(443);
        assert_eq!(guard.check(host("cache.example")), Ok(()));
        assert_eq!(guard.check(Provenance::default()), Ok(()));
    }
}
