//! Bazel with credentials, with wrong ones, and with a server that is read-only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::bazel_project::{ACTIONS, Bazel, assert_built_anew, assert_same};
use crate::server::{Server, Settings};
use crate::tools::skipped_for_peer;

/// A user who may write, by Basic authentication over HTTP and gRPC, and one who reads with a token.
fn credentials() -> String {
    let hashed = |secret: &str| format!("{{SHA256}}{}", STANDARD.encode(Sha256::digest(secret)));
    format!("writer:{}:read-write\nbearer reader:{}:read-only\n", hashed("pass word"), hashed("long-token"))
}

#[test]
fn bazel_writes_with_a_password_reads_with_a_token_and_does_neither_without() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { credentials: Some(credentials()), ..Settings::default() };
    let server = Server::start(&dir.path().join("server"), settings);
    let bazel = Bazel::new(&dir.path().join("bazel"));

    let http = format!("--remote_cache={}", server.http_as("writer:pass%20word@", "/team"));
    bazel.build(&[&http]).expect_cold();
    let written = bazel.outputs();
    bazel.clean();
    bazel.build(&[&http]).expect_hits();
    assert_same(&bazel.outputs(), &written);

    let grpc = format!("--remote_cache={}", server.grpc());
    let reader = [&grpc, "--remote_instance_name=team", "--noremote_upload_local_results"];
    bazel.clean();
    let token = "--remote_header=authorization=Bearer long-token";
    bazel.build(&[&reader[..], &[token]].concat()).expect_hits();
    assert_same(&bazel.outputs(), &written);

    // With a wrong password over HTTP, all actions run and nothing is stored.
    bazel.clean();
    let wrong = format!("--remote_cache={}", server.http_as("writer:password@", "/team"));
    bazel.build(&[&wrong]).expect_cold();
    assert_built_anew(&bazel.outputs(), &written);

    // Without a token, gRPC fails at the first call, and Bazel stops.
    let refused = bazel.try_build(&["//..."], &reader);
    assert!(!refused.status.success() && refused.output.contains("UNAUTHENTICATED"), "{}", refused.output);

    bazel.clean();
    let writer = format!("--remote_header=authorization=Basic {}", STANDARD.encode("writer:pass word"));
    bazel.build(&[&grpc, "--remote_instance_name=team", &writer]).expect_hits();
    assert_same(&bazel.outputs(), &written);
}

#[test]
fn bazel_reads_from_a_read_only_server_and_changes_nothing_there() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("server"), Settings::default());
    let bazel = Bazel::new(&dir.path().join("bazel"));
    let grpc = format!("--remote_cache={}", server.grpc());
    let http = format!("--remote_cache={}", server.http(""));
    bazel.build_targets(&["//:large", "//:tree"], &[&grpc]);
    server.restart_with(Settings { read_only: true, ..Settings::default() });

    // Stored actions are hits. The others run in both builds, because nothing is stored.
    for flags in [&[&grpc, "--noremote_upload_local_results"][..], &[&http], &[&http]] {
        bazel.clean();
        let build = bazel.build(flags);
        assert_eq!((build.hits, build.ran), (2, ACTIONS - 2), "hits and runs\n{}", build.output);
    }
}
