//! Daemons that hang or die, or whose configuration is wrong (DMN-03, DMN-05).

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::home::{Home, Ran, eventually, is_alive, signal};

/// The most that a hung daemon may cost a command: two seconds by design, and more on a slow machine.
const HUNG_COST_MAX: Duration = Duration::from_secs(20);

#[test]
fn dmn_03_a_hung_daemon_is_reported_and_costs_little() {
    let home = Home::new();
    let pid = home.start();
    signal(pid, Signal::SIGSTOP);
    let begun = Instant::now();
    let words = format!("the daemon (pid {pid}) does not answer");
    for command in ["status", "start"] {
        home.run(&["daemon", command]).expect(1, &[&words, "hint: it may be suspended"]);
    }
    assert!(begun.elapsed() < 2 * HUNG_COST_MAX);
    signal(pid, Signal::SIGCONT);
    assert_eq!(home.start(), pid, "it is well again");
}

#[test]
fn dmn_03_a_compile_does_not_need_the_daemon() {
    let home = Home::new();
    let pid = home.start();
    signal(pid, Signal::SIGSTOP);
    let ran = home.run(&["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (7, "out\n", "err\n"));
    signal(pid, Signal::SIGKILL);
    eventually("dying", || !is_alive(pid));
    assert_eq!(home.run(&["/bin/sh", "-c", "exit 7"]).code, 7);
}

#[test]
fn dmn_03_a_missing_compiler_is_reported() {
    let home = Home::new();
    home.run(&["/nonexistent/rustc", "-vV"]).expect(126, &["failed to execute `/nonexistent/rustc`"]);
}

#[test]
fn dmn_03_a_crashed_daemon_is_replaced() {
    let home = Home::new();
    let pid = home.start();
    signal(pid, Signal::SIGKILL);
    eventually("dying", || !is_alive(pid));
    assert!(home.address().control_socket().exists(), "it left its socket");
    home.run(&["daemon", "status"]).expect(3, &[]);
    home.run(&["daemon", "stop"]).expect(0, &["no daemon is running"]);
    assert_ne!(home.start(), pid);
}

#[test]
fn dmn_05_a_hung_daemon_is_not_killed() {
    let home = Home::new();
    let pid = home.start();
    signal(pid, Signal::SIGSTOP);
    for command in ["stop", "restart"] {
        home.run(&["daemon", command]).expect(1, &[&format!("`kill -9 {pid}` ends it")]);
    }
    assert!(is_alive(pid));
}

/// The lock file of a dead daemon may name the process id of an unrelated process.
#[test]
fn dmn_05_a_process_with_a_dead_daemons_process_id_is_not_killed() {
    let home = Home::new();
    home.address().prepare().unwrap();
    let mut innocent = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    fs::write(home.address().daemon_lock(), format!("{}\n", innocent.id())).unwrap();
    home.run(&["daemon", "stop"]).expect(0, &["no daemon is running"]);
    home.run(&["daemon", "restart"]).expect(0, &["daemon started"]);
    home.run(&["daemon", "stop"]).expect(0, &["daemon stopped"]);
    assert!(innocent.try_wait().unwrap().is_none(), "it lives");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn a_daemon_whose_socket_is_removed_ends_so_that_a_new_one_can_start() {
    let home = Home::new();
    let pid = home.start();
    fs::remove_file(home.address().control_socket()).unwrap();
    let next = home.start();
    assert_ne!(next, pid);
    eventually("leaving", || !is_alive(pid));
}

#[test]
fn an_address_that_other_machines_could_reach_is_refused() {
    let home = Home::new().with("KACHE_SERVE_LISTEN", "0.0.0.0:0");
    home.run(&["daemon", "start"])
        .expect(1, &["refusing to listen on `0.0.0.0:0`", "serve.insecure_address"]);
    home.run(&["daemon", "status"]).expect(3, &[]);
    home.run(&["daemon", "run"]).expect(1, &["refusing to listen on `0.0.0.0:0`"]);
    let home = home.with("KACHE_SERVE_ALLOW_INSECURE", "true");
    home.run(&["daemon", "start"]).expect(1, &["refusing to listen on `0.0.0.0:0`"]);
    let home = home.with("KACHE_SERVE_INSECURE_ADDRESS", "0.0.0.0:0");
    home.run(&["daemon", "start"]).expect(0, &["daemon started"]);
    assert!(home.run(&["daemon"]).stdout.contains(" 0.0.0.0:"));
}

#[test]
fn a_port_in_use_is_reported() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new().with("KACHE_SERVE_LISTEN", &address);
    home.run(&["daemon", "start"]).expect(1, &[&format!("failed to listen on `{address}`: ")]);
}

#[test]
fn a_wrong_configuration_is_reported_before_a_daemon_is_started() {
    let home = Home::new().with("KACHE_MAX_SIZE", "20 apples");
    for args in [&["daemon", "start"][..], &["daemon", "status"], &["config", "list"], &["daemon", "run"]] {
        home.run(args).expect(
            5,
            &["KACHE_MAX_SIZE: invalid value for `cache.max_size`: \"20 apples\"\nhint: expected "],
        );
    }
}

#[test]
fn a_client_without_its_engine_says_so() {
    let home = Home::new();
    let alone = home.path().join("kache");
    fs::copy(env!("CARGO_BIN_EXE_kache"), &alone).unwrap();
    let output = home.command(&alone).arg("daemon").output().unwrap();
    Ran::new(output).expect(
        1,
        &["failed to execute `", "kached`", "hint: `kache` and `kached` are installed side by side"],
    );
    // The client still runs compilers.
    assert_eq!(home.command(&alone).args(["/bin/sh", "-c", "exit 3"]).status().unwrap().code(), Some(3));
}
