//! The daemon keeps nothing of its caller: no pipe, no terminal, and no ignored signal (DMN-04).

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;

use nix::sys::signal::Signal;

use crate::home::{Home, eventually, is_alive, signal};

/// The signals with names. The C library uses the ones above, and a program that started this test may have left
/// those ignored.
const STANDARD_SIGNALS: u64 = (1 << 31) - 1;

/// The command `sh -c SCRIPT` with `kache` as `$0`.
fn shell(home: &Home, script: &str) -> std::process::Command {
    let mut command = home.command("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_kache")]);
    command
}

#[test]
fn dmn_04_the_daemon_keeps_no_pipe_of_the_caller_open() {
    let home = Home::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // As make's jobserver does it: a descriptor that every child inherits.
    let fd = writer.as_raw_fd();
    let mut start = shell(&home, &format!("exec 9>&{fd}; exec \"$0\" daemon start"));
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    // `output` returns when no process has stdout or stderr open.
    assert!(start.output().unwrap().status.success());
    drop((writer, start));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let pid = home.pid().unwrap();
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
    }
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.to_string_lossy().starts_with("pipe:"), "{}", target.display());
    }
}

#[test]
fn dmn_04_the_daemon_has_its_own_session_and_no_terminal() {
    let home = Home::new();
    let pid = home.start();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The fields after the name in brackets: state, parent, group, session, terminal.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let own = fs::read_to_string("/proc/self/stat").unwrap();
    let own_session = own.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    assert_ne!(fields[3], own_session);
    assert_ne!(fields[3], pid.to_string(), "a leader could be given a terminal again");
    assert_eq!(fields[4], "0");
}

#[test]
fn dmn_04_a_caller_without_open_descriptors_can_start_the_daemon() {
    let home = Home::new();
    let status = shell(&home, "exec \"$0\" daemon start <&- >&- 2>&-").status().unwrap();
    assert!(status.success());
    let pid = home.pid().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    let status = shell(&home, "exec \"$0\" daemon status >&-").status().unwrap();
    assert!(status.code().is_some(), "a closed stdout is no reason to crash");
}

#[test]
fn dmn_04_the_daemon_does_not_ignore_signals_that_the_caller_ignores() {
    let home = Home::new();
    let started = shell(&home, "trap '' TERM INT HUP USR1 CHLD; exec \"$0\" daemon start").status().unwrap();
    assert!(started.success());
    let pid = home.pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & STANDARD_SIGNALS
    };
    // Rust programs ignore SIGPIPE, so that a write returns an error.
    assert_eq!(mask("SigIgn:"), 1 << (Signal::SIGPIPE as u64 - 1));
    assert_eq!(mask("SigBlk:"), 0);
    signal(pid, Signal::SIGTERM);
    eventually("leaving", || !is_alive(pid));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let home = Home::new();
    let ran = shell(&home, "\"$0\" config default | head -n 1").output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
}
