//! A connection to the daemon: connects to its socket, sends `Hello`, and then sends requests.
//!
//! Invariants: no call here outlasts its deadline (DMN-03), and nothing is sent to a daemon that
//! another user runs (DMN-02).

use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::address::DaemonAddress;
use crate::control::{FrameStream, Hello, Reply, Request, StreamError, Welcome, reply, request};
use crate::os::{self, DirError, PeerError};
use crate::version::{PROTOCOL, VERSION};

/// The time after which a command takes a daemon that has not greeted for hung. A healthy daemon
/// greets in well under a millisecond, also while it opens its store.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(2);

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The caller only reads: the connection neither keeps an idle daemon alive nor makes an older
    /// one leave (DMN-06).
    Look,
    /// The caller has work for the daemon; a daemon of an older protocol leaves.
    Use,
}

/// A connection on which the daemon has greeted.
#[derive(Debug)]
pub struct DaemonConnection {
    frames: FrameStream,
    welcome: Welcome,
}

/// The reason why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No process listens on the socket, or the daemon is just leaving.
    #[error("no daemon is running")]
    NotRunning,
    /// A process listens and does not answer in time.
    #[error("the daemon{} does not answer", pid_in_brackets(*pid))]
    Hung {
        /// The process that listens, where the system says.
        pid: Option<i32>,
    },
    /// The daemon speaks another protocol, or is leaving.
    #[error(
        "the daemon is kache {version} and speaks protocol {protocol}, this is kache {VERSION} with protocol {PROTOCOL}"
    )]
    Refused {
        /// The version that the daemon says it has.
        version: String,
        /// The number of the daemon's protocol.
        protocol: u32,
        /// Whether the daemon is leaving, so that another one can be started.
        leaving: bool,
    },
    /// Other users could write to the socket's directory.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The process that listens may belong to another user.
    #[error("the daemon cannot be trusted: {0}")]
    Peer(#[from] PeerError),
    /// The daemon sent bytes that are no reply of this protocol.
    #[error("the daemon does not speak this protocol: {0}")]
    Garbled(StreamError),
    /// The operating system refused the connection.
    #[error("failed to connect to the daemon: {0}")]
    Io(#[source] io::Error),
}

fn pid_in_brackets(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl DaemonConnection {
    /// Connects, sends `Hello` and waits for the daemon's greeting until the deadline.
    pub fn open(
        address: &DaemonAddress,
        intent: Intent,
        deadline: Instant,
    ) -> Result<DaemonConnection, ConnectError> {
        let (mut frames, pid) = connect(address, deadline)?;
        let reply = greet(&mut frames, intent, deadline).map_err(|error| match error {
            StreamError::Late => ConnectError::Hung { pid },
            // The connection was accepted by a daemon that is just leaving.
            StreamError::Closed => ConnectError::NotRunning,
            StreamError::Io(error) => ConnectError::Io(error),
            StreamError::Frame(_) => ConnectError::Garbled(error),
        })?;
        match reply {
            reply::Kind::Welcome(welcome) => Ok(DaemonConnection { frames, welcome }),
            reply::Kind::Refused(refused) => Err(ConnectError::Refused {
                version: refused.daemon_version,
                protocol: refused.protocol,
                leaving: refused.leaving,
            }),
            _ => Err(ConnectError::Garbled(StreamError::Closed)),
        }
    }

    /// Returns the daemon's version as it said in its greeting, such as `0.1.0`.
    pub fn daemon_version(&self) -> &str {
        &self.welcome.daemon_version
    }

    /// Returns the id of the daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.welcome.pid
    }

    /// Sends a request and waits for the reply until the deadline.
    pub fn request(&mut self, kind: request::Kind, deadline: Instant) -> Result<reply::Kind, StreamError> {
        self.frames.send(&Request { kind: Some(kind) }, deadline)?;
        receive_reply(&mut self.frames, deadline)
    }

    /// Waits until the deadline for another reply to the last request.
    pub fn next_reply(&mut self, deadline: Instant) -> Result<reply::Kind, StreamError> {
        receive_reply(&mut self.frames, deadline)
    }
}

/// Connects without sending anything. Returns also the id of the process that listens, where the
/// system says.
pub(crate) fn connect(
    address: &DaemonAddress,
    deadline: Instant,
) -> Result<(FrameStream, Option<i32>), ConnectError> {
    if !address.check()? {
        return Err(ConnectError::NotRunning);
    }
    let path = address.control_socket();
    // This is checked before the short path is made, because that may create an alias (DMN-06).
    if !path.exists() {
        return Err(ConnectError::NotRunning);
    }
    let short_path = os::short_socket_path(&path)?;
    let stream = os::connect(&short_path, deadline).map_err(|error| match error.kind() {
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
    receive_reply(frames, deadline)
}

/// Waits for the next reply. A reply of a kind that this version does not know counts as a closed
/// connection.
fn receive_reply(frames: &mut FrameStream, deadline: Instant) -> Result<reply::Kind, StreamError> {
    frames.receive::<Reply>(deadline)?.kind.ok_or(StreamError::Closed)
}
