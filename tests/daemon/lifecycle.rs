//! How the daemon starts, runs and ends, and that it inherits nothing from the process that started it (DMN-01).

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::Signal;

use crate::home::{Home, eventually, is_alive, signal, tree};

#[test]
fn the_daemon_starts_responds_and_stops() {
    let home = Home::new();
    home.run(&["daemon", "start"]).expect(0, &["daemon started (pid "]);
    let pid = home.pid().unwrap();
    home.run(&["daemon", "start"]).expect(0, &[&format!("daemon is already running (pid {pid})")]);
    let status = home.run(&["daemon"]).expect(0, &[]);
    assert!(status.stdout.contains(&format!("is running (pid {pid})")), "{status:?}");
    home.run(&["daemon", "stop"]).expect(0, &[&format!("daemon stopped (pid {pid})")]);
    eventually("ending", || !is_alive(pid));
    let status = home.run(&["daemon", "status"]).expect(3, &[]);
    assert!(status.stdout.starts_with("no daemon is running\n"), "{status:?}");
    home.run(&["daemon", "stop"]).expect(0, &["no daemon is running"]);
}

#[test]
fn a_restarted_daemon_uses_the_current_configuration() {
    let home = Home::new();
    let before = home.start();
    fs::create_dir_all(home.path().join(".config/kache")).unwrap();
    fs::write(home.path().join(".config/kache/config.toml"), "cache.max_size = \"3GiB\"\n").unwrap();
    assert!(
        home.run(&["daemon"]).stdout.contains(" of 20.0 GiB"),
        "it was handed its settings when it started"
    );
    home.run(&["daemon", "restart"]).expect(0, &["daemon started (pid "]);
    assert_ne!(home.pid().unwrap(), before);
    assert!(home.run(&["daemon"]).stdout.contains(" of 3.0 GiB"));
}

#[test]
fn a_signal_ends_the_daemon_and_removes_its_sockets() {
    for each in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let home = Home::new();
        let pid = home.start();
        assert!(home.address().control_socket().exists() && home.address().reapi_socket().exists());
        signal(pid, each);
        eventually("leaving", || !is_alive(pid));
        assert!(!home.address().control_socket().exists() && !home.address().reapi_socket().exists());
        let log = home.run(&["daemon", "log"]).expect(0, &[]);
        assert!(
            log.stdout.contains("leaving: it was told to by a signal") && log.stdout.contains("gone"),
            "{log:?}"
        );
    }
}

#[test]
fn an_idle_daemon_ends() {
    let home = Home::new().with("KACHE_DAEMON_IDLE_TIMEOUT", "1");
    let pid = home.start();
    // Status requests do not keep it running (DMN-06).
    eventually("leaving", || {
        home.run(&["daemon", "status"]);
        !is_alive(pid)
    });
}

#[test]
fn dmn_01_the_daemon_inherits_nothing_from_the_process_that_started_it() {
    let home = Home::new();
    let gone = home.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let mut start = home.command("/bin/sh");
    start.args(["-c", "umask 000; exec \"$0\" daemon start", env!("CARGO_BIN_EXE_kache")]);
    let ran = start.current_dir(&gone).env("RUSTFLAGS", "-O").env("KACHE_NONSENSE", "1").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let pid = home.pid().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    for variable in environment.split_terminator('\0') {
        let is_ours = variable.starts_with("KACHE_") && !variable.starts_with("KACHE_NONSENSE");
        assert!(is_ours, "`{variable}` came along");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[test]
fn dmn_01_callers_in_different_directories_use_the_same_daemon() {
    let home = Home::new();
    let (work, other) = (home.path().join("work"), home.path().join("other"));
    fs::create_dir(&work).unwrap();
    fs::create_dir(&other).unwrap();
    let ran = |dir, cache: &str, runtime: &str| {
        let mut command = home.kache(&["daemon", "status", "--json"]);
        let output =
            command.current_dir(dir).env("KACHE_CACHE_DIR", cache).env("XDG_RUNTIME_DIR", runtime).output();
        serde_json::from_slice::<serde_json::Value>(&output.unwrap().stdout).unwrap()["pid"].clone()
    };
    let mut start = home.kache(&["daemon", "start"]);
    assert!(start.current_dir(&work).env("KACHE_CACHE_DIR", "cache").status().unwrap().success());
    let pid = ran(&work, "cache", "/nonexistent");
    assert!(pid.is_number(), "{pid}");
    assert_eq!(ran(&other, "../work/cache", "/tmp"), pid);
    assert_eq!(ran(&other, work.join("cache").to_str().unwrap(), ""), pid);
    assert!(ran(&other, "cache", "").is_null(), "another store has another daemon");
    let mut stop = home.kache(&["daemon", "stop"]);
    assert!(stop.current_dir(&work).env("KACHE_CACHE_DIR", "cache").status().unwrap().success());
}

#[test]
fn dmn_06_status_commands_start_and_change_nothing() {
    let home = Home::new();
    for args in [
        &["daemon"][..],
        &["daemon", "status", "--json"],
        &["config", "list"],
        &["daemon", "log"],
        &["--help"],
    ] {
        home.run(args);
    }
    assert_eq!(tree(&home.path()), [] as [std::path::PathBuf; 0]);
    assert!(!home.socket_dir().exists());

    let pid = home.start();
    let looks = || {
        let files = tree(&home.socket_dir());
        files.iter().map(|path| (path.clone(), fs::metadata(path).unwrap().mtime_nsec())).collect::<Vec<_>>()
    };
    let before = looks();
    home.run(&["daemon"]).expect(0, &[]);
    home.run(&["daemon", "log"]).expect(0, &[]);
    assert_eq!((looks(), home.pid()), (before, Some(pid)));
}

#[test]
fn the_daemon_can_run_in_the_foreground() {
    let home = Home::new().with("KACHE_LOG", "info");
    let mut command = home.kache(&["daemon", "run"]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("listening", || home.pid().is_some());
    assert_eq!(home.pid(), i32::try_from(child.id()).ok(), "the engine takes the client's place");
    signal(home.pid().unwrap(), Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("listening: unix:") && words.contains("gone"), "{words}");
}

#[test]
fn the_sockets_directory_may_have_a_path_of_any_length() {
    let home = Home::new();
    let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let home = home.with("KACHE_SOCKET_DIR", deep.join("s").to_str().unwrap());
    let pid = home.start();
    let status = home.run(&["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let shown = status["listening"][0].as_str().unwrap().strip_prefix("unix:").unwrap();
    assert!(shown.len() < 108, "any program can connect to what is shown: {shown}");
    std::os::unix::net::UnixStream::connect(shown).unwrap();
    assert!(home.address().control_socket().exists(), "the sockets lie where they were meant to");
    home.run(&["daemon", "stop"]).expect(0, &[]);
    eventually("ending", || !is_alive(pid));
    fs::remove_file(std::path::Path::new(shown).parent().unwrap()).unwrap();
}
