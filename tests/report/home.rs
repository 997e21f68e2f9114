//! A home directory with a cache, in which the program is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kache::events::{Event, Log};

/// A home directory for one test.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { dir: tempfile::tempdir().unwrap() }
    }

    /// A home whose log has these calls.
    pub(crate) fn with(events: &[Event]) -> Home {
        let home = Home::new();
        let log = Log::open(&home.cache_dir()).unwrap();
        for event in events {
            log.record(event).unwrap();
        }
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kache"))
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .env("COLUMNS", "100")
            .env("KACHE_CACHE_DIR", self.cache_dir())
            .env("KACHE_SOCKET_DIR", self.path().join("sockets"))
            // Ends a daemon that a failing test leaves behind.
            .env("KACHE_DAEMON_IDLE_TIMEOUT", "60")
            .current_dir(self.path())
            .output()
            .unwrap()
    }

    /// Starts a daemon, which runs until the returned value is dropped.
    pub(crate) fn start_daemon(&self) -> Daemon<'_> {
        let started = self.run(&["daemon", "start"]);
        assert!(started.status.success(), "{started:?}");
        Daemon(self)
    }

    /// Runs the program, and returns its output with names for what differs between runs.
    pub(crate) fn page(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&*self.path().to_string_lossy(), "HOME");
            text.lines().map(|line| without_now(line) + "\n").collect::<String>()
        };
        let mut shown = text(&output.stdout);
        if !output.stderr.is_empty() {
            shown.push_str(&format!("--- stderr\n{}", text(&output.stderr)));
        }
        match output.status.code() {
            Some(0) => shown,
            code => format!("{shown}--- exit code {}\n", code.unwrap_or(-1)),
        }
    }
}

/// Stops the daemon of a home on drop.
pub(crate) struct Daemon<'a>(&'a Home);

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.0.run(&["daemon", "stop"]);
    }
}

/// Replaces times and versions, which differ between runs.
fn without_now(line: &str) -> String {
    for key in ["\"generated_at\": ", "\"kache_version\": ", "\"since\": \""] {
        if let Some((before, _)) = line.split_once(key) {
            return format!("{before}{key}…");
        }
    }
    line.to_owned()
}
