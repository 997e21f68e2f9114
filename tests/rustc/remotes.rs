//! Remotes: what one machine has compiled, another one fetches.
//!
//! Two homes stand for two machines: users, caches, daemons and paths differ.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::thread;

use crate::home::{Home, eventually};
use crate::machines::{
    expect_filled, expect_no_secret_on, expect_same_program, files_below, fill, from_one_machine_to_another,
    machine, machine_with, wait_for_uploads,
};
use crate::project;
use crate::unit::Unit;

/// A daemon that serves others, with its port.
fn server() -> (Home, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let home = Home::without_daemon().with("KACHE_SERVE_LISTEN", &format!("127.0.0.1:{port}"));
    home.start();
    eventually("the port's listener", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (home, port)
}

#[test]
fn net_02_a_shared_folder_brings_results_to_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    from_one_machine_to_another(&url, &url);
    assert!(folder.path().join("ac").is_dir());
}

#[test]
fn net_02_a_server_of_actions_brings_results_to_another_machine() {
    let (_server, port) = server();
    let url = format!("grpc://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
}

#[test]
fn net_02_a_server_of_bazels_http_cache_brings_results_to_another_machine() {
    let (_server, port) = server();
    let url = format!("http://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
}

#[test]
fn net_01_a_remote_that_is_down_costs_a_build_nothing_but_a_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("grpc://127.0.0.1:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let home = Home::without_daemon().with("KACHE_REMOTE", &url);
    home.start();
    let tree = project::mini(&home, "ws");
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    let second = project::mini(&home, "second/ws");
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
}

/// The URL of a folder.
fn url_of(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

#[test]
fn net_02_a_blob_with_other_bytes_of_the_same_length_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let (first, tree) = fill(&url);
    for path in files_below(&folder.path().join("cas")) {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let second = machine("second-with-a-longer-name", &url, Some(&first));
    let other = project::mini(&second, "second/ws");
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    built.expect_each_compiled_once();
    assert_eq!(built.calls.crates("remote_hit"), [""; 0]);
    expect_same_program(&tree, &other);
}

#[test]
fn net_05_blobs_that_a_remote_has_lost_are_compiled_and_uploaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let first = fill(&url);
    for path in files_below(&folder.path().join("cas")).iter().step_by(2) {
        fs::remove_file(path).unwrap();
    }
    let second = machine("second-with-a-longer-name", &url, Some(&first.0));
    let other = project::mini(&second, "second/ws");
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    assert!(!built.calls.crates("miss").is_empty(), "nothing was lost: {built:#?}");
    expect_same_program(&first.1, &other);
    wait_for_uploads(&second);
    expect_filled(&url, &first, "third");
}

#[test]
fn net_05_a_remote_that_is_only_written_to_gets_results() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let first = machine_with("first", &format!("url = \"{url}\"\naccess = \"write\""), None);
    let tree = project::mini(&first, "ws");
    first.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    wait_for_uploads(&first);
    expect_filled(&url, &(first, tree), "second-with-a-longer-name");
}

#[test]
fn net_06_a_shared_folder_holds_no_secret_of_a_compile() {
    let folder = tempfile::tempdir().unwrap();
    expect_no_secret_on(&url_of(folder.path()), folder.path());
}

/// Compiles a program once for each state of one of its files. Returns the results of the calls.
fn compile_states(home: &Home, states: Range<u32>) -> Vec<String> {
    let tree = home.tree("ws");
    tree.write("src/states.rs", "mod state; fn main() { println!(\"{}\", state::STATE) }");
    let unit = Unit::bin(home, &tree, "states");
    let compile = |state: u32| {
        tree.write("src/state.rs", format!("pub const STATE: u32 = {state};"));
        let result = unit.kache().ok().only_call().result.clone();
        assert_eq!(tree.prints(unit.output("").to_str().unwrap()), state.to_string());
        result
    };
    states.map(compile).collect()
}

#[test]
fn net_03_twenty_states_of_a_file_from_two_machines_at_once_are_all_found() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let fill = |name: &'static str, states: Range<u32>| {
        let home = machine(name, &url, None);
        thread::spawn(move || {
            assert_eq!(compile_states(&home, states), ["miss"; 10]);
            wait_for_uploads(&home);
        })
    };
    let both = [fill("first", 100..110), fill("second-with-a-longer-name", 110..120)];
    both.into_iter().for_each(|filling| filling.join().unwrap());
    for name in ["third", "fourth-machine"] {
        let home = machine(name, &url, None);
        assert_eq!(compile_states(&home, 100..120), ["remote_hit"; 20]);
    }
}
