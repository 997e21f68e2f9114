//! Signatures of requests to AWS: Signature Version 4, in the header `Authorization`.
//!
//! It signs every header that a request has, and knows no bucket. Requests with a query are not signed,
//! because none is sent. It is pure: the time is an argument. The crates that do this bring two dozen others,
//! one of them with a licence that `deny.toml` does not allow.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use ring::{digest, hmac};

use crate::aws_credentials::AwsCredentials;
use crate::error::RemoteError;
use crate::http_client::Outgoing;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What a signature is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignatureScope<'a> {
    /// The region, such as `us-east-1`.
    pub(crate) region: &'a str,
    /// The time of the request. AWS takes requests that are less than 15 minutes old.
    pub(crate) now: Timestamp,
}

/// Adds the headers that sign a request, `Host` included. `content_sha256` is the hash of its body.
pub(crate) fn sign(
    request: &mut Outgoing,
    content_sha256: &str,
    credentials: &AwsCredentials,
    scope: SignatureScope<'_>,
) -> Result<(), RemoteError> {
    let time = scope.now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let authority = request.uri.authority().map_or("", |authority| authority.as_str()).to_owned();
    insert(&mut request.headers, HOST, &authority)?;
    insert(&mut request.headers, CONTENT_SHA256, content_sha256)?;
    insert(&mut request.headers, DATE, &time)?;
    if let Some(token) = &credentials.session_token {
        insert(&mut request.headers, SECURITY_TOKEN, token.reveal())?;
    }
    let headers = canonical_headers(&request.headers);
    let names = headers.keys().copied().collect::<Vec<_>>().join(";");
    let canonical = canonical_request(request, &headers, &names, content_sha256);
    let (date, region) = (&time[..8], scope.region);
    let credential_scope = format!("{date}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{credential_scope}\n{}", sha256_hex(canonical.as_bytes()));
    let signature = hex(hmac(&signing_key(credentials.secret_key.reveal(), date, region), &text).as_ref());
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{credential_scope},SignedHeaders={names},Signature={signature}",
        credentials.access_key
    );
    insert(&mut request.headers, AUTHORIZATION, &value)
}

/// Returns the SHA-256 of bytes as hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), RemoteError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        RemoteError::refused(format!(
            "the credentials or the region have a character that `{name}` cannot hold"
        ))
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Returns the headers with their values, sorted by name.
fn canonical_headers(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

fn canonical_request(
    request: &Outgoing,
    headers: &BTreeMap<&str, String>,
    names: &str,
    content_sha256: &str,
) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (method, path) = (&request.method, request.uri.path());
    format!("{method}\n{path}\n\n{lines}\n{names}\n{content_sha256}")
}

fn signing_key(secret: &str, date: &str, region: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    let key = hmac::sign(&key, date.as_bytes());
    let key = hmac(&key, region);
    let key = hmac(&key, "s3");
    hmac(&key, "aws4_request")
}

fn hmac(key: &hmac::Tag, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::options::Secret;

    /// Signs a request of AWS's documentation ("Authenticating Requests: Using the Authorization Header").
    fn signature(method: Method, path: &str, headers: &[(&'static str, &str)], content: &[u8]) -> String {
        let uri = format!("https://examplebucket.s3.amazonaws.com{path}").parse().unwrap();
        let mut request = Outgoing { method, uri, headers: HeaderMap::new(), content: None };
        for (name, value) in headers {
            request.headers.insert(*name, value.parse().unwrap());
        }
        let credentials = AwsCredentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            expires: None,
        };
        let scope = SignatureScope { region: "us-east-1", now: "2013-05-24T00:00:00Z".parse().unwrap() };
        sign(&mut request, &sha256_hex(content), &credentials, scope).unwrap();
        request.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        let get = signature(Method::GET, "/test.txt", &[("range", "bytes=0-9")], b"");
        assert_eq!(
            get,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let headers =
            [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let put = signature(Method::PUT, "/test%24file.text", &headers, b"Welcome to Amazon S3.");
        assert!(
            put.ends_with(
                "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
                 Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            ),
            "{put}"
        );
    }
}
