//! Credentials in the configuration files of AWS's tools.
//!
//! Keys that stand in a profile are found. Profiles that name another source (a role, single sign-on, a
//! program) are not followed, and the error says so. Parsing is pure.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::aws_credentials::{AwsCredentials, AwsEnvironment};
use crate::error::RemoteError;
use crate::options::Secret;

/// How much of a file is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The keys by which a profile names another source of credentials.
const OTHER_SOURCES: &[&str] = &["credential_process", "role_arn", "sso_session", "sso_start_url"];

/// Looks for a profile's keys in both files; `None` if neither has any.
pub(crate) fn load(
    profile: &str,
    environment: AwsEnvironment<'_>,
) -> Result<Option<AwsCredentials>, RemoteError> {
    let mut other_source = None;
    for (path, section) in [
        (path(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile.to_owned()),
        (path(environment, "AWS_CONFIG_FILE", "config"), config_section(profile)),
    ] {
        let Some(text) = path.as_deref().and_then(read) else { continue };
        let values = section_values(&text, &section);
        if let Some(credentials) = credentials(&values) {
            return Ok(Some(credentials));
        }
        other_source =
            other_source.or_else(|| OTHER_SOURCES.iter().find(|source| value(&values, source).is_some()));
    }
    match other_source {
        None => Ok(None),
        Some(source) => Err(RemoteError::refused(format!(
            "the AWS profile `{profile}` has no keys but `{source}`, which kache does not follow; \
             `aws configure export-credentials` prints keys"
        ))),
    }
}

fn path(environment: AwsEnvironment<'_>, variable: &str, name: &str) -> Option<PathBuf> {
    match environment.get(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(Path::new(environment.get("HOME")?).join(".aws").join(name)),
    }
}

fn config_section(profile: &str) -> String {
    if profile == "default" { profile.to_owned() } else { format!("profile {profile}") }
}

/// A file that cannot be read is like one that is not there, as for AWS's tools.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the keys of a section with their values. Lines that are indented belong to the key before them
/// and are left out.
fn section_values<'a>(text: &'a str, section: &str) -> Vec<(&'a str, &'a str)> {
    let mut is_inside = false;
    let mut values = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            is_inside = name.split_whitespace().eq(section.split_whitespace());
        } else if is_inside && !line.starts_with([' ', '\t', '#', ';']) {
            values.extend(line.split_once('=').map(|(key, value)| (key.trim(), value.trim())));
        }
    }
    values
}

fn value<'a>(values: &[(&str, &'a str)], key: &str) -> Option<&'a str> {
    let found = values.iter().rev().find(|(name, _)| *name == key)?;
    Some(found.1).filter(|value| !value.is_empty())
}

fn credentials(values: &[(&str, &str)]) -> Option<AwsCredentials> {
    Some(AwsCredentials {
        access_key: value(values, "aws_access_key_id")?.to_owned(),
        secret_key: Secret::new(value(values, "aws_secret_access_key")?),
        session_token: value(values, "aws_session_token").map(Secret::new),
        expires: None,
    })
}
