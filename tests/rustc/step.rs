//! One program that is run, and what came of it.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use crate::home::Home;
use crate::report::{Call, Calls};

/// A program to run in a home.
pub(crate) struct Step<'a> {
    home: &'a Home,
    command: Command,
    umask: Option<u32>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(home: &'a Home, command: Command) -> Self {
        Step { home, command, umask: None }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    /// The command, for those who start it their own way.
    pub(crate) fn command(mut self) -> Command {
        if let Some(mask) = self.umask {
            use std::os::unix::process::CommandExt as _;
            let set = move || {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
                Ok(())
            };
            // SAFETY: `umask` may be called between fork and exec.
            unsafe { self.command.pre_exec(set) };
        }
        self.command
    }

    /// Starts it; both streams are pipes, as cargo's are.
    pub(crate) fn spawn(self) -> std::process::Child {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn run(self) -> Built {
        let home = self.home;
        let output = self.command().output().unwrap();
        Built::new(output, home.new_calls())
    }

    /// Runs it without asking what wrapper calls did.
    pub(crate) fn run_unwatched(self) -> Built {
        Built::new(self.command().output().unwrap(), Vec::new())
    }

    /// Runs it; it has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> Built {
        let built = self.run();
        assert_eq!(built.code, Some(0), "{built:#?}");
        built
    }

    /// Runs it without asking what wrapper calls did; it has to succeed.
    #[track_caller]
    pub(crate) fn ok_unwatched(self) -> Built {
        let built = self.run_unwatched();
        assert_eq!(built.code, Some(0), "{built:#?}");
        built
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Built {
    /// `None` for a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) calls: Calls,
}

impl Built {
    fn new(output: Output, calls: Vec<Call>) -> Self {
        Built {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            calls: Calls(calls),
        }
    }

    /// Cargo had nothing to do: it said nothing and called nobody (RST-01).
    #[track_caller]
    pub(crate) fn expect_silent(&self) {
        assert!(self.stderr.lines().all(is_quiet), "cargo was not content: {self:#?}");
        assert_eq!(self.calls.0, [], "{self:#?}");
    }

    /// No compiler ran: every compile was a hit.
    #[track_caller]
    pub(crate) fn expect_all_hits(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "nothing was asked for: {self:#?}");
        for call in compiles {
            assert!(call.is_hit() && call.compiler_runs == 0, "{call:?} in {self:#?}");
        }
    }

    /// No compile was a hit.
    #[track_caller]
    pub(crate) fn expect_all_misses(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "nothing was asked for: {self:#?}");
        for call in compiles {
            assert!(call.result == "miss" && call.compiler_runs == 1, "{call:?} in {self:#?}");
        }
    }

    /// What was compiled was compiled once: of two calls that ask for the same, the second is
    /// a hit.
    #[track_caller]
    pub(crate) fn expect_each_compiled_once(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "nothing was asked for: {self:#?}");
        let mut compiled = BTreeSet::new();
        for call in compiles {
            let is_once = match call.compiler_runs {
                0 => call.is_hit(),
                1 => call.result == "miss" && compiled.insert(&call.action),
                _ => false,
            };
            assert!(is_once, "{call:?} in {self:#?}");
        }
    }

    /// The one compile that there was.
    #[track_caller]
    pub(crate) fn only_call(&self) -> &Call {
        let [call] = &self.calls.0[..] else { panic!("not one call: {self:#?}") };
        call
    }
}

/// What cargo says when it has nothing to do; warnings of members are replayed each time.
fn is_quiet(line: &str) -> bool {
    let word = line.trim_start().split(' ').next().unwrap_or_default();
    !matches!(word, "Compiling" | "Checking" | "Documenting" | "Dirty" | "error:")
}
