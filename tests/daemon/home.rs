//! A home directory for one test: a cleared environment, its own store and sockets. The daemon that was started in
//! it ends with it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kache_client::DaemonAddress;

/// How long anything may take. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A home directory with its daemon.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let home = Home { dir, variables: Vec::new() };
        let sockets = home.dir.path().join("s");
        // Ends a daemon that a failing test leaves behind.
        home.with("KACHE_SOCKET_DIR", sockets.to_str().unwrap()).with("KACHE_DAEMON_IDLE_TIMEOUT", "120")
    }

    /// Sets a variable for all programs that are started here.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(set, _)| set != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn socket_dir(&self) -> PathBuf {
        let set = self.variables.iter().find(|(name, _)| name == "KACHE_SOCKET_DIR").unwrap();
        PathBuf::from(&set.1)
    }

    /// The address of this home's daemon.
    pub(crate) fn address(&self) -> DaemonAddress {
        let set = self.variables.iter().find(|(name, _)| name == "KACHE_CACHE_DIR");
        let cache_dir = set.map_or(".cache/kache", |(_, dir)| dir);
        DaemonAddress::new(&self.path().join(cache_dir), Some(&self.socket_dir()))
    }

    /// A command with this home's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path()).env("PATH", "/usr/bin:/bin").current_dir(self.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// The command `kache` with these arguments.
    pub(crate) fn kache(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_kache"));
        command.args(args);
        command
    }

    /// Runs `kache` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.kache(args).output().unwrap())
    }

    /// Starts the daemon, and returns its process id.
    pub(crate) fn start(&self) -> i32 {
        let ran = self.run(&["daemon", "start"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        self.pid().expect("it was started")
    }

    /// The daemon's process id, as it reports it.
    pub(crate) fn pid(&self) -> Option<i32> {
        let status: serde_json::Value =
            serde_json::from_str(&self.run(&["daemon", "status", "--json"]).stdout).ok()?;
        i32::try_from(status["pid"].as_i64()?).ok()
    }
}

impl Drop for Home {
    /// A hung daemon does not react to `stop`, so the daemon, which is this test's own, is killed.
    fn drop(&mut self) {
        let note = fs::read_to_string(self.address().daemon_lock()).unwrap_or_default();
        let pid: Option<i32> = note.lines().next().and_then(|line| line.parse().ok());
        if let Some(pid) = pid.filter(|pid| is_our_daemon(*pid, self.dir.path())) {
            signal(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Whether this process is an engine that was started for this directory.
fn is_our_daemon(pid: i32, dir: &Path) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    command.trim() == "kached" && String::from_utf8_lossy(&environment).contains(&*dir.to_string_lossy())
}

/// The outcome of a program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code and words in standard error.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in {self:?}");
        }
        self
    }
}

/// Waits until `is_true` returns true, and panics with `what` if that takes too long.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Whether the process exists and is not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// All paths below a directory.
pub(crate) fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
