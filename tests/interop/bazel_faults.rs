//! Bazel when what it was promised is in the way of others.

use crate::bazel_project::{Bazel, assert_same};
use crate::probe::Probe;
use crate::server::{Server, Settings};
use crate::tools::skipped_for_peer;

#[test]
fn bazel_downloads_later_what_it_was_promised_whatever_else_wants_the_room() {
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

    // Three times what the server may hold. It may refuse some of it; that is an answer.
    let answers = Probe::connect(server.grpc_port()).fill(192_000_000);
    assert!(answers.stored > 0, "nothing at all could be stored: {answers:?}");

    let build = bazel.build(&[&grpc, "--remote_download_toplevel"]);
    assert_eq!(build.ran, 0, "something promised was gone\n{}", build.output);
    bazel.clean();
    bazel.build(&[&grpc]).expect_hits();
    assert_same(&bazel.outputs(), &written);
}
