//! The headers that the options ask for: credentials, and those that the user has set.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::options::{Authentication, OptionsError, RemoteOptions};

/// How kache names itself to servers.
pub(crate) const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("kache/", env!("CARGO_PKG_VERSION")));

/// Headers that the client sets itself; other values would break the connection.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the headers of every request. A header that the user has set replaces one that the options' other
/// parts ask for. All of them are marked as sensitive, so that `Debug` shows no value.
pub(crate) fn fixed_headers(options: &RemoteOptions) -> Result<HeaderMap, OptionsError> {
    let mut headers = HeaderMap::new();
    if let Some(authentication) = &options.authentication {
        headers.insert(AUTHORIZATION, value("authorization", &authorization(authentication))?);
    }
    for (name, secret) in &options.headers {
        let parsed: HeaderName =
            name.parse().map_err(|_| wrong(name, "a name has only letters, digits and dashes"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(wrong(name, "kache sets it itself"));
        }
        headers.insert(parsed, value(name, secret.reveal())?);
    }
    Ok(headers)
}

fn authorization(authentication: &Authentication) -> String {
    match authentication {
        Authentication::Bearer(token) => format!("Bearer {}", token.reveal()),
        Authentication::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
        }
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
