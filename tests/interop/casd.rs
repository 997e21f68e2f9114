//! buildbox-casd as a proxy in front of kache: it serves clients, and gets from kache what it does not have.
//!
//! Bazel 4.2.3 does not support casd, which offers the API from 2.1 on. The clients are therefore remotetool and
//! moon.

use std::fs;
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::moon_project::{Moon, assert_same, is_hit};
use crate::process::{Background, command};
use crate::remotetool::{RemoteTool, noise};
use crate::server::{Server, Settings, answers, free_port};
use crate::tools::{skipped, skipped_for_peer, tool};

/// A casd with the instance name `p`. Its remote instance in kache is `behind/it`.
struct Casd {
    dir: PathBuf,
    remote: String,
    port: u16,
    running: Option<Background>,
}

impl Casd {
    fn start(dir: &Path, remote: String) -> Self {
        let mut casd = Casd { dir: dir.to_owned(), remote, port: free_port(), running: None };
        casd.restart_empty();
        casd
    }

    /// Starts it again with an empty cache.
    fn restart_empty(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            fs::remove_dir_all(self.dir.join("cache")).expect("casd has made it");
        }
        let bind = format!("127.0.0.1:{}", self.port);
        let more = ["--remote", &self.remote, "--proxy-instance", "p:behind/it"];
        self.running = Some(start(&self.dir, &bind, &more, || answers(self.port)));
    }
}

/// Starts a casd whose cache is `cache` in a directory.
fn start(dir: &Path, bind: &str, more: &[&str], is_ready: impl Fn() -> bool) -> Background {
    let cache = dir.join("cache");
    fs::create_dir_all(&cache).expect("the test's directory is writable");
    let mut command = command(&tool("buildbox-casd"), &dir.join("home"));
    command.args(["--bind", bind, "--log-level=info"]).args(more).arg(cache);
    Background::start(&mut command, &dir.join("output"), is_ready)
}

/// Starts a casd that keeps everything itself, on a port.
#[cfg(target_os = "linux")]
pub(crate) fn serve_on_port(dir: &Path, port: u16) -> Background {
    start(dir, &format!("127.0.0.1:{port}"), &[], || answers(port))
}

/// Starts a casd that keeps everything itself, on a Unix socket.
#[cfg(target_os = "linux")]
pub(crate) fn serve_on_socket(dir: &Path, socket: &Path) -> Background {
    start(dir, &format!("unix:{}", socket.display()), &[], || UnixStream::connect(socket).is_ok())
}

#[test]
fn an_emptied_casd_gets_blobs_and_results_from_kache() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let remote = format!("http://127.0.0.1:{}", server.grpc_port());
    write_empty_and_read(dir.path(), &server, remote);
}

#[test]
fn casd_connects_to_kaches_unix_socket() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let remote = format!("unix:{}", server.unix_socket().display());
    write_empty_and_read(dir.path(), &server, remote);
}

fn write_empty_and_read(dir: &Path, server: &Server, remote: String) {
    let mut casd = Casd::start(&dir.join("casd"), remote);
    let through = RemoteTool::new(dir, casd.port, "p");
    let blobs = [noise(11, 10), noise(12, 300_000), noise(13, 6_000_000)];
    let digests = blobs.each_ref().map(|bytes| through.upload(bytes));
    let moon = Moon::new(&dir.join("moon"), casd.port, "none", "p");
    assert!(!is_hit(&moon.make()), "a cold run was a hit");
    let written = moon.outputs();

    casd.restart_empty();
    for (digest, bytes) in digests.iter().zip(&blobs) {
        assert!(through.download(digest) == *bytes, "{digest} has other bytes");
    }
    moon.clean();
    let output = moon.make();
    assert!(is_hit(&output), "no hit through casd\n{output}");
    assert_same(&moon.outputs(), &written);

    // Blobs that were uploaded through casd are available from kache itself.
    let direct = RemoteTool::new(dir, server.grpc_port(), "behind/it");
    for (digest, bytes) in digests.iter().zip(&blobs) {
        assert!(direct.download(digest) == *bytes, "{digest} has other bytes without casd");
    }
}
