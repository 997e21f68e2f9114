//! Bazel when the server is killed in the middle of a transfer, and when blobs that it was promised compete with
//! other uploads for space.

use crate::bazel_project::{ACTIONS, Bazel, assert_same};
use crate::chokepoint::{Chokepoint, Direction};
use crate::probe::Probe;
use crate::server::{Server, Settings};
use crate::tools::{skipped, skipped_for_peer};

/// In the middle of the large output of nine megabytes, after all small files.
const MIDDLE_BYTES: usize = 4_000_000;

#[test]
fn bazel_continues_when_the_server_is_killed_and_gets_hits_when_it_is_back() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bazel = Bazel::new(&dir.path().join("bazel"));
    for protocol in ["grpc", "http"] {
        let server = Server::start(&dir.path().join(protocol), Settings::default());
        kill_during_transfers(&bazel, server, protocol);
    }
}

fn kill_during_transfers(bazel: &Bazel, mut server: Server, protocol: &str) {
    let port = if protocol == "grpc" { server.grpc_port() } else { server.http_port() };
    let chokepoint = Chokepoint::before(port);
    let remote = format!("--remote_cache={protocol}://127.0.0.1:{}", chokepoint.port());

    bazel.clean();
    chokepoint.arm(Direction::Upload, MIDDLE_BYTES, server.killer());
    bazel.build(&[&remote]).expect_cold();
    assert!(chokepoint.has_sprung(), "{protocol}: the server was to be killed during the upload");
    let unsaved = bazel.outputs();

    // Files that had arrived completely may be hits. The large one had not.
    server.restart();
    bazel.clean();
    let build = bazel.build(&[&remote]);
    assert_eq!(build.hits + build.ran, ACTIONS, "{protocol}: hits and runs\n{}", build.output);
    let written = bazel.outputs();
    assert_ne!(written["large.bin"], unsaved["large.bin"], "{protocol}: an incomplete upload was served");
    bazel.clean();
    bazel.build(&[&remote]).expect_hits();
    assert_same(&bazel.outputs(), &written);

    chokepoint.arm(Direction::Download, MIDDLE_BYTES, server.killer());
    bazel.clean();
    let build = bazel.build(&[&remote]);
    assert!(chokepoint.has_sprung(), "{protocol}: the server was to be killed during the download");
    assert!(build.ran > 0, "{protocol}: the large output cannot have come whole\n{}", build.output);

    server.restart();
    bazel.clean();
    bazel.build(&[&remote]).expect_hits();
    assert_same(&bazel.outputs(), &written);
}

#[test]
fn promised_blobs_can_be_downloaded_later_whatever_is_uploaded_meanwhile() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { size_max: Some("64MB"), ..Settings::default() };
    let server = Server::start(&dir.path().join("server"), settings);
    let bazel = Bazel::new(&dir.path().join("bazel"));
    let grpc = format!("--remote_cache={}", server.grpc());
    bazel.build(&[&grpc]).expect_cold();
    let written = bazel.outputs();

    bazel.clean();
    bazel.build(&[&grpc, "--remote_download_minimal"]).expect_hits();
    assert!(!bazel.has("large.bin"), "nothing was to be downloaded yet");

    // Three times as much as the server may store. It may refuse some uploads.
    let answers = Probe::connect(server.grpc_port()).fill(192_000_000);
    assert!(answers.stored > 0, "nothing at all could be stored: {answers:?}");

    let build = bazel.build(&[&grpc, "--remote_download_toplevel"]);
    assert_eq!(build.ran, 0, "a promised blob was evicted\n{}", build.output);
    bazel.clean();
    bazel.build(&[&grpc]).expect_hits();
    assert_same(&bazel.outputs(), &written);
}
