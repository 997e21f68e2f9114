//! Where a server of the Remote Execution API is reached.

use std::fmt;
use std::path::{Path, PathBuf};

use http::uri::Authority;

use crate::options::OptionsError;

/// The port of `grpcs` where none is given.
const TLS_PORT: u16 = 443;

/// The forms that are understood, for error messages.
const FORMS: &str = "`grpc://host:port`, `grpcs://host[:port]` or `unix:/path` is expected";

/// The location of a server of the Remote Execution API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReapiLocation {
    /// `grpc://host:port`: TCP without TLS.
    Tcp {
        /// The name or address of the host. An IPv6 address has no brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `grpcs://host[:port]`: TCP with TLS.
    Tls {
        /// The name or address of the host. An IPv6 address has no brackets.
        host: String,
        /// The port; 443 where none is given.
        port: u16,
    },
    /// `unix:/path`: a socket of this machine.
    Unix(PathBuf),
}

impl ReapiLocation {
    /// Parses a location as users write it.
    pub fn parse(text: &str) -> Result<ReapiLocation, OptionsError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path.strip_prefix("//").unwrap_or(path));
        }
        let (rest, default_port) = match (text.strip_prefix("grpc://"), text.strip_prefix("grpcs://")) {
            (Some(rest), _) => (rest, None),
            (_, Some(rest)) => (rest, Some(TLS_PORT)),
            _ => return Err(wrong(text, FORMS)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(wrong(text, "a user or a password has settings of its own and is not part of it"));
        }
        let authority: Authority = rest.parse().map_err(|_| wrong(text, FORMS))?;
        let port = port(&authority, rest, default_port).ok_or_else(|| wrong(text, FORMS))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong(text, FORMS));
        }
        Ok(match default_port {
            None => ReapiLocation::Tcp { host, port },
            Some(_) => ReapiLocation::Tls { host, port },
        })
    }

    /// Returns the URI from which requests take the name of the host.
    pub(super) fn origin(&self) -> String {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            ReapiLocation::Tcp { host, port } => format!("http://{}:{port}", bracketed(host)),
            ReapiLocation::Tls { host, port: TLS_PORT } => format!("https://{}", bracketed(host)),
            ReapiLocation::Tls { host, port } => format!("https://{}:{port}", bracketed(host)),
            ReapiLocation::Unix(_) => "http://localhost".to_owned(),
        }
    }
}

/// Writes the location as users write it.
impl fmt::Display for ReapiLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin();
        match self {
            ReapiLocation::Tcp { .. } => f.write_str(&origin.replacen("http", "grpc", 1)),
            ReapiLocation::Tls { .. } => f.write_str(&origin.replacen("https", "grpcs", 1)),
            ReapiLocation::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn unix(text: &str, path: &str) -> Result<ReapiLocation, OptionsError> {
    if Path::new(path).is_absolute() {
        return Ok(ReapiLocation::Unix(PathBuf::from(path)));
    }
    Err(wrong(text, "the path of a socket begins with `/`, as in `unix:/run/cache.sock`"))
}

/// Returns the port that follows the host, or the default where nothing does.
fn port(authority: &Authority, text: &str, default: Option<u16>) -> Option<u16> {
    match text.strip_prefix(authority.host())? {
        "" => default,
        rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port > 0),
    }
}

fn wrong(text: &str, why: &str) -> OptionsError {
    OptionsError::Location { location: without_password(text), why: why.to_owned() }
}

/// Removes what stands before `@`, which may be a password.
fn without_password(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://...{}", &text[..scheme], &text[at..]),
        (None, Some(at)) => format!("...{}", &text[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_parsed_and_written_again() {
        for (text, written) in [
            ("grpc://127.0.0.1:9092", "grpc://127.0.0.1:9092"),
            ("grpc://[::1]:9092/", "grpc://[::1]:9092"),
            ("grpcs://cache.example", "grpcs://cache.example"),
            ("grpcs://cache.example:8443", "grpcs://cache.example:8443"),
            ("unix:/run/cache.sock", "unix:/run/cache.sock"),
            ("unix:///run/cache.sock", "unix:/run/cache.sock"),
        ] {
            assert_eq!(ReapiLocation::parse(text).unwrap().to_string(), written, "{text}");
        }
        let location = ReapiLocation::parse("grpc://[::1]:9092").unwrap();
        assert_eq!(location, ReapiLocation::Tcp { host: "::1".to_owned(), port: 9092 });
    }

    #[test]
    fn other_texts_are_refused_and_passwords_are_not_repeated() {
        for text in [
            "",
            "cache.example:9092",
            "grpc://",
            "grpc://cache.example",
            "grpc://:9092",
            "grpc://host:0",
            "grpc://host:99999",
            "grpc://host:9092/path",
            "grpcs://host:",
            "http://host:1",
            "unix:relative",
            "unix:",
            "grpc://user:hunter2@host:1",
            "http://user:hunter2@host:1",
        ] {
            let error = ReapiLocation::parse(text).unwrap_err().to_string();
            assert!(error.contains("is not the location") && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
