//! Makes sure that a daemon runs, and starts one if need be.
//!
//! Two locks exclude races (DMN-04). `start.lock` is held by the process that starts a daemon, so
//! that fifty callers start one process and not fifty. `daemon.lock` is held by the daemon itself for
//! as long as it lives, so that there is never a second one, however it is started and however the
//! first one died.
//!
//! No process is killed here (DMN-05): the error names a daemon that hangs.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::address::DaemonAddress;
use crate::connection::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent};
use crate::control::{StreamError, reply, request};
use crate::os::{Lock, LockError};
use crate::version::{VERSION, is_older};

/// The time that a command waits until a daemon runs: for an older daemon to finish its requests,
/// and for the new one to answer.
pub const START_WAIT_MAX: Duration = Duration::from_secs(45);

/// The pause before another attempt to connect to a daemon that lives and does not listen.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The limit on what is read of a failing daemon's error.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The line that the daemon writes to its starter once it listens.
pub const READY: &str = "ready";

/// The settings for starting a daemon.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The address at which the daemon will listen.
    pub address: DaemonAddress,
    /// The path of the engine.
    pub engine: PathBuf,
    /// The engine's arguments, which must make it detach itself.
    pub args: Vec<OsString>,
    /// The whole environment of the daemon: documented `KACHE_*` variables and nothing else.
    pub environment: Vec<(OsString, OsString)>,
}

/// The way in which a running daemon was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The daemon ran before.
    AlreadyRunning,
    /// No daemon ran, and one was started.
    New,
    /// A daemon was started after an older one had left.
    Replaced,
}

/// The reason why no usable daemon runs.
#[derive(Debug, Error)]
pub enum StartError {
    /// The daemon that runs cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The engine cannot be executed.
    #[error("failed to start `{}`: {source}", path.display())]
    Spawn {
        /// The path of the engine.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
    /// The daemon ended before it listened. This is its own error message.
    #[error("{0}")]
    GaveUp(String),
    /// The previous daemon has not ended before the deadline. The text is its process id in
    /// brackets, or empty.
    #[error("the previous daemon{0} is still finishing its requests; try again in a moment")]
    StillLeaving(String),
    /// The daemon was started and did not answer in time.
    #[error("the daemon did not answer within {} s; its log may say why: `kache daemon log`", START_WAIT_MAX.as_secs())]
    Slow,
    /// One of the two locks cannot be taken.
    #[error(transparent)]
    Lock(LockError),
}

impl Starter {
    /// Returns a connection to a running daemon, and starts the daemon or replaces an older one if
    /// need be. Blocks until the deadline at most.
    pub fn ensure(&self, deadline: Instant) -> Result<(DaemonConnection, Started), StartError> {
        self.address.prepare().map_err(ConnectError::Dir)?;
        let was_replaced = match self.connect(deadline) {
            Ok(connection) => match self.stop_older(connection, deadline)? {
                Some(connection) => return Ok((connection, Started::AlreadyRunning)),
                None => true,
            },
            Err(ConnectError::NotRunning) => false,
            Err(ConnectError::Refused { leaving: true, .. }) => true,
            Err(other) => return Err(other.into()),
        };
        self.start(was_replaced, deadline)
    }

    /// Takes `start.lock` and starts the daemon. A process that had to wait for the lock finds the
    /// daemon that its holder has started.
    fn start(
        &self,
        was_replaced: bool,
        deadline: Instant,
    ) -> Result<(DaemonConnection, Started), StartError> {
        // The lock is held until the new daemon answers. A process that waited for it therefore finds a daemon.
        let _lock = Lock::take_by(&self.address.start_lock(), deadline).map_err(|error| match error {
            LockError::Held { .. } => StartError::Slow,
            other => StartError::Lock(other),
        })?;
        let mut started = Started::AlreadyRunning;
        // It ends by the deadline, which `connect` and `no_daemon_lives` check.
        loop {
            match self.connect(deadline) {
                Ok(connection) if !is_older(connection.daemon_version(), VERSION) => {
                    return Ok((connection, started));
                }
                Ok(_) | Err(ConnectError::NotRunning | ConnectError::Refused { leaving: true, .. }) => {}
                Err(other) => return Err(other.into()),
            }
            if self.no_daemon_lives(deadline)? {
                self.spawn(deadline)?;
                started = if was_replaced { Started::Replaced } else { Started::New };
            }
        }
    }

    /// Returns whether no daemon lives, so that one may be started. A daemon that lives and does not
    /// greet is either leaving or about to listen, so this sleeps for a moment and returns `false`.
    fn no_daemon_lives(&self, deadline: Instant) -> Result<bool, StartError> {
        match Lock::take(&self.address.daemon_lock()) {
            // The lock is released again at once, so that the daemon can take it.
            Ok(_released) if Instant::now() < deadline => Ok(true),
            Ok(_) => Err(StartError::Slow),
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(CONNECT_AGAIN_AFTER);
                Ok(false)
            }
            Err(LockError::Held { path }) => {
                let pid = Lock::read_note(&path).and_then(|note| Some(note.lines().next()?.to_owned()));
                Err(StartError::StillLeaving(pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()))
            }
            Err(other) => Err(StartError::Lock(other)),
        }
    }

    fn connect(&self, deadline: Instant) -> Result<DaemonConnection, ConnectError> {
        DaemonConnection::open(&self.address, Intent::Use, deadline.min(Instant::now() + HELLO_WAIT_MAX))
    }

    /// Makes the daemon leave if it is older than this program, and returns `None` then; otherwise
    /// returns the connection.
    fn stop_older(
        &self,
        mut connection: DaemonConnection,
        deadline: Instant,
    ) -> Result<Option<DaemonConnection>, StartError> {
        if !is_older(connection.daemon_version(), VERSION) {
            return Ok(Some(connection));
        }
        let stop = request::Stop { if_older_than: VERSION.to_owned() };
        let deadline = deadline.min(Instant::now() + HELLO_WAIT_MAX);
        match connection.request(request::Kind::Stop(stop), deadline) {
            Ok(reply::Kind::Stopping(_)) | Err(StreamError::Closed) => Ok(None),
            Ok(_) => Ok(Some(connection)),
            Err(StreamError::Late) => {
                Err(ConnectError::Hung { pid: i32::try_from(connection.daemon_pid()).ok() }.into())
            }
            Err(error) => Err(ConnectError::Garbled(error).into()),
        }
    }

    /// Starts the engine and reads its standard error until it listens or gives up. That pipe is the
    /// only thing that the daemon shares with this process, and the daemon closes it, too.
    fn spawn(&self, deadline: Instant) -> Result<(), StartError> {
        let failed = |source| StartError::Spawn { path: self.engine.clone(), source };
        let mut child = Command::new(&self.engine)
            .args(&self.args)
            // The daemon outlives this process and serves other ones, so it inherits nothing of this environment
            // (DMN-01).
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipe = child.stderr.take().expect("it was asked to be piped");
        let written = read_until_closed(pipe, deadline).map_err(failed)?;
        // The child forks and exits at once. A broken one that still runs is not waited for.
        let _ = child.try_wait();
        match written {
            Some(text) if text.lines().any(|line| line == READY) => Ok(()),
            Some(text) if text.trim().is_empty() => {
                Err(StartError::GaveUp("the daemon ended and printed no error".into()))
            }
            Some(text) => Err(StartError::GaveUp(text.trim().to_owned())),
            None => Err(StartError::Slow),
        }
    }
}

/// Reads what the daemon writes until it closes the pipe; `None` if the deadline passes first.
fn read_until_closed(mut pipe: ChildStderr, deadline: Instant) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while text.len() < ERROR_BYTES_MAX {
        if !wait_readable(&pipe, deadline)? {
            return Ok(None);
        }
        match pipe.read(&mut chunk)? {
            0 => break,
            len => text.extend_from_slice(&chunk[..len]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Waits until the pipe can be read or is closed; returns `false` if the deadline passes first.
fn wait_readable(pipe: &ChildStderr, deadline: Instant) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut poll = libc::pollfd { fd: pipe.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: `poll` is one entry and outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, left_ms) } {
            0 => {}
            1.. => return Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{FrameStream, Hello, Reply, Request, Welcome};

    /// Greets one client as an older daemon with the process id 7, and leaves its request unanswered.
    fn hang_after_greeting(address: &DaemonAddress, deadline: Instant) -> std::thread::JoinHandle<()> {
        address.prepare().unwrap();
        let listener = crate::os::listen(&address.control_socket()).unwrap();
        std::thread::spawn(move || {
            let mut stream = FrameStream::new(listener.accept().unwrap().0);
            stream.receive::<Hello>(deadline).unwrap();
            let welcome = Welcome { daemon_version: "0.0.1".into(), pid: 7, ..Welcome::default() };
            stream.send(&Reply { kind: Some(reply::Kind::Welcome(welcome)) }, deadline).unwrap();
            stream.receive::<Request>(deadline).unwrap();
            // The client gives up first and closes the connection.
            let closed = stream.receive::<Request>(deadline + HELLO_WAIT_MAX);
            assert!(matches!(closed, Err(StreamError::Closed)));
        })
    }

    #[test]
    fn dmn_03_an_older_daemon_that_hangs_when_it_is_stopped_is_reported_as_hung() {
        let dir = tempfile::tempdir().unwrap();
        let address = DaemonAddress::new(dir.path(), Some(&dir.path().join("s")));
        let daemon = hang_after_greeting(&address, Instant::now() + HELLO_WAIT_MAX);
        let starter =
            Starter { address, engine: "/nonexistent".into(), args: Vec::new(), environment: Vec::new() };
        let error = starter.ensure(Instant::now() + Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, StartError::Connect(ConnectError::Hung { pid: Some(7) })), "{error}");
        daemon.join().unwrap();
    }
}
