//! Greeting a daemon: from a place to a connection on which requests can be made, or to one
//! sentence that says why there is none.
//!
//! Invariant (DMN-03): it takes no longer than it was given. (DMN-02): nothing is said to a
//! daemon that another user runs.

use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::control::{FrameStream, Hello, Reply, Request, StreamError, Welcome, reply, request};
use crate::os::{self, DirError, PeerError};
use crate::place::Place;
use crate::version::{PROTOCOL, VERSION};

/// How long a command waits for a daemon's greeting before it calls it hung. A healthy one
/// takes well under a millisecond, also while it opens its store.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To look, and to change nothing (DMN-06).
    Look,
    /// To have something done; an older daemon is to make room.
    Use,
}

/// A daemon that answers.
#[derive(Debug)]
pub struct Session {
    frames: FrameStream,
    welcome: Welcome,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens.
    #[error("no daemon is running")]
    NotRunning,
    /// Somebody listens and says nothing.
    #[error("the daemon{} does not answer", the_process(*pid))]
    Hung {
        /// Which process, where the system says.
        pid: Option<i32>,
    },
    /// It speaks another protocol.
    #[error(
        "the daemon is kache {version} and speaks protocol {protocol}, this is kache {VERSION} with protocol {PROTOCOL}"
    )]
    Refused {
        /// The daemon's version.
        version: String,
        /// Its protocol.
        protocol: u32,
        /// Whether it is leaving, because we are newer.
        leaving: bool,
    },
    /// The socket's directory is not ours alone.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Another user listens.
    #[error("the daemon is not to be trusted: {0}")]
    Peer(#[from] PeerError),
    /// What it says makes no sense.
    #[error("the daemon does not speak our protocol: {0}")]
    Garbled(StreamError),
    /// The system refused.
    #[error("failed to connect to the daemon: {0}")]
    Io(#[source] io::Error),
}

fn the_process(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Session {
    /// Connects and greets.
    pub fn open(place: &Place, intent: Intent, deadline: Instant) -> Result<Session, ConnectError> {
        let (mut frames, pid) = connect(place, deadline)?;
        let reply = greet(&mut frames, intent, deadline).map_err(|error| match error {
            StreamError::Late => ConnectError::Hung { pid },
            // It was accepted by a daemon that is just leaving.
            StreamError::Closed => ConnectError::NotRunning,
            StreamError::Io(error) => ConnectError::Io(error),
            StreamError::Frame(_) => ConnectError::Garbled(error),
        })?;
        match reply {
            reply::Kind::Welcome(welcome) => Ok(Session { frames, welcome }),
            reply::Kind::Refused(refused) => Err(ConnectError::Refused {
                version: refused.daemon_version,
                protocol: refused.protocol,
                leaving: refused.leaving,
            }),
            _ => Err(ConnectError::Garbled(StreamError::Closed)),
        }
    }

    /// The daemon's version.
    pub fn daemon_version(&self) -> &str {
        &self.welcome.daemon_version
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.welcome.pid
    }

    /// Asks for something and waits for the answer.
    pub fn ask(&mut self, kind: request::Kind, deadline: Instant) -> Result<reply::Kind, StreamError> {
        self.frames.send(&Request { kind: Some(kind) }, deadline)?;
        answer(&mut self.frames, deadline)
    }
}

/// A connection to whoever listens, before anything is said. Which process that is, too,
/// where the system says.
pub(crate) fn connect(place: &Place, deadline: Instant) -> Result<(FrameStream, Option<i32>), ConnectError> {
    if !place.check()? {
        return Err(ConnectError::NotRunning);
    }
    let path = place.control_socket();
    if !path.exists() {
        return Err(ConnectError::NotRunning);
    }
    let stream = os::connect(&os::reachable(&path)?, deadline).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning,
        io::ErrorKind::TimedOut => ConnectError::Hung { pid: None },
        _ => ConnectError::Io(error),
    })?;
    os::require_own_peer(&stream)?;
    let pid = os::peer_pid(&stream);
    Ok((FrameStream::new(stream), pid))
}

fn greet(frames: &mut FrameStream, intent: Intent, deadline: Instant) -> Result<reply::Kind, StreamError> {
    let hello = Hello {
        protocol: PROTOCOL,
        client_version: VERSION.to_owned(),
        only_looking: intent == Intent::Look,
    };
    frames.send(&hello, deadline)?;
    answer(frames, deadline)
}

/// The next reply. One of a kind that this version does not know counts as none.
fn answer(frames: &mut FrameStream, deadline: Instant) -> Result<reply::Kind, StreamError> {
    frames.receive::<Reply>(deadline)?.kind.ok_or(StreamError::Closed)
}
