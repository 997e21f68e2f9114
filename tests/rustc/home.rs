//! A home directory for one test: a cleared environment, its own `$CARGO_HOME`, store and sockets, and a daemon
//! that ends with it.
//!
//! Cargo and rustc are the ones that built this test. The file does not know which results a cache should return.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kache_client::control::{reply, request};
use kache_client::{DaemonAddress, DaemonConnection, Intent};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::report::{Call, calls_in};
use crate::step::Step;
use crate::tree::Tree;

/// How long anything may take. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long storing may take. A daemon that was killed never finishes it.
const SETTLING: Duration = Duration::from_secs(10);

/// The wrapper under test.
pub(crate) const KACHE: &str = env!("CARGO_BIN_EXE_kache");

/// A home directory with its cache and daemon.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    /// The directory for worktrees, on the same volume as the store.
    base: PathBuf,
    variables: Vec<(String, String)>,
    calls_seen: Cell<usize>,
}

impl Home {
    /// Starts the daemon, so that no call bypasses the cache because the daemon is starting.
    pub(crate) fn new() -> Self {
        let home = Home::without_daemon();
        home.start();
        home
    }

    /// Two homes: one with a daemon, and one whose calls open the store themselves.
    pub(crate) fn of_both_kinds() -> [Self; 2] {
        [Home::new(), Home::alone()]
    }

    /// A home in which no daemon may run.
    pub(crate) fn alone() -> Self {
        Home::without_daemon().with("KACHE_DAEMON", "never")
    }

    pub(crate) fn without_daemon() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().to_owned();
        Home::at(dir, base)
    }

    /// Puts everything but the sockets on this volume.
    pub(crate) fn on_volume(mountpoint: &Path) -> Self {
        let home = Home::at(tempfile::tempdir().unwrap(), mountpoint.to_owned());
        let home = home.with("KACHE_RESERVE", "0");
        home.start();
        home
    }

    fn at(dir: tempfile::TempDir, base: PathBuf) -> Self {
        let variables = Vec::new();
        let home = Home { dir, base, variables, calls_seen: Cell::new(0) };
        let (sockets, cache) = (home.dir.path().join("s"), home.base.join("cache"));
        home.with("KACHE_SOCKET_DIR", sockets.to_str().unwrap())
            .with("KACHE_CACHE_DIR", cache.to_str().unwrap())
            // Ends a daemon that a failing test leaves behind.
            .with("KACHE_DAEMON_IDLE_TIMEOUT", "120")
            .of_user("user")
    }

    /// Another user of the same daemon: `$HOME` and `$CARGO_HOME` are other directories from now on.
    pub(crate) fn of_user(self, name: &str) -> Self {
        let home = self.base.join(name);
        fs::create_dir_all(home.join("cargo")).unwrap();
        let registry = self.base.join("registry");
        if !registry.exists() {
            crate::registry::write(&registry);
        }
        fs::write(home.join("cargo/config.toml"), crate::registry::cargo_config(&registry)).unwrap();
        let cargo_home = home.join("cargo");
        self.with("HOME", home.to_str().unwrap()).with("CARGO_HOME", cargo_home.to_str().unwrap())
    }

    /// Takes packages from another home's registry. The name of a registry's directory in `$CARGO_HOME` depends
    /// on where the registry lies, as it depends on the address of one in the network.
    pub(crate) fn with_registry_of(self, other: &Home) -> Self {
        let config = crate::registry::cargo_config(&other.base.join("registry"));
        fs::write(self.variable("CARGO_HOME").join("config.toml"), config).unwrap();
        self
    }

    /// Sets a variable for all programs that are started here.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(set, _)| set != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn variable(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.variables.iter().find(|(set, _)| set == name).unwrap().1)
    }

    /// The directory for worktrees and the store.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// An empty directory for a worktree.
    pub(crate) fn tree(&self, name: &str) -> Tree {
        Tree::new(self.base.join(name))
    }

    /// A program in this home's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", toolchain_bin().display());
        command
            .env_clear()
            .env("PATH", path)
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_NET_OFFLINE", "true");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).current_dir(&self.base);
        command
    }

    /// Cargo in a worktree, with kache as its wrapper.
    pub(crate) fn cargo(&self, tree: &Tree, args: &[&str]) -> Step<'_> {
        self.plain_cargo(tree, args).env("RUSTC_WRAPPER", KACHE)
    }

    /// Cargo in a worktree, as if there were no kache.
    pub(crate) fn plain_cargo(&self, tree: &Tree, args: &[&str]) -> Step<'_> {
        let mut command = self.command(toolchain_bin().join("cargo"));
        command.args(args).current_dir(tree.path());
        Step::new(self, command)
    }

    /// `kache rustc …`, as cargo would call it.
    pub(crate) fn rustc(&self, tree: &Tree, args: &[&str]) -> Step<'_> {
        let mut command = self.command(KACHE);
        command.arg(rustc()).args(args).current_dir(tree.path());
        Step::new(self, command)
    }

    /// A command of `kache` itself.
    pub(crate) fn kache(&self, args: &[&str]) -> Step<'_> {
        let mut command = self.command(KACHE);
        command.args(args);
        Step::new(self, command)
    }

    /// The wrapper calls since the last time this was called. Waits until each compile is stored or refused, which
    /// happens after the wrapper has returned.
    pub(crate) fn new_calls(&self) -> Vec<Call> {
        let mut calls = self.calls();
        let deadline = Instant::now() + SETTLING;
        let are_settled = |calls: &[Call]| calls.iter().skip(self.calls_seen.get()).all(Call::is_settled);
        while !are_settled(&calls) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            calls = self.calls();
        }
        let seen = self.calls_seen.replace(calls.len());
        calls.into_iter().skip(seen).collect()
    }

    /// Marks all wrapper calls so far as returned by [`Home::new_calls`], without waiting for stores.
    pub(crate) fn skip_calls(&self) {
        self.calls_seen.set(self.calls().len());
    }

    /// All wrapper calls, the oldest first.
    fn calls(&self) -> Vec<Call> {
        let report = self.command(KACHE).args(["report", "--format", "json"]).output().unwrap();
        assert!(report.status.success(), "{report:?}");
        calls_in(&report.stdout)
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) {
        let output = self.command(KACHE).args(["daemon", "start"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Stops the daemon with `kache daemon stop`.
    pub(crate) fn stop(&self) {
        let output = self.command(KACHE).args(["daemon", "stop"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Whether files of this home can share blocks.
    pub(crate) fn has_reflinks(&self) -> bool {
        let [from, to] = ["from", "to"].map(|name| self.base().join(name));
        fs::write(&from, [1; 5000]).unwrap();
        let cp = Command::new("cp").arg("--reflink=always").args([from, to]).stderr(Stdio::null()).status();
        cp.is_ok_and(|status| status.success())
    }

    /// Prints the log and the misses for a failing test: an unexpected miss is often caused by an earlier call that
    /// was not stored.
    fn tell_of_misses(&self) {
        if let Ok(log) = self.command(KACHE).args(["daemon", "log"]).output() {
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        let report = self.command(KACHE).args(["report", "--format", "json"]).output();
        let Some(report) = report.ok().filter(|report| report.status.success()) else { return };
        let missed = calls_in(&report.stdout).into_iter().filter(|call| !call.is_hit() && call.is_compile());
        for call in missed {
            let settled = if call.is_settled() { "" } else { ", not stored yet" };
            let Call { crate_name, result, why, not_stored, .. } = call;
            eprintln!("{crate_name}: {result} ({why}) {not_stored}{settled}");
        }
    }

    /// Where the daemon of this home listens.
    pub(crate) fn address(&self) -> DaemonAddress {
        DaemonAddress::new(&self.variable("KACHE_CACHE_DIR"), Some(&self.variable("KACHE_SOCKET_DIR")))
    }

    /// Removes the note that a call has waited in vain for the daemon. For half a minute after that the daemon has
    /// only 20 ms to greet, which is not enough on a busy machine, and a call that is not greeted bypasses the cache.
    pub(crate) fn forget_silence(&self) {
        let _ = fs::remove_file(self.address().dir().join("no-answer"));
    }

    /// Waits until the daemon is idle.
    pub(crate) fn until_idle(&self) {
        let address = self.address();
        let soon = || Instant::now() + Duration::from_secs(2);
        eventually("a daemon that has nothing to do", || {
            let Ok(mut connection) = DaemonConnection::open(&address, Intent::Look, soon()) else {
                return false;
            };
            let status = connection.request(request::Kind::Status(request::Status {}), soon());
            matches!(status, Ok(reply::Kind::Status(status)) if status.requests_in_flight == 0)
        });
    }

    /// The daemon's process id, from its lock file.
    pub(crate) fn daemon_pid(&self) -> Option<Pid> {
        let sockets = self.variable("KACHE_SOCKET_DIR");
        let note = fs::read_to_string(self.address().daemon_lock()).ok()?;
        let pid: i32 = note.lines().next()?.parse().ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let is_ours = String::from_utf8_lossy(&environment).contains(sockets.to_str().unwrap());
        is_ours.then_some(Pid::from_raw(pid))
    }

    /// Kills the daemon, as a crash would end it.
    pub(crate) fn kill_daemon(&self) {
        if let Some(pid) = self.daemon_pid() {
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            eventually("the daemon's end", || self.daemon_pid().is_none());
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_of_misses();
        }
        if let Some(pid) = self.daemon_pid() {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            // The daemon's files are removed next.
            eventually("the daemon's end", || self.daemon_pid().is_none());
        }
    }
}

/// The directory of cargo, rustc and the other tools that built this test.
pub(crate) fn toolchain_bin() -> &'static Path {
    Path::new(env!("CARGO")).parent().expect("a program lies in a directory")
}

pub(crate) fn rustc() -> PathBuf {
    toolchain_bin().join("rustc")
}

/// Waits until `is_true` returns true, and panics with `what` if that takes too long.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
