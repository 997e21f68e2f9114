//! An address to listen on, as a user writes it. Nothing is resolved or bound here.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

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
