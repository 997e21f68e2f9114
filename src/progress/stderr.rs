//! Writes to cargo's own standard error, which is found among the ancestors of the client's process.
//!
//! A pipe or terminal is opened a second time, without blocking. A file is opened only if cargo
//! appends to it; otherwise cargo and the daemon would overwrite each other's lines. Invariant: the
//! standard error of the wrapper itself is never written to (RST-07).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use super::line::line;
use crate::cargo::cargo_above;
use crate::config::ProgressMode;
use crate::events::Event;

/// Returns whether a line is to be printed. It reads no files, so the caller checks it first. `ci` is
/// the value of `CI` in the call's environment.
pub fn is_wanted(progress: ProgressMode, ci: Option<&OsStr>) -> bool {
    match progress {
        ProgressMode::Always => true,
        ProgressMode::Never => false,
        ProgressMode::Auto => ci.is_some_and(|value| !matches!(value.as_bytes(), b"" | b"0" | b"false")),
    }
}

/// Prints the line of a client's call to the standard error of the cargo that started the client, if
/// there is one. With `Auto` nothing is printed to a terminal, where cargo shows its own progress.
pub fn print_for_client(progress: ProgressMode, client_pid: i32, event: &Event) {
    if let Some(stderr) = cargo_stderr(client_pid) {
        write_line(progress, stderr, event);
    }
}

/// Prints the line of a unit that was seeded, for which there was no call, to the standard error of
/// this cargo.
pub fn print_for_cargo(progress: ProgressMode, cargo_pid: i32, event: &Event) {
    if let Some(stderr) = stderr_of(cargo_pid) {
        write_line(progress, stderr, event);
    }
}

fn write_line(progress: ProgressMode, mut stderr: File, event: &Event) {
    let Some(text) = line(event) else { return };
    let is_terminal = stderr.is_terminal();
    if is_terminal && progress != ProgressMode::Always {
        return;
    }
    // The line replaces cargo's progress bar, which cargo draws again.
    let clear = if is_terminal { "\r\u{1b}[K" } else { "" };
    // If the pipe is full, the line is dropped.
    let _ = stderr.write(format!("{clear}{text}\n").as_bytes());
}

fn cargo_stderr(client_pid: i32) -> Option<File> {
    let cargo = cargo_above(client_pid)?;
    let theirs = fs::read_link(fd2(cargo)).ok()?;
    if fs::read_link(fd2(client_pid)).ok()? == theirs {
        return None;
    }
    stderr_of(cargo)
}

fn stderr_of(cargo: i32) -> Option<File> {
    let path = fd2(cargo);
    let kind = fs::metadata(&path).ok()?.file_type();
    if kind.is_file() && !appends(cargo) || kind.is_socket() || kind.is_block_device() {
        return None;
    }
    OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path).ok()
}

fn fd2(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/2"))
}

/// Returns whether this process has opened its standard error for appending.
fn appends(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/2")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & libc::O_APPEND != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, SystemTime};

    /// A script that is named `cargo`, with a child process as its wrapper.
    struct Cargo {
        process: Child,
        wrapper: i32,
    }

    impl Cargo {
        fn start(dir: &Path, stderr: Stdio, wrapper_stderr: &str) -> Self {
            let path = dir.join("cargo");
            // In brackets, because a shell may redirect its own output while it waits.
            let text = format!("#!/bin/sh\n(exec {wrapper_stderr}; sh -c 'echo $PPID'; read line)\n:\n");
            let mut file = File::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
            drop(file);
            let mut process = Command::new(&path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(stderr)
                .spawn()
                .unwrap();
            let mut first = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
            Cargo { process, wrapper: first.trim().parse().unwrap() }
        }

        /// Lets the script end and returns what was written to its standard error, if that is a pipe.
        fn end(mut self) -> String {
            drop(self.process.stdin.take());
            let mut said = String::new();
            if let Some(mut stderr) = self.process.stderr.take() {
                stderr.read_to_string(&mut said).unwrap();
            }
            self.process.wait().unwrap();
            said
        }
    }

    fn hit() -> Event {
        let mut event = Event::new(SystemTime::UNIX_EPOCH, "serde", Outcome::LocalHit);
        event.elapsed = Duration::from_millis(3);
        event
    }

    #[test]
    fn rst_07_the_line_goes_to_cargo_and_not_to_the_wrapper() {
        let dir = tempfile::tempdir().unwrap();
        let cargo = Cargo::start(dir.path(), Stdio::piped(), "2>/dev/null");
        print_for_client(ProgressMode::Auto, cargo.wrapper, &hit());
        assert_eq!(cargo.end(), "kache: hit: serde: 3 ms\n");

        let cargo = Cargo::start(dir.path(), Stdio::piped(), "");
        print_for_client(ProgressMode::Always, cargo.wrapper, &hit());
        assert_eq!(cargo.end(), "", "a stream that both share counts as the wrapper's");
    }

    #[test]
    fn a_file_gets_the_line_only_if_cargo_appends_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (appends, expected) in [(true, "before\nkache: hit: serde: 3 ms\n"), (false, "before\n")] {
            fs::write(&log, "before\n").unwrap();
            let file = OpenOptions::new().write(true).append(appends).open(&log).unwrap();
            let cargo = Cargo::start(dir.path(), file.into(), "2>/dev/null");
            print_for_client(ProgressMode::Auto, cargo.wrapper, &hit());
            cargo.end();
            assert_eq!(fs::read_to_string(&log).unwrap(), expected);
        }
    }

    #[test]
    fn without_a_cargo_nothing_is_written() {
        let own = i32::try_from(std::process::id()).unwrap();
        // These tests may run under a cargo, to whose standard error a test must not write. So only the
        // search for it is tested.
        assert!(cargo_above(own).is_none_or(|pid| pid != own));
        assert_eq!(cargo_above(1), None);
        assert!(cargo_stderr(-1).is_none());
    }

    #[test]
    fn lines_are_printed_in_ci_or_where_the_setting_says_so() {
        for (progress, ci, expected) in [
            (ProgressMode::Auto, None, false),
            (ProgressMode::Auto, Some(""), false),
            (ProgressMode::Auto, Some("false"), false),
            (ProgressMode::Auto, Some("true"), true),
            (ProgressMode::Never, Some("true"), false),
            (ProgressMode::Always, None, true),
        ] {
            assert_eq!(is_wanted(progress, ci.map(OsStr::new)), expected);
        }
    }
}
