//! What a remote is opened with. The caller reads settings and makes these values of them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A text that must never be shown: a token, a password, a key. `Debug` and `Display` print three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Returns the text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// Everything that a remote needs to know besides its location.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// The instance name of the Remote Execution API; empty for servers without instances.
    pub instance: String,
    /// Headers that every request carries, such as `x-buildbuddy-api-key`.
    pub headers: Vec<(String, Secret)>,
    /// How the requests prove who sends them, besides client certificates.
    pub authentication: Option<Authentication>,
    /// The certificates for TLS.
    pub tls: TlsOptions,
    /// The time limits of requests.
    pub limits: RemoteLimits,
    /// Whether and how well blobs are compressed on the way, where the remote can.
    pub compression: Compression,
    /// What only S3 needs.
    pub s3: S3Options,
}

/// How requests prove who sends them.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// `Authorization: Bearer …`
    Bearer(Secret),
    /// `Authorization: Basic …`
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// The certificates for TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The file with the certificates that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// The files with the certificate chain and the key by which the remote knows this machine.
    pub identity: Option<TlsIdentity>,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// The file with the certificate chain, in PEM.
    pub cert: PathBuf,
    /// The file with the private key, in PEM. Other users must not be able to read it.
    pub key: PathBuf,
}

/// Whether and how well blobs are compressed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// They are sent as they are.
    None,
    /// zstd with this level, where the remote can.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Compression::Zstd(3)
    }
}

/// The limits of requests to a remote.
#[derive(Clone, Copy, Debug)]
pub struct RemoteLimits {
    /// The time for a connection, TLS included.
    pub connect: Duration,
    /// The time without a byte after which a request fails.
    pub stall: Duration,
    /// The number of requests that are under way at once.
    pub concurrency: usize,
    /// The time after which an unused connection is closed.
    pub idle: Duration,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        RemoteLimits {
            connect: Duration::from_secs(1),
            stall: Duration::from_secs(10),
            concurrency: 16,
            idle: Duration::from_secs(300),
        }
    }
}

/// What only S3 needs. Credentials that are not given are looked for in the profile, and then where the
/// tools of AWS look for them.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// The URL of the service; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    pub region: Option<String>,
    /// The name of a profile in AWS's configuration files.
    pub profile: Option<String>,
    /// The access key with its secret.
    pub access_key: Option<(String, Secret)>,
}
