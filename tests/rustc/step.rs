//! A program that is run, and its outcome.

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

    /// The command itself, to start it in another way.
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

    /// Starts the program. Both streams are pipes, as cargo's are.
    pub(crate) fn spawn(self) -> std::process::Child {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the program to its end, and reads the wrapper calls that it made.
    pub(crate) fn run(self) -> Built {
        let home = self.home;
        let output = self.command().output().unwrap();
        Built::new(output, home.new_calls())
    }

    /// Runs the program without reading its wrapper calls.
    pub(crate) fn run_unwatched(self) -> Built {
        Built::new(self.command().output().unwrap(), Vec::new())
    }

    /// Runs the program, which must succeed, and reads its wrapper calls.
    #[track_caller]
    pub(crate) fn ok(self) -> Built {
        let built = self.run();
        assert_eq!(built.code, Some(0), "{built:#?}");
        built
    }

    /// Runs the program, which must succeed, without reading its wrapper calls.
    #[track_caller]
    pub(crate) fn ok_unwatched(self) -> Built {
        let built = self.run_unwatched();
        assert_eq!(built.code, Some(0), "{built:#?}");
        built
    }
}

/// The outcome of a program.
#[derive(Debug)]
pub(crate) struct Built {
    /// `None` if a signal ended the program.
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

    /// Asserts that cargo found everything fresh: it printed nothing and made no call (RST-01).
    #[track_caller]
    pub(crate) fn expect_silent(&self) {
        assert!(self.stderr.lines().all(is_quiet), "cargo did not find everything fresh: {self:#?}");
        assert_eq!(self.calls.0, [], "{self:#?}");
    }

    /// Asserts that every compile was a hit and no compiler ran.
    #[track_caller]
    pub(crate) fn expect_all_hits(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "there were no compiles: {self:#?}");
        for call in compiles {
            assert!(call.is_hit() && call.compiler_runs == 0, "{call:?} in {self:#?}");
        }
    }

    /// Asserts that no compile was a hit.
    #[track_caller]
    pub(crate) fn expect_all_misses(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "there were no compiles: {self:#?}");
        for call in compiles {
            assert!(call.result == "miss" && call.compiler_runs == 1, "{call:?} in {self:#?}");
        }
    }

    /// Asserts that each action was compiled once: of two calls for the same action, the second is a hit.
    #[track_caller]
    pub(crate) fn expect_each_compiled_once(&self) {
        let compiles: Vec<_> = self.calls.compiles().collect();
        assert!(!compiles.is_empty(), "there were no compiles: {self:#?}");
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

    /// Returns the call of a build that made only one.
    #[track_caller]
    pub(crate) fn only_call(&self) -> &Call {
        let [call] = &self.calls.0[..] else { panic!("not one call: {self:#?}") };
        call
    }
}

/// Whether cargo prints this line even if everything is fresh, as the warnings of members, which it replays.
fn is_quiet(line: &str) -> bool {
    let word = line.trim_start().split(' ').next().unwrap_or_default();
    !matches!(word, "Compiling" | "Checking" | "Documenting" | "Dirty" | "error:")
}
