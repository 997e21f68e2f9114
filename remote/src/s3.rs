//! The backend for S3: AWS, MinIO, Ceph, R2.
//!
//! Objects lie at `{prefix}/{ac,cas}/{hh}/{hash}`, where `hh` are the first two digits of the hash. A
//! bazel-remote with `--storage_mode uncompressed` and this prefix reads them. The hash of a blob is also the
//! hash that signs its content, so S3 verifies what it stores. A blob that is there already is not replaced.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::{IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use jiff::Timestamp;
use kache_cas::Content;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::aws_credentials::{AwsEnvironment, CredentialSource};
use crate::aws_signature::{SignatureScope, sha256_hex, sign};
use crate::error::RemoteError;
use crate::failure::Failure;
use crate::http_client::{HttpClient, Outgoing};
use crate::http_headers::user_agent;
use crate::location::{Location, S3Location};
use crate::objects::{ObjectKind, ObjectName, ObjectProtocol, ObjectRemote};
use crate::options::{OptionsError, RemoteOptions, S3Options};
use crate::s3_error::S3Error;

const REGION_DEFAULT: &str = "us-east-1";

/// The characters that a key in a signed path escapes.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl ObjectRemote {
    /// Opens a bucket. Nothing is sent yet. Headers, an instance and authentication of the options are for
    /// other kinds of remotes and have no effect.
    pub fn s3(location: &S3Location, options: &RemoteOptions) -> Result<ObjectRemote, OptionsError> {
        let s3 = &options.s3;
        let region = s3.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
        let bucket = bucket_url(location, s3, &region)?;
        // The token service of AWS is only reached by TLS.
        let uses_identity = AwsEnvironment(&s3.environment).get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        let uses_tls = bucket.starts_with("https:") || uses_identity;
        let client = HttpClient::new(uses_tls, &options.tls, &options.limits)?;
        let prefix = utf8_percent_encode(&location.prefix, ESCAPED).to_string();
        let base = if prefix.is_empty() { bucket } else { format!("{bucket}/{prefix}") };
        let protocol = S3Protocol {
            base,
            credentials: CredentialSource::new(s3.clone(), region.clone(), options.limits),
            region,
            user_agent: user_agent(options)?,
            puts_conditionally: AtomicBool::new(true),
        };
        Ok(ObjectRemote::new(client, protocol))
    }
}

/// Checks that the endpoint of an S3 service is a URL that can be used.
pub(crate) fn check(location: &S3Location, options: &RemoteOptions) -> Result<(), OptionsError> {
    bucket_url(location, &options.s3, REGION_DEFAULT).map(drop)
}

#[derive(Debug)]
struct S3Protocol {
    /// The URL before `/ac/` and `/cas/`.
    base: String,
    region: String,
    user_agent: HeaderValue,
    credentials: CredentialSource,
    /// Whether a PUT of a blob says that it must not replace one. Some servers do not know that.
    puts_conditionally: AtomicBool,
}

/// Returns the URL of the bucket, without a slash at the end.
fn bucket_url(location: &S3Location, s3: &S3Options, region: &str) -> Result<String, OptionsError> {
    let bucket = &location.bucket;
    match &s3.endpoint {
        None => Ok(aws_bucket_url(bucket, region)),
        Some(endpoint) => {
            let wrong = |why: String| OptionsError::Location { location: location.to_string(), why };
            match Location::parse(endpoint) {
                Ok((Location::Http(http), None)) => {
                    Ok(format!("{}/{bucket}", without_default_port(&http.to_string())))
                }
                Ok((Location::Http(_), Some(_))) => {
                    Err(wrong("the endpoint takes no user and password: give an access key".into()))
                }
                _ => Err(wrong("the endpoint is not a URL such as `https://s3.example.com:9000`".into())),
            }
        }
    }
}

/// A bucket of AWS has a host of its own, unless its name has a dot, which no certificate covers.
fn aws_bucket_url(bucket: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let is_host = bucket.len() <= 63
        && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_host {
        format!("https://{bucket}.s3.{region}.{domain}")
    } else {
        format!("https://s3.{region}.{domain}/{bucket}")
    }
}

/// The header `Host`, which is signed, does not hold the default port.
fn without_default_port(url: &str) -> String {
    let (scheme, port) = if url.starts_with("https:") { ("https://", ":443") } else { ("http://", ":80") };
    let rest = url.strip_prefix(scheme).unwrap_or(url);
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    format!("{scheme}{}{path}", authority.strip_suffix(port).unwrap_or(authority))
}

#[async_trait]
impl ObjectProtocol for S3Protocol {
    async fn request(
        &self,
        client: &HttpClient,
        method: Method,
        name: ObjectName,
        content: Option<(Content, bool)>,
    ) -> Result<Outgoing, RemoteError> {
        let hash = name.hash.to_hex();
        let uri = format!("{}/{}/{}/{hash}", self.base, name.kind.directory(), &hash[..2]);
        let uri: Uri = uri.parse().map_err(|error| RemoteError::refused(format!("`{uri}`: {error}")))?;
        let mut headers = HeaderMap::new();
        let is_blob_put = method == Method::PUT && name.kind == ObjectKind::Blob;
        let replaces = content.as_ref().is_some_and(|(_, replaces)| *replaces);
        let content = content.map(|(content, _)| content);
        if is_blob_put && !replaces && self.puts_conditionally.load(Ordering::Relaxed) {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let content_sha256 = match &content {
            Some(_) if is_blob_put => hash,
            Some(Content::Memory(bytes)) => sha256_hex(bytes),
            Some(Content::File { .. }) => "UNSIGNED-PAYLOAD".to_owned(),
            None => sha256_hex(b""),
        };
        let mut request = Outgoing { method, uri, headers, content };
        let credentials = self.credentials.get(client).await?;
        let scope = SignatureScope { region: &self.region, now: Timestamp::now() };
        sign(&mut request, &content_sha256, &credentials, scope)?;
        request.headers.insert(USER_AGENT, self.user_agent.clone());
        Ok(request)
    }

    fn follows_redirects(&self) -> bool {
        false
    }

    /// 412 says that a blob is there already.
    fn is_stored(&self, status: StatusCode) -> bool {
        matches!(status.as_u16(), 200 | 201 | 204 | 412)
    }

    fn is_missing(&self, failure: &Failure) -> bool {
        failure.status == StatusCode::NOT_FOUND && S3Error::of(failure).code != "NoSuchBucket"
    }

    /// Nobody logs in to S3, and moto sends the type of a page with every empty response.
    fn is_page(&self, _headers: &HeaderMap) -> bool {
        false
    }

    fn error(&self, failure: &Failure) -> RemoteError {
        let error = S3Error::of(failure);
        if error.code == "ExpiredToken" {
            self.credentials.expire();
        }
        error.error(failure, &self.region)
    }

    /// Servers that do not know conditional requests answer 501.
    fn does_without(&self, failure: &Failure) -> bool {
        failure.status == StatusCode::NOT_IMPLEMENTED
            && self.puts_conditionally.swap(false, Ordering::Relaxed)
    }
}
