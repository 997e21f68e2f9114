//! Where the credentials for AWS come from.
//!
//! The order is: keys that were given, the profile that was named, the variables of AWS's tools, the default
//! profile, a web identity, the agent of a container, and the metadata service of a virtual machine. What was
//! found is kept until shortly before it expires. That nothing was found is kept for a while, too, so that
//! requests on a machine without credentials do not wait for each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::error::RemoteError;
use crate::http_client::HttpClient;
use crate::options::{RemoteLimits, S3Options, Secret};
use crate::{aws_metadata, aws_profile};

/// Credentials are renewed this long before they expire.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_secs(300);

/// How long an error is returned again before the sources are asked again.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(30);

/// The keys with which requests are signed.
#[derive(Clone, Debug)]
pub(crate) struct AwsCredentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: Secret,
    /// The token that belongs to temporary keys.
    pub(crate) session_token: Option<Secret>,
    /// When temporary keys expire.
    pub(crate) expires: Option<Timestamp>,
}

/// The variables that AWS's tools read. The values are secrets, because some of them are keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AwsEnvironment<'a>(pub(crate) &'a [(String, Secret)]);

impl<'a> AwsEnvironment<'a> {
    /// Returns the value of a variable; `None` if it is not set or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(key, _)| key == name)?;
        Some(found.1.reveal()).filter(|value| !value.is_empty())
    }
}

/// Finds credentials and keeps them.
#[derive(Debug)]
pub(crate) struct CredentialSource {
    options: S3Options,
    region: String,
    limits: RemoteLimits,
    kept: Mutex<Option<Kept>>,
    /// Whether the service has refused the kept credentials as expired.
    is_expired: AtomicBool,
}

#[derive(Debug)]
struct Kept {
    outcome: Result<AwsCredentials, RemoteError>,
    at: Instant,
}

impl CredentialSource {
    /// Creates a source. Nothing is asked yet.
    pub(crate) fn new(options: S3Options, region: String, limits: RemoteLimits) -> CredentialSource {
        let is_expired = AtomicBool::new(false);
        CredentialSource { options, region, limits, kept: Mutex::default(), is_expired }
    }

    /// Returns credentials, and looks for them if none are kept. Requests at the same time wait for one search.
    pub(crate) async fn get(&self, client: &HttpClient) -> Result<AwsCredentials, RemoteError> {
        let mut kept = self.kept.lock().await;
        let is_expired = self.is_expired.swap(false, Ordering::Relaxed);
        if let Some(kept) = kept.as_ref().filter(|kept| !is_expired && kept.is_usable()) {
            return kept.outcome.clone();
        }
        let outcome = self.find(client).await;
        *kept = Some(Kept { outcome: outcome.clone(), at: Instant::now() });
        outcome
    }

    /// Makes the next request look for credentials again.
    pub(crate) fn expire(&self) {
        self.is_expired.store(true, Ordering::Relaxed);
    }

    async fn find(&self, client: &HttpClient) -> Result<AwsCredentials, RemoteError> {
        if let Some((access_key, secret_key)) = self.options.access_key.clone() {
            return Ok(AwsCredentials { access_key, secret_key, session_token: None, expires: None });
        }
        if let Some(profile) = self.options.profile.clone() {
            let found = self.load_profile(profile.clone()).await?;
            return found.ok_or_else(|| {
                RemoteError::refused(format!(
                    "the files of AWS's tools have no keys for the profile `{profile}`"
                ))
            });
        }
        let environment = AwsEnvironment(&self.options.environment);
        if let Some(found) = of_variables(environment) {
            return Ok(found);
        }
        let profile = environment.get("AWS_PROFILE").unwrap_or("default").to_owned();
        if let Some(found) = self.load_profile(profile).await? {
            return Ok(found);
        }
        if let Some(found) = aws_metadata::of_web_identity(client, environment, &self.region).await? {
            return Ok(found);
        }
        if let Some(found) = aws_metadata::of_container(client, environment).await? {
            return Ok(found);
        }
        // Most machines have no metadata service, and no answer at its address either.
        match timeout(self.limits.connect, aws_metadata::of_machine(client, environment)).await {
            Ok(Some(found)) => Ok(found),
            _ => Err(RemoteError::refused(
                "no AWS credentials were found: no given keys, no `AWS_ACCESS_KEY_ID`, no profile with keys, \
                 and no service of AWS that has some",
            )),
        }
    }

    async fn load_profile(&self, profile: String) -> Result<Option<AwsCredentials>, RemoteError> {
        let variables = self.options.environment.clone();
        let loading =
            tokio::task::spawn_blocking(move || aws_profile::load(&profile, AwsEnvironment(&variables)));
        loading.await.map_err(|error| RemoteError::local(error.to_string()))?
    }
}

impl Kept {
    fn is_usable(&self) -> bool {
        match &self.outcome {
            Ok(credentials) => {
                let is_fresh = |expires: Timestamp| expires.duration_since(Timestamp::now()) > RENEWED_BEFORE;
                credentials.expires.is_none_or(is_fresh)
            }
            Err(_) => self.at.elapsed() < FAILURE_AGE_MAX,
        }
    }
}

fn of_variables(environment: AwsEnvironment<'_>) -> Option<AwsCredentials> {
    Some(AwsCredentials {
        access_key: environment.get("AWS_ACCESS_KEY_ID")?.to_owned(),
        secret_key: Secret::new(environment.get("AWS_SECRET_ACCESS_KEY")?),
        session_token: environment.get("AWS_SESSION_TOKEN").map(Secret::new),
        expires: None,
    })
}
