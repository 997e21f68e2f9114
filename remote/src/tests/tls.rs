//! Good and bad TLS files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// Writes a file that only its owner may read, and returns its path.
fn write(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Writes a certificate that signs itself, and its key.
fn pair(dir: &tempfile::TempDir, name: &str) -> TlsIdentity {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    TlsIdentity {
        cert: write(dir, &format!("{name}.pem"), &cert.pem()),
        key: write(dir, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn options(ca: &Path, identity: Option<TlsIdentity>) -> TlsOptions {
    TlsOptions { ca: Some(ca.to_owned()), identity }
}

#[test]
fn good_files_and_the_offered_protocols_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let pair = pair(&dir, "client");
    let config = client_config(&options(&pair.cert, Some(pair.clone())), &[b"h2"]).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    assert!(config.client_auth_cert_resolver.has_certs());
    let config = client_config(&options(&pair.cert, None), &[]).unwrap();
    assert!(config.alpn_protocols.is_empty() && !config.client_auth_cert_resolver.has_certs());
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let pair = pair(&dir, "client");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = client_config(&options(&pair.cert, Some(pair.clone())), &[]).unwrap_err();
    assert!(matches!(error, OptionsError::ExposedKey { mode: 0o644, .. }), "{error:?}");
    let command = format!("run `chmod 600 {}`", pair.key.display());
    assert!(error.to_string().contains(&command), "{error}");
}

#[test]
fn unusable_files_are_named_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let good = pair(&dir, "good");
    let other = pair(&dir, "other");
    let nonsense = write(&dir, "nonsense.pem", "hello");
    let cut = write(&dir, "cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = write(&dir, "encrypted.key", text);
    let missing = PathBuf::from("/nonexistent/file.pem");
    let ca = |path: &PathBuf| options(path, None);
    let identity = |cert: &Path, key: &Path| TlsIdentity { cert: cert.to_owned(), key: key.to_owned() };
    let key = |path: &PathBuf| options(&good.cert, Some(identity(&good.cert, path)));
    let cert = |path: &PathBuf| options(&good.cert, Some(identity(path, &good.key)));
    for (options, path, expected) in [
        (ca(&missing), &missing, "failed to read"),
        (ca(&nonsense), &nonsense, "holds no certificate"),
        (ca(&cut), &cut, "not well-formed PEM"),
        (cert(&missing), &missing, "failed to read"),
        (cert(&good.key), &good.key, "holds no certificate"),
        (key(&missing), &missing, "failed to read"),
        (key(&good.cert), &good.cert, "holds no key"),
        (key(&encrypted), &encrypted, "openssl pkey"),
        (key(&other.key), &other.key, "is not the key of the certificate"),
    ] {
        let error = client_config(&options, &[]).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn the_certificates_of_the_system_are_used_or_their_absence_is_explained() {
    match client_config(&TlsOptions::default(), &[]) {
        Ok(_) => {}
        Err(error) => assert!(error.to_string().contains("install them"), "{error}"),
    }
}
