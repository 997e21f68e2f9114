//! Processes, as the system shows them in `/proc`. On systems without `/proc` no process is found.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::invocation::{Environment, variable};

/// How many processes may lie between a client and its cargo: a shell, a script, another wrapper.
const ANCESTORS_MAX: usize = 8;

/// The name of cargo's processes.
const CARGO: &[u8] = b"cargo";

/// The index of the start time among the fields after the name in `/proc/<pid>/stat`.
const STARTED_AT: usize = 19;

/// A process of cargo. Its start time is part of the identity, because the system gives the process id
/// to another process later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CargoProcess {
    pid: i32,
    started: u64,
}

impl CargoProcess {
    /// Finds the process with this id; `None` if it is not called `cargo`.
    pub fn cargo(pid: i32) -> Option<CargoProcess> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = parse_stat(&text).filter(|stat| stat.name == CARGO)?;
        Some(CargoProcess { pid, started: stat.started })
    }

    /// Returns the process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process has not exited. A zombie has.
    pub fn is_running(&self) -> bool {
        let text = fs::read(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        parse_stat(&text).is_some_and(|stat| stat.started == self.started && stat.state != b"Z")
    }

    /// The command line; the program comes first.
    pub fn arguments(&self) -> Option<Vec<OsString>> {
        let text = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        Some(strings(&text).map(|word| OsString::from_vec(word.to_vec())).collect())
    }

    /// The environment with which the process was started. `None` while the process is being started,
    /// when the system does not show it yet.
    pub fn environment(&self) -> Option<Environment> {
        let text = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        (!text.is_empty()).then(|| strings(&text).map(variable).collect())
    }

    /// Returns the working directory; `None` if the process has ended.
    pub fn directory(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }
}

/// The id of a process's parent.
pub fn parent_of(pid: i32) -> Option<i32> {
    Some(parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?.parent)
}

/// The id of the nearest cargo among the ancestors of a process.
pub fn cargo_above(pid: i32) -> Option<i32> {
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        let parent = parent_of(pid)?;
        if CargoProcess::cargo(parent).is_some() {
            return Some(parent);
        }
        pid = parent;
    }
    None
}

/// Splits a text in which each string ends with a zero byte.
fn strings(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == 0).map(|word| word.strip_suffix(b"\0").unwrap_or(word))
}

#[derive(Debug, PartialEq, Eq)]
struct Stat<'a> {
    name: &'a [u8],
    state: &'a [u8],
    parent: i32,
    started: u64,
}

/// Parses `pid (name) state ppid …`. The name may contain any bytes, also parentheses.
fn parse_stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?.as_bytes();
    let parent = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
    let started = words.nth(STARTED_AT - 2)?.parse().ok()?;
    Some(Stat { name: text.get(open + 1..close)?, state, parent, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_may_have_any_name() {
        let rest = "R 41 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 8675309 1 2 3";
        for name in ["cargo", "a b", ") S 7 (", "R 1 1", "("] {
            let text = format!("9 ({name}) {rest}");
            let stat = parse_stat(text.as_bytes()).unwrap();
            assert_eq!((stat.name, stat.parent, stat.started), (name.as_bytes(), 41, 8_675_309), "{name}");
        }
        for text in ["", "9", "9 (x)", "9 (x) R 0 1", "9 (x) R 4 1", ")("] {
            assert_eq!(parse_stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_running_process_shows_its_arguments_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let cargo = dir.path().join("cargo");
        std::os::unix::fs::symlink("/bin/sleep", &cargo).unwrap();
        let mut child = Command::new(&cargo)
            .arg("600")
            .env_clear()
            .env("A", "1=2")
            .env("B", "")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = CargoProcess::cargo(pid).unwrap();
        // The system shows the process's name before it shows its arguments.
        while process.environment().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(process.arguments().unwrap(), [cargo.into_os_string(), "600".into()]);
        let expected: Environment = [("A", "1=2"), ("B", "")].into_iter().collect();
        assert_eq!(process.environment().unwrap(), expected);
        assert_eq!(process.directory().unwrap(), dir.path().canonicalize().unwrap());
        assert!(process.is_running());
        assert_eq!(parent_of(pid), i32::try_from(std::process::id()).ok());
        let another = CargoProcess { started: process.started + 1, ..process };
        assert!(!another.is_running(), "the id belongs to another process now");
        child.kill().unwrap();
        // Until its parent waits for it, the process is a zombie.
        while process.is_running() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!process.is_running());
        assert_eq!(CargoProcess::cargo(i32::try_from(std::process::id()).unwrap()), None);
    }
}
