//! moto, which behaves as S3 does and keeps its objects in memory, and bazel-remote in front of one of its buckets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use crate::bazel_remote::BazelRemote;
use crate::machines::RemoteSetup;
use crate::process::{Background, command};
use crate::server::{answers, free_port};
use crate::tools::tool;

const BUCKET: &str = "shared";
const PREFIX: &str = "team/artifacts";
const ACCESS_KEY: &str = "a-key";

/// The secret of the access key. bazel-remote has it in its command line.
const SECRET_KEY: &str = "swordfish/swordfish+swordfish";

/// A moto with an empty bucket.
pub(crate) struct Moto {
    port: u16,
    _running: Background,
}

impl Moto {
    pub(crate) fn start(dir: &Path) -> Self {
        let port = free_port();
        let mut command = command(&tool("moto_server"), &dir.join("home"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let running = Background::start(&mut command, &dir.join("moto-output"), || answers(port));
        make_bucket(port);
        Moto { port, _running: running }
    }

    /// The remote of a machine that uses the bucket directly.
    pub(crate) fn remote(&self) -> RemoteSetup {
        self.remote_with(SECRET_KEY)
    }

    /// The same with another secret, because moto believes every signature.
    pub(crate) fn remote_with(&self, secret_key: &str) -> RemoteSetup {
        RemoteSetup::from(format!("s3://{BUCKET}/{PREFIX}").as_str())
            .line(&format!("endpoint = \"http://127.0.0.1:{}\"", self.port))
            .variable("KACHE_S3_ACCESS_KEY", ACCESS_KEY)
            .variable("KACHE_S3_SECRET_KEY", secret_key)
    }

    /// Starts a bazel-remote whose own disk is empty, in front of the bucket.
    pub(crate) fn bazel_remote(&self, dir: &Path) -> BazelRemote {
        let endpoint = format!("127.0.0.1:{}", self.port);
        let flags = [
            "--s3.endpoint",
            &endpoint,
            "--s3.bucket",
            BUCKET,
            "--s3.prefix",
            PREFIX,
            "--s3.disable_ssl",
            "--s3.auth_method",
            "access_key",
            "--s3.access_key_id",
            ACCESS_KEY,
            "--s3.secret_access_key",
            SECRET_KEY,
        ];
        BazelRemote::start(dir, flags.map(str::to_owned).to_vec(), "uncompressed")
    }
}

/// Makes the bucket. moto believes every signature, so the request has one of nobody.
fn make_bucket(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("moto listens");
    let request = format!(
        "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("moto reads requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("moto answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
