//! bazel-remote with kache as its proxy backend, over gRPC and HTTP. Bazel uses bazel-remote, whose own disk is
//! wiped in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::bazel_project::{Bazel, Outputs, assert_same};
use crate::process::{Background, command};
use crate::server::{Server, Settings, answers, free_port};
use crate::tools::{skipped, tool};

/// How long bazel-remote may take to upload to its backend, which it does after it has responded.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(60);

/// A bazel-remote with a backend.
pub(crate) struct BazelRemote {
    dir: PathBuf,
    backend: Vec<String>,
    mode: &'static str,
    grpc_port: u16,
    http_port: u16,
    running: Option<Background>,
}

impl BazelRemote {
    /// Starts bazel-remote with an empty disk below `dir`. `backend` are the flags that name the backend.
    pub(crate) fn start(dir: &Path, backend: Vec<String>, mode: &'static str) -> Self {
        let (dir, grpc_port, http_port) = (dir.to_owned(), free_port(), free_port());
        let mut proxy = BazelRemote { dir, backend, mode, grpc_port, http_port, running: None };
        proxy.restart_empty();
        proxy
    }

    /// Starts it again with an empty disk.
    pub(crate) fn restart_empty(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            fs::remove_dir_all(self.dir.join("cache")).expect("bazel-remote has made it");
            fs::remove_file(self.output()).expect("bazel-remote has said something");
        }
        fs::create_dir_all(&self.dir).expect("the test's directory is writable");
        let mut command = command(&tool("bazel-remote"), &self.dir.join("home"));
        command
            .arg("--dir")
            .arg(self.dir.join("cache"))
            .args(["--max_size", "1", "--storage_mode", self.mode])
            .args(["--http_address".to_owned(), format!("127.0.0.1:{}", self.http_port)])
            .args(["--grpc_address".to_owned(), format!("127.0.0.1:{}", self.grpc_port)])
            .args(&self.backend);
        let ports = [self.grpc_port, self.http_port];
        let is_ready = || ports.into_iter().all(answers);
        self.running = Some(Background::start(&mut command, &self.output(), is_ready));
    }

    /// The port for its clients.
    pub(crate) fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// The port for HTTP.
    #[cfg(target_os = "linux")]
    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The directory of its disk.
    #[cfg(target_os = "linux")]
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("cache")
    }

    fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.output()).unwrap_or_default()
    }

    /// Waits until it has uploaded everything to its backend.
    pub(crate) fn wait_for_uploads(&self) {
        let end = Instant::now() + UPLOAD_TIME_MAX;
        let (mut said, mut quiet) = (self.said(), 0);
        // bazel-remote does not report when it is done, so the test waits for two seconds without a log line.
        while quiet < 20 {
            assert!(Instant::now() < end, "bazel-remote is still uploading\n{said}");
            thread::sleep(Duration::from_millis(100));
            let now = self.said();
            quiet = if now == said { quiet + 1 } else { 0 };
            said = now;
        }
    }
}

#[test]
fn a_wiped_bazel_remote_gets_everything_from_its_backend() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bazel = Bazel::new(&dir.path().join("bazel"));
    for protocol in ["grpc", "http"] {
        let server = Server::start(&dir.path().join(format!("{protocol}-server")), Settings::default());
        let url = if protocol == "grpc" { server.grpc() } else { server.http("") };
        let backend = vec![format!("--{protocol}_proxy.url"), url];
        let proxy = BazelRemote::start(&dir.path().join(protocol), backend, "uncompressed");
        wipe_and_find(&server, proxy, &bazel, protocol);
    }
}

fn wipe_and_find(server: &Server, mut proxy: BazelRemote, bazel: &Bazel, protocol: &str) {
    let remote = format!("--remote_cache=grpc://127.0.0.1:{}", proxy.grpc_port);

    bazel.clean();
    bazel.build(&[&remote]).expect_cold();
    let written = bazel.outputs();
    proxy.wait_for_uploads();

    proxy.restart_empty();
    bazel.clean();
    bazel.build(&[&remote]).expect_hits();
    assert_same(&bazel.outputs(), &written);
    let said = proxy.said();
    let came = if protocol == "grpc" { "GRPC PROXY GET AC" } else { "HTTP DOWNLOAD 200" };
    assert!(said.contains(came), "the hits did not come from the backend\n{said}");
    expect_whole(server, bazel, &written);
}

/// In this mode bazel-remote uploads its own files: zstd with a skippable frame at the beginning and one frame for
/// each MiB, without `finish_write`. Only another bazel-remote can read them, because the skippable frame contains
/// its private index. Blobs that it uploads must nevertheless be usable by all clients.
#[test]
fn bazel_remote_uploads_compressed_blobs_to_its_backend() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let backend = vec!["--grpc_proxy.url".to_owned(), server.grpc()];
    let proxy = BazelRemote::start(&dir.path().join("proxy"), backend, "zstd");
    let bazel = Bazel::new(&dir.path().join("bazel"));
    let remote = format!("--remote_cache=grpc://127.0.0.1:{}", proxy.grpc_port);

    bazel.build(&[&remote]).expect_cold();
    let written = bazel.outputs();
    proxy.wait_for_uploads();
    expect_whole(&server, &bazel, &written);
}

/// Asserts that blobs which bazel-remote uploaded are complete for clients of kache itself.
fn expect_whole(server: &Server, bazel: &Bazel, written: &Outputs) {
    bazel.clean();
    let direct = format!("--remote_cache={}", server.grpc());
    bazel.build(&[&direct, "--remote_verify_downloads"]).expect_hits();
    assert_same(&bazel.outputs(), written);
}
