//! Cargo's own standard error, found by way of the processes above the client.
//!
//! A pipe or a terminal is opened anew and never waited for; a file only if cargo appends to
//! it, since what is written elsewhere would overwrite what cargo says, or be overwritten.
//! Invariant: the standard error of the wrapper itself is never written to (RST-07).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use super::line::line;
use crate::cargo::cargo_above;
use crate::config::Progress;
use crate::events::Event;

/// Whether a line is to be written at all, before anything is looked up. `ci` is what `CI`
/// says in the call's environment.
pub fn wanted(progress: Progress, ci: Option<&OsStr>) -> bool {
    match progress {
        Progress::Always => true,
        Progress::Never => false,
        Progress::Auto => ci.is_some_and(|value| !matches!(value.as_bytes(), b"" | b"0" | b"false")),
    }
}

/// Writes a call's line to the standard error of the cargo that this client works for, if
/// there is one. `Auto` leaves terminals alone: cargo shows its own progress there.
pub fn tell(progress: Progress, client_pid: i32, event: &Event) {
    if let Some(stderr) = cargo_stderr(client_pid) {
        write_line(progress, stderr, event);
    }
}

/// Writes a line about what no client asked for to the standard error of this cargo.
pub fn tell_cargo(progress: Progress, cargo_pid: i32, event: &Event) {
    if let Some(stderr) = stderr_of(cargo_pid) {
        write_line(progress, stderr, event);
    }
}

fn write_line(progress: Progress, mut stderr: File, event: &Event) {
    let Some(text) = line(event) else { return };
    let is_terminal = stderr.is_terminal();
    if is_terminal && progress != Progress::Always {
        return;
    }
    // Cargo's progress bar stands in the line that is written to; it is drawn again.
    let clear = if is_terminal { "\r\u{1b}[K" } else { "" };
    // A full pipe has no room for a line that nobody needs.
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

/// Whether this process appends to its standard error.
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

    /// A script that is called `cargo`, with a child as its wrapper.
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

        /// Its end, and what was said to a pipe.
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
        tell(Progress::Auto, cargo.wrapper, &hit());
        assert_eq!(cargo.end(), "kache: hit: serde: 3 ms\n");

        let cargo = Cargo::start(dir.path(), Stdio::piped(), "");
        tell(Progress::Always, cargo.wrapper, &hit());
        assert_eq!(cargo.end(), "", "where both are one, it is the wrapper's");
    }

    #[test]
    fn a_log_is_only_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (appends, expected) in [(true, "before\nkache: hit: serde: 3 ms\n"), (false, "before\n")] {
            fs::write(&log, "before\n").unwrap();
            let file = OpenOptions::new().write(true).append(appends).open(&log).unwrap();
            let cargo = Cargo::start(dir.path(), file.into(), "2>/dev/null");
            tell(Progress::Auto, cargo.wrapper, &hit());
            cargo.end();
            assert_eq!(fs::read_to_string(&log).unwrap(), expected);
        }
    }

    #[test]
    fn without_a_cargo_nothing_is_written() {
        let own = i32::try_from(std::process::id()).unwrap();
        // Whoever runs these tests by cargo has one above; its standard error is no business
        // of a test, so only the way there is looked at.
        assert!(cargo_above(own).is_none_or(|pid| pid != own));
        assert_eq!(cargo_above(1), None);
        assert!(cargo_stderr(-1).is_none());
    }

    #[test]
    fn lines_are_wanted_where_people_read_logs() {
        for (progress, ci, expected) in [
            (Progress::Auto, None, false),
            (Progress::Auto, Some(""), false),
            (Progress::Auto, Some("false"), false),
            (Progress::Auto, Some("true"), true),
            (Progress::Never, Some("true"), false),
            (Progress::Always, None, true),
        ] {
            assert_eq!(wanted(progress, ci.map(OsStr::new)), expected);
        }
    }
}
