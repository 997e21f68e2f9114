//! Unix sockets: connecting until a deadline, listening, the identity of the peer, and paths that
//! are too long for the system.
//!
//! The path of a socket has at most 108 bytes on Linux and 104 on macOS. A longer path is reached
//! through a short alias: a symlink to its directory, in a private directory of this user. The alias
//! is only another name, so two processes that choose different ones still meet.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use thiserror::Error;

use super::private_dir::{DirError, ensure_private_dir};
use super::user::own_uid;
use crate::address;

/// The longest path that every system accepts, with room for the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The pause before another attempt to connect to a listener whose queue is full.
const RETRY_EVERY: Duration = Duration::from_millis(2);

/// The number of connections that may wait to be accepted: all clients of a build at once.
const BACKLOG: i32 = 1024;

/// The reason why the peer of a connection is not trusted.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The peer is a process of another user.
    #[error("the other end belongs to user {uid}, not to you (user {us})")]
    Foreign {
        /// The id of the peer's user.
        uid: u32,
        /// The id of this user.
        us: u32,
    },
    /// The system does not say which user the peer belongs to.
    #[error("failed to learn which user is at the other end: {0}")]
    Unknown(#[source] io::Error),
}

/// Returns a path of the socket that is short enough for the system: `path` itself, or an alias,
/// which is created if need be.
pub fn short_socket_path(path: &Path) -> Result<PathBuf, DirError> {
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(path.to_owned());
    }
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| DirError::Io { doing, path, source }
    };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io("shorten", path)(io::ErrorKind::InvalidInput.into()));
    };
    let aliases = address::default_socket_dir();
    ensure_private_dir(&aliases)?;
    let alias = aliases.join(format!("{}.d", address::path_key(dir)));
    if fs::read_link(&alias).ok().as_deref() != Some(dir) {
        // Another process may replace the alias at the same time. The rename makes either of them
        // visible, and both lead to the same directory.
        let draft = aliases.join(format!("{}.{}", address::path_key(dir), std::process::id()));
        symlink(dir, &draft).map_err(io("create", &draft))?;
        fs::rename(&draft, &alias).map_err(io("create", &alias))?;
    }
    Ok(alias.join(name))
}

/// Connects, or gives up at the deadline. A blocking `connect` would wait for ever for a listener
/// that has stopped accepting and whose queue is full (DMN-03).
pub fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    loop {
        let fd = new_socket()?;
        set_nonblocking(&fd, true)?;
        match socket::connect(fd.as_raw_fd(), &address) {
            Ok(()) => {
                set_nonblocking(&fd, false)?;
                return Ok(UnixStream::from(fd));
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::EINPROGRESS) if Instant::now() < deadline => {
                std::thread::sleep(RETRY_EVERY);
            }
            Err(Errno::EAGAIN | Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Listens at `path`, which must not exist. The socket is as private as its directory; see
/// [`ensure_private_dir`].
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let fd = new_socket()?;
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(UnixListener::from(fd))
}

fn new_socket() -> io::Result<OwnedFd> {
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
    // macOS has no such flag for `socket`, so the descriptor gets it in a second step on all systems.
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

fn set_nonblocking(fd: &OwnedFd, nonblocking: bool) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(wanted))?;
    Ok(())
}

/// Fails unless the peer is a process of this user (DMN-02).
pub fn require_own_peer(socket: &impl AsFd) -> Result<(), PeerError> {
    let uid = peer_uid(socket).map_err(PeerError::Unknown)?;
    let us = own_uid();
    if uid == us { Ok(()) } else { Err(PeerError::Foreign { uid, us }) }
}

/// Returns the id of the user whose process is the peer.
#[cfg(target_os = "linux")]
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    Ok(socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials)?.uid())
}

/// Returns the id of the user whose process is the peer.
#[cfg(not(target_os = "linux"))]
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(socket.as_fd())?.0.as_raw())
}

/// Returns the id of the peer's process; on the client's end that is the process that listens.
/// `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn peer_pid(socket: &impl AsFd) -> Option<i32> {
    let pid = socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials).ok()?.pid();
    (pid > 0).then_some(pid)
}

/// Returns `None`: the system does not say which process the peer is.
#[cfg(not(target_os = "linux"))]
pub fn peer_pid(_socket: &impl AsFd) -> Option<i32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[test]
    fn dmn_02_the_peer_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = listen(&path).unwrap();
        let stream = connect(&path, soon()).unwrap();
        require_own_peer(&stream).unwrap();
        require_own_peer(&listener.accept().unwrap().0).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(peer_pid(&stream), Some(std::process::id() as i32));
        }
    }

    #[test]
    fn dmn_03_a_listener_that_never_accepts_costs_the_deadline_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let fd = new_socket().unwrap();
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&fd, Backlog::new(1).unwrap()).unwrap();
        let begun = Instant::now();
        let mut held = Vec::new();
        let error = loop {
            match connect(&path, soon()) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn connecting_without_a_listener_fails_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(connect(&path, soon()).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(listen(&path).unwrap());
        assert_eq!(connect(&path, soon()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_path_that_is_too_long_has_an_alias() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        let short = short_socket_path(&path).unwrap();
        assert!(short.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", short.display());
        let _listener = listen(&short).unwrap();
        assert!(path.exists(), "the socket lies where it was meant to");
        connect(&short_socket_path(&path).unwrap(), soon()).unwrap();
        let alias = short.parent().unwrap();
        fs::remove_file(alias).unwrap();
        // An alias that points elsewhere is replaced.
        symlink("/nonexistent", alias).unwrap();
        connect(&short_socket_path(&path).unwrap(), soon()).unwrap();
        fs::remove_file(alias).unwrap();
    }
}
