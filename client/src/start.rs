//! Making sure that a daemon runs: whoever needs one starts it.
//!
//! Two locks make it race-free (DMN-04). `start.lock` is held by the one starter at work, so
//! that fifty callers start one process and not fifty. `daemon.lock` is held by the daemon
//! itself for as long as it lives, so that there is never a second one, whoever starts it
//! and however the first one died.
//!
//! Nobody is killed here (DMN-05): a daemon that hangs is named, and left alone.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::control::{reply, request};
use crate::os::{Lock, LockError};
use crate::place::Place;
use crate::session::{ConnectError, HELLO_WAIT_MAX, Intent, Session};
use crate::version::{VERSION, is_older};

/// How long a command waits for a daemon to be there: for an older one to finish what it is
/// doing, and for the new one to answer.
pub const START_WAIT_MAX: Duration = Duration::from_secs(45);

/// How long to wait before a daemon that lives and does not greet yet is greeted again.
const GREET_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How much of a failing daemon's last words is read.
const LAST_WORDS_BYTES_MAX: usize = 64 * 1024;

/// What the daemon says to its starter once it answers.
pub const READY: &str = "ready";

/// How a daemon is started for a place.
#[derive(Clone, Debug)]
pub struct Starter {
    /// Whose daemon.
    pub place: Place,
    /// The engine's program.
    pub engine: PathBuf,
    /// What follows the program's name; it must make the engine detach itself.
    pub args: Vec<OsString>,
    /// The whole environment it gets: documented `KACHE_*` variables and nothing else.
    pub environment: Vec<(OsString, OsString)>,
}

/// How it came that a daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It ran before.
    AlreadyRunning,
    /// It was started now.
    New,
    /// It was started in the place of an older one.
    Replaced,
}

/// Why no daemon runs.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is one, and it cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The program cannot be started.
    #[error("failed to start `{}`: {source}", path.display())]
    Spawn {
        /// Which program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It started and gave up. These are its words.
    #[error("{0}")]
    GaveUp(String),
    /// The daemon before it is still finishing.
    #[error("the daemon before it{0} is still finishing what it was doing; try again in a moment")]
    StillLeaving(String),
    /// It started and did not answer in time.
    #[error("the daemon did not answer within {} s; its log may say why: `kache daemon log`", START_WAIT_MAX.as_secs())]
    Slow,
    /// A lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
}

impl Starter {
    /// A session with a daemon that runs, started now if need be.
    pub fn ensure(&self, deadline: Instant) -> Result<(Session, Started), StartError> {
        self.place.prepare().map_err(ConnectError::Dir)?;
        let was_replaced = match self.greet(deadline) {
            Ok(session) => match self.ask_older_to_leave(session, deadline)? {
                Some(session) => return Ok((session, Started::AlreadyRunning)),
                None => true,
            },
            Err(ConnectError::NotRunning) => false,
            Err(ConnectError::Refused { leaving: true, .. }) => true,
            Err(other) => return Err(other.into()),
        };
        self.start(was_replaced, deadline)
    }

    /// One starter at a time; the others find its daemon when their turn comes.
    fn start(&self, was_replaced: bool, deadline: Instant) -> Result<(Session, Started), StartError> {
        let _turn = Lock::take_by(&self.place.start_lock(), deadline).map_err(|error| match error {
            LockError::Held { .. } => StartError::Slow,
            other => StartError::Lock(other),
        })?;
        let mut started = Started::AlreadyRunning;
        loop {
            match self.greet(deadline) {
                Ok(session) if !is_older(session.daemon_version(), VERSION) => return Ok((session, started)),
                Ok(_) | Err(ConnectError::NotRunning | ConnectError::Refused { leaving: true, .. }) => {}
                Err(other) => return Err(other.into()),
            }
            if self.is_free(deadline)? {
                self.spawn(deadline)?;
                started = if was_replaced { Started::Replaced } else { Started::New };
            }
        }
    }

    /// Whether no daemon lives, so that one may be started. One that lives and does not greet
    /// is either leaving or about to listen; it is given a moment.
    fn is_free(&self, deadline: Instant) -> Result<bool, StartError> {
        match Lock::take(&self.place.daemon_lock()) {
            // Let go at once: the one that is started takes it.
            Ok(_free) if Instant::now() < deadline => Ok(true),
            Ok(_) => Err(StartError::Slow),
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(GREET_AGAIN_AFTER);
                Ok(false)
            }
            Err(LockError::Held { path }) => {
                let pid = Lock::read_note(&path).and_then(|note| Some(note.lines().next()?.to_owned()));
                Err(StartError::StillLeaving(pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()))
            }
            Err(other) => Err(StartError::Lock(other)),
        }
    }

    fn greet(&self, deadline: Instant) -> Result<Session, ConnectError> {
        Session::open(&self.place, Intent::Use, deadline.min(Instant::now() + HELLO_WAIT_MAX))
    }

    /// The session back, or `None` if the daemon is older than this and now leaving.
    fn ask_older_to_leave(
        &self,
        mut session: Session,
        deadline: Instant,
    ) -> Result<Option<Session>, StartError> {
        if !is_older(session.daemon_version(), VERSION) {
            return Ok(Some(session));
        }
        let stop = request::Stop { if_older_than: VERSION.to_owned() };
        let deadline = deadline.min(Instant::now() + HELLO_WAIT_MAX);
        match session.ask(request::Kind::Stop(stop), deadline) {
            Ok(reply::Kind::Stopping(_)) | Err(crate::control::StreamError::Closed) => Ok(None),
            Ok(_) => Ok(Some(session)),
            Err(error) => Err(ConnectError::Garbled(error).into()),
        }
    }

    /// Starts the program and listens to it until it answers or gives up. It holds nothing
    /// of ours but that one pipe, and lets go of that too.
    fn spawn(&self, deadline: Instant) -> Result<(), StartError> {
        let failed = |source| StartError::Spawn { path: self.engine.clone(), source };
        let mut child = Command::new(&self.engine)
            .args(&self.args)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipe = child.stderr.take().expect("it was asked to be piped");
        let words = listen(pipe, deadline).map_err(failed)?;
        // The child forks and leaves at once; only a broken one is still there, and it is
        // left to whoever inherits it.
        let _ = child.try_wait();
        match words {
            Some(words) if words.lines().any(|line| line == READY) => Ok(()),
            Some(words) if words.trim().is_empty() => {
                Err(StartError::GaveUp("the daemon ended without a word".into()))
            }
            Some(words) => Err(StartError::GaveUp(words.trim().to_owned())),
            None => Err(StartError::Slow),
        }
    }
}

/// Everything the daemon says until it lets go of the pipe; `None` if the deadline passes
/// first.
fn listen(mut pipe: ChildStderr, deadline: Instant) -> io::Result<Option<String>> {
    let mut words = Vec::new();
    let mut chunk = [0; 4096];
    while words.len() < LAST_WORDS_BYTES_MAX {
        if !wait_readable(&pipe, deadline)? {
            return Ok(None);
        }
        match pipe.read(&mut chunk)? {
            0 => break,
            len => words.extend_from_slice(&chunk[..len]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&words).into_owned()))
}

fn wait_readable(pipe: &ChildStderr, deadline: Instant) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut poll = libc::pollfd { fd: pipe.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: `poll` is one entry and lives through the call.
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
