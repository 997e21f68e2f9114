//! Remotes: what one machine has compiled, another one fetches.
//!
//! Two homes stand for two machines: users, caches, daemons and paths differ.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::tree::Tree;

/// The program of the workspace that both machines build.
const PROGRAM: &str = "target/debug/app";

/// A machine that uses this remote. Its directories have another length than those of other machines.
fn machine(name: &str, url: &str, registry: Option<&Home>) -> (Home, Tree) {
    let home = Home::without_daemon().of_user(name).with("KACHE_REMOTE", url);
    let home = match registry {
        Some(other) => home.with_registry_of(other),
        None => home,
    };
    home.start();
    let tree = project::mini(&home, &format!("{name}/ws"));
    (home, tree)
}

/// Waits until everything that a machine has compiled is on its remote.
fn wait_for_uploads(home: &Home) {
    eventually("the end of all uploads", || {
        let status = home.kache(&["daemon", "status", "--json"]).ok_unwatched();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let remotes = status["remotes"].as_array().unwrap().clone();
        !remotes.is_empty() && remotes.iter().all(|remote| remote["uploads_waiting"] == 0)
    });
}

/// Builds on one machine and then on another, and asserts that the second one starts no compiler.
fn from_one_machine_to_another(url: &str) {
    let (first, tree) = machine("first", url, None);
    first.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    wait_for_uploads(&first);
    first.stop();

    let (second, other) = machine("second-with-a-longer-name", url, Some(&first));
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    built.expect_all_hits();
    assert_eq!(other.prints(PROGRAM), PRINTS);
    // What was fetched is in the store: no remote is needed any more.
    let third = project::mini(&second, "third/ws");
    second.cargo(&third, &["build", "--workspace"]).env("KACHE_LOCAL_ONLY", "1").ok().expect_all_hits();
    let program = |tree: &Tree| fs::read(tree.path().join(PROGRAM)).unwrap();
    assert!(program(&tree) == program(&other), "the program has other bytes");
}

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
    from_one_machine_to_another(&format!("file://{}", folder.path().display()));
    assert!(Path::new(folder.path()).join("ac").is_dir());
}

#[test]
fn net_02_a_server_of_actions_brings_results_to_another_machine() {
    let (_server, port) = server();
    from_one_machine_to_another(&format!("grpc://127.0.0.1:{port}"));
}

#[test]
fn net_02_a_server_of_bazels_http_cache_brings_results_to_another_machine() {
    let (_server, port) = server();
    from_one_machine_to_another(&format!("http://127.0.0.1:{port}"));
}

#[test]
fn net_01_a_remote_that_is_down_costs_a_build_nothing_but_a_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("grpc://127.0.0.1:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let (home, tree) = machine("alone", &url, None);
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    let second = project::mini(&home, "second/ws");
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
}
