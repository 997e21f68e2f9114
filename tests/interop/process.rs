//! Runs other programs with an environment of their own, a time limit, and their output for error messages.
//!
//! Nothing of the caller's environment is passed on, so a developer's settings have no effect. Every program that a
//! test started ends with the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest time for one call of a client. A cold Bazel on a busy machine needs half a minute.
const RUN_TIME_MAX: Duration = Duration::from_secs(240);

/// How long a server may take until its first response.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A command with an almost empty environment, whose home is `home`.
pub(crate) fn command(program: &Path, home: &Path) -> Command {
    fs::create_dir_all(home).expect("the test's directory is writable");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// The exit status of a program, and its output on both streams, in order.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

impl Finished {
    /// Returns the output of a run that must have succeeded.
    pub(crate) fn expect_success(self, what: &str) -> String {
        assert!(self.status.success(), "{what}: {}\n{}", self.status, self.output);
        self.output
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Finished {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let mut child = spawn(command, file.path());
    let status = wait(&mut child, RUN_TIME_MAX);
    let output = read_lossy(file.path());
    let Some(status) = status else {
        child.kill().expect("our child can be killed");
        child.wait().expect("our child can be waited for");
        panic!("{command:?} ran for longer than {RUN_TIME_MAX:?}\n{output}");
    };
    Finished { status, output }
}

fn spawn(command: &mut Command, output: &Path) -> Child {
    let file =
        File::options().append(true).create(true).open(output).expect("the output's file can be opened");
    let also = file.try_clone().expect("a handle can be duplicated");
    let started = command.stdout(file).stderr(also).spawn();
    started.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"))
}

fn wait(child: &mut Child, time_max: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + time_max;
    loop {
        if let Some(status) = child.try_wait().expect("our child can be waited for") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A server in the background. It is killed on drop, and its output is printed if the test failed.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Background {
    /// Starts a server, and waits until `is_ready`. Its output is appended to `output`.
    pub(crate) fn start(command: &mut Command, output: &Path, is_ready: impl Fn() -> bool) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = spawn(command, output);
        let mut background = Background { child, name, output: output.to_owned() };
        let end = Instant::now() + START_TIME_MAX;
        while !is_ready() {
            let ended = background.child.try_wait().expect("our child can be waited for");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}\n{}", read_lossy(output));
            assert!(Instant::now() < end, "{command:?} is not ready\n{}", read_lossy(output));
            thread::sleep(POLL_INTERVAL);
        }
        background
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a process id fits"))
    }

    /// Sends SIGTERM, and fails if the server does not end.
    pub(crate) fn stop(mut self) {
        kill(self.pid(), Signal::SIGTERM).expect("our child can be signalled");
        let status = wait(&mut self.child, STOP_TIME_MAX);
        assert!(status.is_some(), "{} does not end after SIGTERM\n{}", self.name, read_lossy(&self.output));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, read_lossy(&self.output));
        }
    }
}
