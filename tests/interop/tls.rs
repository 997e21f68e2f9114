//! TLS with a private authority and client certificates: remotetool, and bazel-remote with kache as its backend.
//! (Debian's Bazel crashes with TLS over gRPC, with any server.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::bazel_remote::BazelRemote;
use crate::remotetool::{RemoteTool, noise};
use crate::server::{Server, Settings};
use crate::tools::skipped_for_peer;

/// Larger than a message may be.
const LARGE_BYTES: usize = 6_000_000;

/// A certificate authority, its certificates, and the directory of all of them.
struct Authority {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can sign itself");
        let authority = Authority { dir: dir.to_owned(), issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Issues a certificate, and writes `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("the names are well-formed");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("the test's directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("the test's directory has a plain name").to_owned()
    }
}

#[test]
fn remotetool_and_bazel_remote_speak_tls_with_client_certificates() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    authority.issue("server");
    authority.issue("client");
    let settings = Settings { tls_dir: Some(dir.path().to_owned()), ..Settings::default() };
    let server = Server::start(&dir.path().join("server"), settings);

    let certified = RemoteTool::over_tls(dir.path(), server.grpc_port(), true);
    let bytes = noise(21, LARGE_BYTES);
    let digest = certified.upload(&bytes);
    assert!(certified.download(&digest) == bytes, "other bytes came back");
    let stranger = RemoteTool::over_tls(dir.path(), server.grpc_port(), false);
    let refused = stranger.try_run("download_blob", &["-digest", &digest, "-path", "nothing"]);
    assert!(!refused.status.success(), "a client without a certificate could read\n{}", refused.output);

    for (protocol, scheme, seed) in [("grpc", "grpcs", 22), ("http", "https", 23)] {
        let flag = |name: &str, value: String| format!("--{protocol}_proxy.{name}={value}");
        let backend = vec![
            flag("url", format!("{scheme}://localhost:{}", server.grpc_port())),
            flag("ca_file", authority.path("ca.pem")),
            flag("cert_file", authority.path("client.pem")),
            flag("key_file", authority.path("client.key")),
        ];
        let mut proxy = BazelRemote::start(&dir.path().join(protocol), backend, "uncompressed");
        let through = RemoteTool::new(dir.path(), proxy.grpc_port(), "");
        let bytes = noise(seed, LARGE_BYTES);
        let digest = through.upload(&bytes);
        proxy.wait_for_uploads();
        proxy.restart_empty();
        assert!(through.download(&digest) == bytes, "{scheme}: other bytes came back");
        assert!(certified.download(&digest) == bytes, "{scheme}: other bytes arrived");
    }
}
