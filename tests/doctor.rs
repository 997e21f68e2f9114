//! `kache doctor` end to end: it reports problems with hints, and `--fix` repairs only what is safe to repair.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An empty home with its own sockets.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.0.path().join(rest)
    }

    fn command(&self, args: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kache"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .env("KACHE_SOCKET_DIR", self.path("sockets"))
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn kache(&self, args: &[&str], variables: &[(&str, &str)]) -> (String, i32) {
        let output = self.command(args, variables).output().unwrap();
        let shown =
            String::from_utf8_lossy(&output.stdout).replace(&*self.0.path().to_string_lossy(), "HOME");
        (shown, output.status.code().unwrap())
    }

    fn doctor(&self, args: &[&str], variables: &[(&str, &str)]) -> (String, i32) {
        self.kache(&[&["doctor"], args].concat(), variables)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kache(&["daemon", "stop"], &[]);
    }
}

#[track_caller]
fn assert_line(text: &str, words: &[&str]) {
    let has = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(text.lines().any(has), "no line with {words:?} in:\n{text}");
}

#[test]
fn the_doctor_without_options_changes_nothing() {
    let home = Home::new();
    let (said, code) = home.doctor(&[], &[]);
    assert_line(&said, &["ok", "configuration", "no mistakes found"]);
    assert_line(&said, &["ok", "programs", "kache"]);
    assert_line(&said, &["warning", "toolchain", "failed to run `rustc`"]);
    assert_line(&said, &["warning", "wrapper", "cargo is not configured to call kache"]);
    assert_line(&said, &["note", "daemon", "no daemon is running"]);
    assert_line(&said, &["disk", "are free on the store's volume"]);
    assert_line(&said, &["ok", "clock"]);
    assert_line(&said, &["observer", "kache sees the files and variables that proc macros read"]);
    assert!(said.ends_with("\nno errors, 2 warnings\n"), "{said}");
    assert_eq!(code, 0);
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 0);
}

#[test]
fn the_doctor_warns_of_a_missing_fallback_wrapper() {
    let home = Home::new();
    let (said, code) = home.doctor(&[], &[("KACHE_FALLBACK", "other-wrapper"), ("PATH", "/usr/bin:/bin")]);
    assert_line(&said, &["warning", "`cache.fallback` names `other-wrapper`", "(KACHE_FALLBACK)"]);
    assert_eq!(code, 0, "{said}");
    let (said, _) = home.doctor(&[], &[("KACHE_FALLBACK", "env"), ("PATH", "/usr/bin:/bin")]);
    assert!(!said.contains("cache.fallback"), "{said}");
}

#[test]
fn net_06_remotes_are_named_with_their_problems_and_without_secrets() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/kache")).unwrap();
    let text = "[[remote]]\nurl = \"http://me:hunter2@localhost:1/p\"\naccess = \"read\"\n\
                [[remote]]\nurl = \"grpc://cache.example\"\ntoken = \"hunter2\"\n";
    fs::write(home.path(".config/kache/config.toml"), text).unwrap();
    let (shown, status) = home.doctor(&[], &[]);
    assert_line(&shown, &["ok", "remote", "`http://localhost:1/p`, read only"]);
    assert_line(&shown, &["warning", "remote", "config.toml:4 is not used", "without encryption"]);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(status, home.doctor(&[], &[("KACHE_LOCAL_ONLY", "1")]).1, "a remote is no error of a build");

    let (shown, _) =
        home.doctor(&[], &[("KACHE_REMOTE", "file:///mnt/cache"), ("KACHE_REMOTE_READONLY", "1")]);
    assert_line(&shown, &["ok", "remote", "`file:///mnt/cache`, read only"]);
}

#[test]
fn with_kache_daemon_never_fix_starts_no_daemon() {
    let home = Home::new();
    let (said, code) = home.doctor(&["--fix"], &[("KACHE_DAEMON", "never")]);
    assert_line(&said, &["fixed", "store", "created"]);
    assert_line(&said, &["note", "daemon", "no daemon is running, and compiles may not start one"]);
    assert_eq!(code, 0, "{said}");
    assert!(!home.path("sockets").exists());
}

#[test]
fn sto_07_the_doctor_does_not_wait_for_a_hanging_disk() {
    let home = Home::new();
    let cache = home.path("cache");
    fs::create_dir(&cache).unwrap();
    // Opening a pipe blocks until another process opens it for writing, like a disk that hangs.
    nix::unistd::mkfifo(&cache.join("VERSION"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (said, code) = home.doctor(&["--probe"], &[("KACHE_CACHE_DIR", cache.to_str().unwrap())]);
    assert_line(&said, &["ERROR", "store", "HOME/cache` cannot be read: its disk does not answer"]);
    assert_eq!(code, 6, "{said}");
}

#[test]
fn key_23_compilers_are_observed_for_every_path_of_the_cache() {
    let home = Home::new();
    // `LD_PRELOAD` cannot name a library in a directory with a space, so kache puts the library into another
    // directory.
    for name in ["cache", "a cache"] {
        let cache = home.path(name);
        let (said, _) = home.doctor(&[], &[("KACHE_CACHE_DIR", cache.to_str().unwrap())]);
        assert_line(&said, &["observer", "kache sees the files and variables that proc macros read"]);
    }
}

/// Starts a command under a seccomp filter that refuses Syscall User Dispatch, as some sandboxes do.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn without_dispatch(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    const DISPATCH: u32 = 59;
    // Offsets of the system call's number, and of the lower half of its first argument.
    const NUMBER: u32 = 0;
    const FIRST: u32 = 16;
    let step =
        |code: u32, yes: u8, no: u8, k: u32| libc::sock_filter { code: code as u16, jt: yes, jf: no, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let filter = [
        step(load, 0, 0, NUMBER),
        step(is, 0, 3, libc::SYS_prctl as u32),
        step(load, 0, 0, FIRST),
        step(is, 0, 1, DISPATCH),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: `prctl` may be called between fork and exec; the program and its filter outlive the call.
        let outcome = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn key_23_the_doctor_warns_if_raw_system_calls_cannot_be_observed() {
    let home = Home::new();
    let mut command = home.command(&["doctor"], &[]);
    let output = without_dispatch(&mut command).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_line(&said, &["note", "observer", "except files that a macro"]);
    assert_line(&said, &["hint: declare such files in the package's `kache.toml`: `extra_inputs`"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn mistakes_in_the_configuration_have_their_position() {
    let home = Home::new();
    fs::write(home.path(".kache.toml"), "[cache]\nexlude = []\n").unwrap();
    fs::write(home.path("kache.toml"), "extra_inputs = 1\n").unwrap();
    let (said, code) = home.doctor(&[], &[("KACHE_TYPO", "1"), ("KACHE_DAEMON", "never")]);
    assert_line(&said, &["ERROR", "HOME/.kache.toml:2:1: unknown key `cache.exlude`"]);
    assert_line(&said, &["hint: did you mean `cache.exclude`?"]);
    assert_line(&said, &["ERROR", "HOME/kache.toml:1:16: `extra_inputs` is not a list"]);
    assert_line(&said, &["warning", "unknown variable `KACHE_TYPO`"]);
    assert_line(&said, &["warning", "KACHE_DAEMON=never"]);
    assert!(said.ends_with("\n2 errors, 4 warnings\n"), "{said}");
    assert_eq!(code, 6);
}

#[test]
fn the_wrapper_that_cargo_calls_is_checked() {
    let home = Home::new();
    let client = env!("CARGO_BIN_EXE_kache");
    for (variables, words) in [
        (vec![("RUSTC_WRAPPER", client)], ["ok", "wrapper", "(RUSTC_WRAPPER)"]),
        (vec![("RUSTC_WRAPPER", "")], ["warning", "wrapper", "cargo calls no wrapper"]),
        (vec![("RUSTC_WRAPPER", "/gone/kache")], ["ERROR", "wrapper", "there is no such program"]),
        (vec![("CARGO_BUILD_RUSTC_WRAPPER", "sccache")], ["warning", "wrapper", "`sccache`"]),
    ] {
        assert_line(&home.doctor(&[], &variables).0, &words);
    }
    assert_eq!(home.kache(&["init", "-y"], &[]).1, 0);
    assert_line(&home.doctor(&[], &[]).0, &["ok", "wrapper", "HOME/.cargo/config.toml"]);
}

#[test]
fn dmn_02_a_socket_directory_that_others_can_reach_is_an_error() {
    let home = Home::new();
    fs::create_dir(home.path("sockets")).unwrap();
    fs::set_permissions(home.path("sockets"), fs::Permissions::from_mode(0o777)).unwrap();
    let (said, code) = home.doctor(&["--fix"], &[]);
    assert_line(&said, &["ERROR", "daemon", "HOME/sockets"]);
    assert_line(&said, &["hint: remove the directory, or make it yours"]);
    assert_eq!(code, 6);
    let mode = fs::metadata(home.path("sockets")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777, "a directory that others may have changed is not fixed");
}

#[test]
fn fix_creates_the_directory_and_starts_the_daemon() {
    let home = Home::new();
    let (said, code) = home.doctor(&["--fix"], &[]);
    assert_line(&said, &["fixed", "store", "created the directory `HOME/.cache/kache`"]);
    assert_line(&said, &["fixed", "daemon", "started the daemon"]);
    assert_line(&said, &["ok", "daemon", "answers"]);
    assert_line(&said, &["ok", "store", "is open"]);
    assert_eq!(code, 0, "{said}");
    let (said, _) = home.doctor(&["--fix"], &[]);
    assert!(!said.contains("fixed"), "{said}");
}

#[test]
fn a_cache_directory_that_is_a_file_is_an_error() {
    let home = Home::new();
    fs::write(home.path("file"), "").unwrap();
    let file = home.path("file").display().to_string();
    let (said, code) = home.doctor(&["--fix"], &[("KACHE_CACHE_DIR", &file)]);
    assert_line(&said, &["ERROR", "store", "`HOME/file` is not a directory"]);
    assert_eq!(code, 6);
    home.kache(&["daemon", "stop"], &[("KACHE_CACHE_DIR", &file)]);
}

#[test]
fn sto_07_a_full_disk_is_an_error() {
    let home = Home::new();
    let (said, code) = home.doctor(&[], &[("KACHE_RESERVE", "900TiB")]);
    assert_line(&said, &["ERROR", "disk", "`cache.reserve` keeps 900.0 TiB free"]);
    assert_eq!(code, 6);
}

#[test]
fn dmn_03_a_daemon_that_hangs_is_an_error() {
    let home = Home::new();
    home.doctor(&["--fix"], &[]);
    let (status, _) = home.kache(&["daemon", "status", "--json"], &[]);
    let pid = status.split("\"pid\": ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let (said, code) = home.doctor(&[], &[]);
    signal("-CONT");
    assert_line(&said, &["ERROR", "daemon", &format!("(pid {pid}) does not answer")]);
    assert_line(&said, &["hint:", &format!("`kill -9 {pid}`")]);
    assert_eq!(code, 6);
}
