//! What a remote is opened with. The caller reads settings and makes these values of them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why a remote cannot be opened with some options. Each message says what is wrong, where it is, and what
/// the user can do. No message holds a secret.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// The location does not have the form that this kind of remote needs.
    #[error("`{location}` is not the location of a remote: {why}")]
    Location {
        /// The location as the user wrote it, without a password.
        location: String,
        /// The problem, and the expected form.
        why: String,
    },
    /// A header cannot be sent.
    #[error("the header `{name}` cannot be sent: {why}")]
    Header {
        /// The name of the header.
        name: String,
        /// The problem, and what is expected.
        why: &'static str,
    },
    /// A file cannot be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{}` {why}", path.display())]
    Content {
        /// The path of the file.
        path: PathBuf,
        /// The problem, and what is expected.
        why: String,
    },
    /// Other users can read a private key.
    #[error(
        "`{path}` is a private key that every user of this machine can read (mode {mode:04o}): run `chmod 600 {path}`",
        path = path.display()
    )]
    ExposedKey {
        /// The path of the key.
        path: PathBuf,
        /// The mode of the file.
        mode: u32,
    },
    /// The key does not belong to the certificate.
    #[error(
        "the key in `{}` is not the key of the certificate in `{}`: name the two files of one pair",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The path of the certificate.
        cert: PathBuf,
        /// The path of the key.
        key: PathBuf,
    },
    /// This machine has no certificates that it trusts.
    #[error(
        "this system has no certificates that it trusts{why}: install them, or name a file with certificates"
    )]
    NoSystemRoots {
        /// The errors of the system in parentheses; empty if there are none.
        why: String,
    },
}

impl OptionsError {
    /// Creates an error for a file that does not hold what it should.
    pub(crate) fn content(path: &Path, why: impl Into<String>) -> OptionsError {
        OptionsError::Content { path: path.to_owned(), why: why.into() }
    }
}

/// A text that must never be shown: a token, a password, a key. `Debug` and `Display` print three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that is secret from now on.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    /// The version of this program, which servers write in their logs.
    pub version: String,
    /// The instance name of the Remote Execution API; empty for servers without instances.
    pub instance: String,
    /// Headers that every request carries, such as `x-buildbuddy-api-key`.
    pub headers: Vec<(String, Secret)>,
    /// How the requests prove who sends them, besides client certificates.
    pub authentication: Option<Authentication>,
    /// The files with certificates for TLS.
    pub tls: TlsOptions,
    /// The time limits of requests.
    pub limits: RemoteLimits,
    /// Whether and how well blobs are compressed on the way, where the remote can.
    pub compression: Compression,
    /// The size that a folder may have; `None` for no limit. Only folders have one.
    pub size_bytes_max: Option<u64>,
    /// The options that only S3 uses.
    pub s3: S3Options,
}

/// How requests prove who sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Each request has the header `Authorization: Bearer …`.
    Bearer(Secret),
    /// Each request has the header `Authorization: Basic …`.
    Basic {
        /// The name of the user at the remote.
        user: String,
        /// The password of this user.
        password: Secret,
    },
    /// `Authorization: Bearer …` with a token that a program prints.
    Command(TokenCommand),
}

/// A program that prints a token, and nothing else, on its standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCommand {
    /// The program and its arguments. A bare name is searched in the directories of `PATH`.
    pub argv: Vec<String>,
    /// All variables of the program. The caller reads them, because a daemon has another environment than its
    /// users.
    pub environment: Vec<(String, Secret)>,
}

/// The files with certificates for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The file with the certificates that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// The files with the certificate chain and the key by which the remote knows this machine.
    pub identity: Option<TlsIdentity>,
}

/// The certificate by which a remote knows this machine, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteLimits {
    /// The time for a connection, TLS included.
    pub connect: Duration,
    /// The time without a byte after which a request fails.
    pub stall: Duration,
    /// The lowest speed of responses, in bytes a second. A response that is slower uses up the stall limit, which
    /// then begins anew with no byte. 0 means that any speed is enough.
    pub bytes_per_second_min: u64,
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
            bytes_per_second_min: 0,
            concurrency: 16,
            idle: Duration::from_secs(300),
        }
    }
}

/// What only S3 needs. Credentials that are not given are looked for in the profile, and then where the
/// tools of AWS look for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The URL of the service; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    pub region: Option<String>,
    /// The name of a profile in AWS's configuration files.
    pub profile: Option<String>,
    /// The access key with its secret.
    pub access_key: Option<(String, Secret)>,
    /// The variables that AWS's tools read (`HOME`, and those that begin with `AWS_`), for credentials that
    /// are not given. The caller reads them, because a daemon has another environment than its users.
    pub environment: Vec<(String, Secret)>,
}
