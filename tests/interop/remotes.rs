//! kache as the client: what it has compiled on one machine, another one fetches from servers of other projects.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bazel_remote::BazelRemote;
use crate::credentials::expect_no_credential;
use crate::machines::{expect_filled, expect_no_secret_on, files_below, fill, from_one_machine_to_another};
use crate::moto::Moto;
use crate::process::Background;
use crate::remotetool::RemoteTool;
use crate::server::free_port;
use crate::tools::skipped_for_peer;
use crate::{buildbarn, buildgrid, casd};

/// A bazel-remote whose files are not compressed, so that tests can read them.
fn bazel_remote(dir: &Path) -> BazelRemote {
    BazelRemote::start(dir, Vec::new(), "uncompressed")
}

fn grpc(server: &BazelRemote) -> String {
    format!("grpc://127.0.0.1:{}", server.grpc_port())
}

fn http(server: &BazelRemote) -> String {
    format!("http://127.0.0.1:{}", server.http_port())
}

/// Writes by one protocol and reads by another.
fn through_bazel_remote(written: fn(&BazelRemote) -> String, read: fn(&BazelRemote) -> String) {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let server = bazel_remote(dir.path());
    from_one_machine_to_another(&written(&server), &read(&server));
}

#[test]
fn net_05_bazel_remote_keeps_results_over_grpc() {
    through_bazel_remote(grpc, grpc);
}

#[test]
fn net_05_bazel_remote_keeps_results_over_http() {
    through_bazel_remote(http, http);
}

#[test]
fn net_05_bazel_remote_returns_over_http_what_was_written_over_grpc() {
    through_bazel_remote(grpc, http);
}

#[test]
fn net_05_bazel_remote_returns_over_grpc_what_was_written_over_http() {
    through_bazel_remote(http, grpc);
}

#[test]
fn net_05_casd_keeps_results() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let port = free_port();
    let _server = casd::serve_on_port(dir.path(), port);
    let url = format!("grpc://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
}

#[test]
fn net_05_casd_keeps_results_through_its_unix_socket() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let socket = dir.path().join("casd.sock");
    let _server = casd::serve_on_socket(dir.path(), &socket);
    let url = format!("unix:{}", socket.display());
    from_one_machine_to_another(&url, &url);
}

/// Builds on two machines with a server that is only known by its port.
fn through(serve: fn(&Path) -> (Background, u16)) {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (_server, port) = serve(dir.path());
    let url = format!("grpc://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
}

#[test]
fn net_05_buildgrid_keeps_results() {
    through(buildgrid::serve);
}

#[test]
fn net_05_buildbarn_keeps_results() {
    through(buildbarn::serve);
}

#[test]
fn net_05_a_bucket_keeps_results_and_bazel_remote_reads_them() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let moto = Moto::start(dir.path());
    let first = fill(moto.remote());
    expect_filled(moto.remote(), &first, "second-with-a-longer-name");
    let server = moto.bazel_remote(&dir.path().join("bazel-remote"));
    expect_filled(&grpc(&server), &first, "third");
}

#[test]
fn net_05_a_bucket_returns_what_bazel_remote_wrote() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let moto = Moto::start(dir.path());
    let server = moto.bazel_remote(&dir.path().join("bazel-remote"));
    let first = fill(&grpc(&server));
    server.wait_for_uploads();
    expect_filled(moto.remote(), &first, "second-with-a-longer-name");
}

#[test]
fn net_06_bazel_remote_gets_no_secret_of_a_compile() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let server = bazel_remote(dir.path());
    expect_no_secret_on(&grpc(&server), &server.disk());
}

#[test]
fn net_05_remotetool_prints_the_actions_that_were_uploaded() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let server = bazel_remote(dir.path());
    fill(&grpc(&server));
    let remote = RemoteTool::new(dir.path(), server.grpc_port(), "");
    let shown: Vec<String> = actions(&server.disk())
        .iter()
        .map(|action| remote.run("show_action", &["-digest", action]))
        .collect();
    // The input root's directories are not uploaded, so what the tool says of them does not matter.
    let is_of_app =
        |shown: &&String| shown.contains("CARGO_BIN_NAME=app\n") && shown.contains(" --crate-name app ");
    let of_app: Vec<&String> = shown.iter().filter(is_of_app).collect();
    let output = |shown: &&&String| shown.contains("\nout/debug/deps/app-") && shown.contains("Exit code: 0");
    // The action, and the query under which its path set lies.
    assert_eq!((of_app.len(), of_app.iter().filter(output).count()), (2, 1), "{shown:#?}");
}

/// The digests of all actions that have a result on a bazel-remote's disk, as remotetool writes digests.
fn actions(disk: &Path) -> Vec<String> {
    let hash = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are plain").to_owned();
        name.split('-').next().unwrap_or_default().to_owned()
    };
    let blobs = files_below(&disk.join("cas.v2"));
    let action = |result: &PathBuf| {
        let hash_of_action = hash(result);
        let blob = blobs.iter().find(|blob| hash(blob) == hash_of_action).expect("the action was uploaded");
        let size = fs::metadata(blob).expect("it is a file").len();
        format!("{hash_of_action}/{size}")
    };
    files_below(&disk.join("ac.v2")).iter().map(action).collect()
}

#[test]
fn net_06_the_secret_key_of_a_bucket_is_nowhere() {
    if skipped_for_peer() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let moto = Moto::start(dir.path());
    let secret = "hunter2/of+a/bucket";
    expect_no_credential(moto.remote_with(secret), &[secret], dir.path());
}
