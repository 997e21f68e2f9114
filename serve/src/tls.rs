//! TLS for a listener: certificate and key from PEM files, and client certificates from a CA.
//!
//! It reads the files, reports clearly what is wrong with them, and reads them again when they
//! change, so that a renewed certificate needs no restart. It knows no protocol above TLS.
//! `auth` decides what a verified certificate grants.
//!
//! Invariant (NET-06): no error or log line holds a byte of a key.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use super::file_version::FileVersion;
use super::validity::validity;

/// The shortest time between two looks at the files.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The largest PEM file that is read; a CA bundle with every public root has 220 KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The paths of the PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CAs that sign client certificates; `None` if clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether the handshake fails without a client certificate. Otherwise the client may still
    /// present other credentials.
    pub client_certificate_required: bool,
}

/// A problem with the TLS files.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
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
    /// The key does not belong to the certificate.
    #[error("the key in `{}` is not the key of the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The path of the certificate.
        certificate: PathBuf,
        /// The path of the key.
        key: PathBuf,
    },
    /// The certificate has expired or is not valid yet.
    #[error("the certificate in `{}` {why}", path.display())]
    Dates {
        /// The path of the file.
        path: PathBuf,
        /// For how long it has been or will be invalid.
        why: String,
    },
}

/// The TLS configuration of a listener, read again when its files change.
pub struct Tls {
    files: TlsFiles,
    current: Mutex<LoadedTls>,
}

struct LoadedTls {
    config: Arc<ServerConfig>,
    versions: Vec<Option<FileVersion>>,
    looked_at: Instant,
}

impl Tls {
    /// Reads the files. Unlike later, any fault is an error.
    pub fn open(files: TlsFiles, now: SystemTime) -> Result<Self, TlsError> {
        let versions = versions(&files);
        let config = Arc::new(load(&files, now)?);
        let current = Mutex::new(LoadedTls { config, versions, looked_at: Instant::now() });
        Ok(Tls { files, current })
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// The configuration for the next connection. Looks at the files first if the last look is
    /// `RECHECK_INTERVAL` ago.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        if current.looked_at.elapsed() >= RECHECK_INTERVAL {
            self.refresh(&mut current, SystemTime::now());
        }
        Arc::clone(&current.config)
    }

    /// Reads changed files. If they cannot be used, the previous ones stay in use: only one of a
    /// renewed pair may have been written yet.
    fn refresh(&self, current: &mut LoadedTls, now: SystemTime) {
        current.looked_at = Instant::now();
        let versions = versions(&self.files);
        if versions == current.versions {
            return;
        }
        match load(&self.files, now) {
            Ok(config) => {
                tracing::info!(certificate = %self.files.certificate.display(), "read the TLS files again");
                current.config = Arc::new(config);
                current.versions = versions;
            }
            Err(error) => {
                tracing::error!(%error, "failed to read the changed TLS files; the previous ones stay in use");
            }
        }
    }
}

fn versions(files: &TlsFiles) -> Vec<Option<FileVersion>> {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let version = |path: &PathBuf| fs::metadata(path).ok().map(|metadata| FileVersion::of(&metadata));
    paths.into_iter().flatten().map(version).collect()
}

fn load(files: &TlsFiles, now: SystemTime) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    check_dates(&files.certificate, &chain[0], now)?;
    let key = private_key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions");
    let builder = match &files.client_ca {
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, files, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| pair_error(files, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn pair_error(files: &TlsFiles, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        rustls::Error::InvalidCertificate(_) => {
            content(&files.certificate, format!("holds a certificate that cannot be used: {error}"))
        }
        _ => content(&files.key, format!("holds a key that cannot be used: {error}")),
    }
}

fn content(path: &Path, why: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), why: why.into() }
}

fn client_verifier(
    path: &Path,
    files: &TlsFiles,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| content(path, format!("holds a CA certificate that cannot be used: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if files.client_certificate_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| content(path, format!("cannot be used as client CA: {error}")))
}

/// Reads a file of at least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|_| content(path, "is not well-formed PEM"))?;
    if chain.is_empty() {
        return Err(content(path, "holds no certificate; a PEM section `CERTIFICATE` is expected"));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    let mode = fs::metadata(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?.mode();
    // Some systems have keys that a group can read (`ssl-cert`), so only other users are checked.
    if mode & 0o007 != 0 {
        return Err(content(
            path,
            format!(
                "is a private key with mode {:04o}, readable by all users: `chmod 600` it",
                mode & 0o7777
            ),
        ));
    }
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        Error::NoItemsFound if is_encrypted(&pem) => content(
            path,
            "holds an encrypted key, and the daemon cannot ask for its passphrase: decrypt it with `openssl pkey`",
        ),
        Error::NoItemsFound => content(path, "holds no key; a PEM section `PRIVATE KEY` is expected"),
        _ => content(path, "is not well-formed PEM"),
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    let words = b"BEGIN ENCRYPTED PRIVATE KEY";
    pem.windows(words.len()).any(|window| window == words)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(content(path, "is larger than `FILE_BYTES_MAX` (4 MiB)"));
    }
    fs::read(path).map_err(failed)
}

fn check_dates(path: &Path, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), TlsError> {
    let Some(dates) = validity(certificate) else {
        return Err(content(path, "holds a certificate whose dates cannot be read"));
    };
    let dated = |why| TlsError::Dates { path: path.to_owned(), why };
    if let Ok(since) = now.duration_since(dates.ends)
        && !since.is_zero()
    {
        return Err(dated(format!("expired {} ago: renew it", in_words(since))));
    }
    match dates.begins.duration_since(now) {
        Ok(until) if !until.is_zero() => {
            Err(dated(format!("is not valid for another {}: check this machine's clock", in_words(until))))
        }
        _ => Ok(()),
    }
}

fn in_words(duration: Duration) -> String {
    const DAY_SECONDS: u64 = 86_400;
    match duration.as_secs() {
        seconds if seconds >= 2 * DAY_SECONDS => format!("{} days", seconds / DAY_SECONDS),
        seconds if seconds >= 7_200 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
#[path = "tests/tls.rs"]
mod tests;
