//! The headers that the options ask for: credentials, and those that the user has set.
//!
//! Values of headers may be secrets. They are marked as such, so that neither `Debug` nor the compression of
//! headers shows them, and no error repeats them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::options::{Authentication, OptionsError, RemoteOptions};

/// Returns how kache names itself to servers.
pub(crate) fn user_agent(options: &RemoteOptions) -> Result<HeaderValue, OptionsError> {
    let why = "the version of this program has a character that no header can hold";
    HeaderValue::from_str(&format!("kache/{}", options.version)).map_err(|_| wrong("user-agent", why))
}

/// Headers that HTTP, gRPC or the client itself sets; other values would break the connection.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the headers of every request. A header that the user has set replaces one that the options' other
/// parts ask for; a header that the user has set twice is sent twice.
pub(crate) fn fixed_headers(options: &RemoteOptions) -> Result<HeaderMap, OptionsError> {
    let mut headers = HeaderMap::new();
    for (name, secret) in &options.headers {
        headers.append(header_name(name)?, value(name, secret.reveal())?);
    }
    if let Some(authentication) = &options.authentication {
        // A token that a program prints is added to each request.
        if let Some(text) = authorization(authentication) {
            headers.entry(AUTHORIZATION).or_insert(value("authorization", &text)?);
        }
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, OptionsError> {
    let parsed: HeaderName =
        name.parse().map_err(|_| wrong(name, "a name has only letters, digits, `-`, `_` and `.`"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(wrong(name, "it belongs to the protocol: remove it"));
    }
    Ok(parsed)
}

fn authorization(authentication: &Authentication) -> Option<String> {
    match authentication {
        Authentication::Bearer(token) => Some(format!("Bearer {}", token.reveal())),
        Authentication::Basic { user, password } => {
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
        }
        Authentication::Command(_) => None,
    }
}

fn value(name: &str, text: &str) -> Result<HeaderValue, OptionsError> {
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| wrong(name, "its value has a line break or another control character"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn wrong(name: &str, why: &'static str) -> OptionsError {
    OptionsError::Header { name: name.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Secret;

    fn options(headers: &[(&str, &str)]) -> RemoteOptions {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        let authentication = Some(Authentication::Bearer(Secret::new("t0ken")));
        RemoteOptions { headers: headers.collect(), authentication, ..RemoteOptions::default() }
    }

    #[test]
    fn headers_of_the_user_come_before_credentials_and_may_repeat() {
        let headers = fixed_headers(&options(&[("X-Key", "1"), ("x-key", "2")])).unwrap();
        assert_eq!(headers.get_all("x-key").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers.get(AUTHORIZATION).unwrap(), "Bearer t0ken");
        assert!(!format!("{headers:?}").contains("t0ken"), "{headers:?}");
        let own = fixed_headers(&options(&[("Authorization", "Own")])).unwrap();
        assert_eq!(own.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), ["Own"]);
    }

    #[test]
    fn headers_that_cannot_be_sent_are_named_without_their_values() {
        for (name, text) in [
            ("a b", "hunter2"),
            ("", "hunter2"),
            ("x-key", "hunter2\nx"),
            ("Host", "hunter2"),
            ("grpc-timeout", "hunter2"),
            ("content-length", "1"),
        ] {
            let error = fixed_headers(&options(&[(name, text)])).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && !error.contains("hunter2"), "{error}");
        }
    }
}
