//! TLS for connections to remotes: trusted certificates, and the certificate of this machine.
//!
//! It reads PEM files and says clearly what is wrong with them. It knows no protocol above TLS: the caller
//! names the protocols that it offers. No error holds a byte of a key.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::options::{OptionsError, TlsIdentity, TlsOptions};

/// The largest PEM file that is read. A file with every public certificate authority has 220 KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Creates the TLS configuration of a client that offers these protocols, such as `h2`, by ALPN.
pub(crate) fn client_config(options: &TlsOptions, alpn: &[&[u8]]) -> Result<ClientConfig, OptionsError> {
    let roots = match &options.ca {
        Some(path) => roots_of_file(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions")
        .with_root_certificates(roots);
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = (certificates(&identity.cert)?, private_key(&identity.key)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| pair_error(identity, &error))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, OptionsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            OptionsError::content(path, format!("holds a certificate that cannot be trusted: {error}"))
        })?;
    }
    Ok(roots)
}

/// Returns the certificates that the system trusts. Single ones that cannot be used are skipped, because
/// every system has some.
fn system_roots() -> Result<RootCertStore, OptionsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _skipped) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    Err(OptionsError::NoSystemRoots { why })
}

fn pair_error(identity: &TlsIdentity, error: &rustls::Error) -> OptionsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            OptionsError::Mismatch { cert: identity.cert.clone(), key: identity.key.clone() }
        }
        rustls::Error::InvalidCertificate(_) => OptionsError::content(
            &identity.cert,
            format!("holds a certificate that cannot be used: {error}; make a new one"),
        ),
        _ => OptionsError::content(
            &identity.key,
            format!("holds a key that cannot be used: {error}; use an ECDSA, Ed25519 or RSA key"),
        ),
    }
}

/// Reads a file of at least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|_| not_well_formed(path))?;
    if chain.is_empty() {
        let why = "holds no certificate; a PEM section `CERTIFICATE` is expected";
        return Err(OptionsError::content(path, why));
    }
    Ok(chain)
}

/// Checks that the files are there and that other users cannot read the key.
pub(crate) fn check(options: &TlsOptions) -> Result<(), OptionsError> {
    let cert = options.identity.as_ref().map(|identity| &identity.cert);
    for path in options.ca.iter().chain(cert) {
        fs::metadata(path).map_err(|source| OptionsError::Read { path: path.clone(), source })?;
    }
    options.identity.as_ref().map_or(Ok(()), |identity| check_mode(&identity.key))
}

fn check_mode(path: &Path) -> Result<(), OptionsError> {
    let metadata =
        fs::metadata(path).map_err(|source| OptionsError::Read { path: path.to_owned(), source })?;
    // Some systems have keys that a group can read (`ssl-cert`), so only other users are checked.
    if metadata.mode() & 0o007 != 0 {
        return Err(OptionsError::ExposedKey { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, OptionsError> {
    let pem = read(path)?;
    check_mode(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        PemError::NoItemsFound if is_encrypted(&pem) => OptionsError::content(
            path,
            "holds an encrypted key, and nobody can be asked for its passphrase: decrypt it with `openssl pkey`",
        ),
        PemError::NoItemsFound => {
            OptionsError::content(path, "holds no key; a PEM section `PRIVATE KEY` is expected")
        }
        _ => not_well_formed(path),
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    let words = b"BEGIN ENCRYPTED PRIVATE KEY";
    pem.windows(words.len()).any(|window| window == words)
}

fn not_well_formed(path: &Path) -> OptionsError {
    OptionsError::content(path, "is not well-formed PEM; write the file again")
}

fn read(path: &Path) -> Result<Vec<u8>, OptionsError> {
    let failed = |source| OptionsError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(OptionsError::content(path, "is larger than 4 MiB; name a file with fewer certificates"));
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
#[path = "tests/tls.rs"]
mod tests;
