//! Whole builds with a server that examines every request.

use crate::machines::{
    RemoteSetup, expect_filled, expect_same_outputs, fill, from_one_machine_to_another, machine,
    wait_for_uploads,
};
use crate::project;
use crate::recording_server::{Kind, RecordingServer};

/// Builds on two machines, with a server whose batches have this limit.
fn expect_good_requests(kind: Kind) {
    let header = kind.header;
    let server = RecordingServer::start(kind);
    let mut remote = RemoteSetup::from(&server.url());
    if let Some((name, value)) = header {
        remote = remote.line(&format!("headers = {{ {name} = \"{value}\" }}"));
    }
    from_one_machine_to_another(remote.clone(), remote);
    let recording = server.recording();
    recording.expect_no_complaint();
    let [in_batches, in_streams, results] = recording.writes();
    assert!(in_batches > 20 && in_streams > 0 && results > 20, "{:?}", recording.writes());
}

#[test]
fn net_05_every_request_of_a_build_is_in_order_and_form() {
    expect_good_requests(Kind::default());
}

#[test]
fn net_05_every_request_fits_into_the_batches_that_a_server_takes() {
    expect_good_requests(Kind { batch_bytes_max: 65_536, ..Kind::default() });
}

#[test]
fn net_05_every_request_names_blake3_where_the_server_has_it_and_carries_its_header() {
    let header = Some(("x-buildbuddy-api-key", "a-key-of-the-team"));
    expect_good_requests(Kind { has_blake3: true, header, ..Kind::default() });
}

/// Builds and then tries to upload everything. Returns how many requests, and how many writes, the server got.
fn requests_of(kind: Kind, line: &str, variable: Option<&'static str>) -> (usize, usize) {
    let server = RecordingServer::start(kind);
    let mut remote = RemoteSetup::from(&server.url()).line(line);
    if let Some(name) = variable {
        remote = remote.variable(name, "1");
    }
    let home = machine("first", remote, None);
    let tree = project::mini(&home, "ws");
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    // Its exit code says whether something waited, which differs; when it ends, nothing is under way.
    home.kache(&["sync", "--push"]).run_unwatched();
    home.stop();
    let recording = server.recording();
    recording.expect_no_complaint();
    (recording.requests(), recording.writes().iter().sum())
}

#[test]
fn net_06_what_may_not_be_written_is_not_written() {
    let no_results = Kind { takes_no_results: true, ..Kind::default() };
    for (kind, line, variable) in [
        (Kind::default(), "access = \"read\"", None),
        (Kind::default(), "", Some("KACHE_REMOTE_READONLY")),
        (no_results, "", None),
    ] {
        let (requests, writes) = requests_of(kind, line, variable);
        assert!(requests > 10 && writes == 0, "`{line}`, {variable:?}: {requests} requests, {writes} writes");
    }
    assert_eq!(requests_of(Kind::default(), "", Some("KACHE_LOCAL_ONLY")), (0, 0));
}

/// A server that has forgotten something is repaired by the next build, and the build after that has only hits.
fn expect_repair(forget: fn(&RecordingServer)) {
    let server = RecordingServer::start(Kind::default());
    let first = fill(&server.url());
    forget(&server);
    let second = machine("second-with-a-longer-name", &server.url(), Some(&first.0));
    let tree = project::mini(&second, "second/ws");
    let built = second.cargo(&tree, &["build", "--workspace"]).ok();
    assert!(!built.calls.crates("miss").is_empty(), "nothing was lost: {built:#?}");
    expect_same_outputs(&first.1, &tree);
    wait_for_uploads(&second);
    expect_filled(&server.url(), &first, "third");
    server.recording().expect_no_complaint();
}

#[test]
fn net_05_a_server_that_has_forgotten_half_of_its_blobs_is_repaired() {
    expect_repair(|server| server.recording().forget_half_of_the_blobs());
}

#[test]
fn net_05_a_server_that_has_forgotten_half_of_its_results_is_repaired() {
    expect_repair(|server| server.recording().forget_half_of_the_results());
}
