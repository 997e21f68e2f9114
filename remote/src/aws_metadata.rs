//! Temporary credentials from services of AWS: for a web identity (as on Kubernetes and in GitHub's runners),
//! from the agent of a container, and from the metadata service of a virtual machine.
//!
//! Each function returns `None` if the environment does not say that there is such a service; for virtual
//! machines, if it does not answer.

use std::fs;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use jiff::Timestamp;
use kache_cas::Content;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::aws_credentials::{AwsCredentials, AwsEnvironment};
use crate::error::RemoteError;
use crate::failure::Failure;
use crate::http_client::{HttpClient, Outgoing};
use crate::location::is_loopback;
use crate::options::Secret;
use crate::s3_error::{S3Error, element};

/// How much of a response is read.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

const CONTAINER_ADDRESS: &str = "http://169.254.170.2";
const MACHINE_ADDRESS: &str = "http://169.254.169.254";
/// The addresses of agents of containers. Tokens go nowhere else without TLS.
const AGENT_HOSTS: &[&str] = &["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// What the agents and the metadata service return.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JsonCredentials {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// Exchanges the token of a web identity for credentials.
pub(crate) async fn of_web_identity(
    client: &HttpClient,
    environment: AwsEnvironment<'_>,
    region: &str,
) -> Result<Option<AwsCredentials>, RemoteError> {
    let role = environment.get("AWS_ROLE_ARN");
    let (Some(role), Some(path)) = (role, environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
        return Ok(None);
    };
    let token = fs::read_to_string(path)
        .map_err(|error| RemoteError::refused(format!("failed to read the token in `{path}`: {error}")))?;
    let session = environment.get("AWS_ROLE_SESSION_NAME").unwrap_or("kache");
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
        utf8_percent_encode(role, NON_ALPHANUMERIC),
        utf8_percent_encode(session, NON_ALPHANUMERIC),
        utf8_percent_encode(token.trim(), NON_ALPHANUMERIC),
    );
    let address = format!("https://sts.{region}.amazonaws.com/");
    let address = environment.get("AWS_ENDPOINT_URL_STS").unwrap_or(&address);
    let mut request = outgoing(Method::POST, address)?;
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers.insert(http::header::CONTENT_TYPE, form_type);
    request.content = Some(Content::Memory(Bytes::from(form)));
    let text = ask(client, request, "the token service of AWS").await?;
    of_xml(&text)
        .map(Some)
        .ok_or_else(|| RemoteError::malformed("the token service of AWS sent no credentials"))
}

fn of_xml(text: &str) -> Option<AwsCredentials> {
    Some(AwsCredentials {
        access_key: element(text, "AccessKeyId")?,
        secret_key: Secret::new(element(text, "SecretAccessKey")?),
        session_token: element(text, "SessionToken").map(Secret::new),
        expires: element(text, "Expiration").and_then(|time| time.parse().ok()),
    })
}

/// Asks the agent of a container (ECS, EKS) for the credentials of its role.
pub(crate) async fn of_container(
    client: &HttpClient,
    environment: AwsEnvironment<'_>,
) -> Result<Option<AwsCredentials>, RemoteError> {
    let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let address = match (relative, environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        (Some(path), _) => format!("{CONTAINER_ADDRESS}{path}"),
        (None, Some(address)) => address.to_owned(),
        (None, None) => return Ok(None),
    };
    let mut request = outgoing(Method::GET, &address)?;
    if !is_agent(&request.uri) {
        return Err(RemoteError::refused("the agent for AWS credentials is on another machine, without TLS"));
    }
    if let Some(token) = agent_token(environment)? {
        request.headers.insert(http::header::AUTHORIZATION, secret_value(&token)?);
    }
    let text = ask(client, request, "the agent for AWS credentials").await?;
    of_json(&text).map(Some)
}

fn is_agent(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_agent_host = |known: &&str| known.parse::<IpAddr>().ok() == host.parse().ok();
    uri.scheme_str() == Some("https") || is_loopback(host) || AGENT_HOSTS.iter().any(is_agent_host)
}

fn agent_token(environment: AwsEnvironment<'_>) -> Result<Option<String>, RemoteError> {
    match environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => fs::read_to_string(path)
            .map(Some)
            .map_err(|error| RemoteError::refused(format!("failed to read the token in `{path}`: {error}"))),
        None => Ok(environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned)),
    }
}

/// Asks the metadata service of a virtual machine; `None` if there is none, or it has no credentials.
pub(crate) async fn of_machine(
    client: &HttpClient,
    environment: AwsEnvironment<'_>,
) -> Option<AwsCredentials> {
    if environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let address = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(MACHINE_ADDRESS);
    let address = address.trim_end_matches('/');
    let mut request = outgoing(Method::PUT, &format!("{address}/latest/api/token")).ok()?;
    let lifetime = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    request.headers.insert(lifetime, HeaderValue::from_static("300"));
    let token = ask(client, request, "the metadata service").await.ok()?;
    let read = async |path: &str| {
        let mut request = outgoing(Method::GET, &format!("{address}/latest/meta-data/iam/{path}")).ok()?;
        let name = HeaderName::from_static("x-aws-ec2-metadata-token");
        request.headers.insert(name, secret_value(&token).ok()?);
        ask(client, request, "the metadata service").await.ok()
    };
    let roles = read("security-credentials/").await?;
    let role = roles.lines().next()?.trim();
    of_json(&read(&format!("security-credentials/{role}")).await?).ok()
}

/// The error of the parser is left out, because it may hold a part of the text.
fn of_json(text: &str) -> Result<AwsCredentials, RemoteError> {
    let parsed: JsonCredentials = serde_json::from_str(text)
        .map_err(|_| RemoteError::malformed("the agent for AWS credentials sent something else"))?;
    Ok(AwsCredentials {
        access_key: parsed.access_key_id,
        secret_key: Secret::new(parsed.secret_access_key),
        session_token: parsed.token.map(Secret::new),
        expires: parsed.expiration.and_then(|time| time.parse::<Timestamp>().ok()),
    })
}

fn outgoing(method: Method, address: &str) -> Result<Outgoing, RemoteError> {
    let uri: Uri = address
        .parse()
        .map_err(|_| RemoteError::refused("the address of a service for AWS credentials is no URL"))?;
    if uri.host().is_none() {
        return Err(RemoteError::refused("the address of a service for AWS credentials names no host"));
    }
    Ok(Outgoing { method, uri, headers: HeaderMap::new(), content: None })
}

fn secret_value(text: &str) -> Result<HeaderValue, RemoteError> {
    let value = HeaderValue::from_str(text.trim());
    let mut value =
        value.map_err(|_| RemoteError::refused("a token for AWS credentials holds a line break"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn ask(client: &HttpClient, request: Outgoing, who: &str) -> Result<String, RemoteError> {
    let mut response = client.send(request).await?;
    if response.status != StatusCode::OK {
        let failure = Failure::of(response).await;
        return Err(failure.error_with(&format!("{who}: {}", S3Error::of(&failure).words())));
    }
    let text = response.body.read_at_most(RESPONSE_BYTES_MAX).await?.unwrap_or_default();
    String::from_utf8(text.into()).map_err(|_| RemoteError::malformed(format!("{who} sent no text")))
}
