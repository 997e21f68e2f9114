//! Bazel over gRPC and HTTP: what Bazel wrote over either protocol is a hit over both, and instance names keep
//! results apart.

use crate::bazel_project::{Bazel, assert_built_anew, assert_same};
use crate::server::{Server, Settings};
use crate::tools::skipped;

#[test]
fn bazel_gets_hits_by_grpc_and_http_for_what_it_wrote_by_grpc() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let bazel = Bazel::new(&dir.path().join("bazel"));
    let grpc = format!("--remote_cache={}", server.grpc());
    let http = format!("--remote_cache={}", server.http(""));

    bazel.build(&[&grpc]).expect_cold();
    let written = bazel.outputs();
    bazel.clean();
    let build = bazel.build(&[&grpc]);
    build.expect_hits();
    assert!(build.output.contains("this is said on stderr"), "{}", build.output);
    assert_same(&bazel.outputs(), &written);
    assert_eq!(bazel.hello(), "42\n");

    bazel.clean();
    bazel.build(&[&http]).expect_hits();
    assert_same(&bazel.outputs(), &written);

    // Bazel only requests the digests of files that it downloads if an option says so.
    bazel.clean();
    bazel.build(&[&grpc, "--remote_verify_downloads"]).expect_hits();
    assert_same(&bazel.outputs(), &written);
}

#[test]
fn bazel_gets_hits_for_what_it_wrote_by_http_in_the_same_instance_only() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let bazel = Bazel::new(&dir.path().join("bazel"));
    let http = format!("--remote_cache={}", server.http("/x/y"));
    let grpc = format!("--remote_cache={}", server.grpc());

    bazel.build(&[&http]).expect_cold();
    let written = bazel.outputs();
    bazel.clean();
    bazel.build(&[&http]).expect_hits();
    assert_same(&bazel.outputs(), &written);

    bazel.clean();
    bazel.build(&[&grpc, "--remote_instance_name=x/y"]).expect_hits();
    assert_same(&bazel.outputs(), &written);

    // Another instance, and that without a name, do not have the results.
    bazel.clean();
    bazel.build(&[&grpc, "--remote_instance_name=x"]).expect_cold();
    let elsewhere = bazel.outputs();
    assert_built_anew(&elsewhere, &written);
    bazel.clean();
    bazel.build(&[&grpc]).expect_cold();

    // Results that they stored since then do not affect the first instance.
    bazel.clean();
    bazel.build(&[&grpc, "--remote_instance_name=x/y"]).expect_hits();
    assert_same(&bazel.outputs(), &written);
    bazel.clean();
    bazel.build(&[&grpc, "--remote_instance_name=x"]).expect_hits();
    assert_same(&bazel.outputs(), &elsewhere);
}
