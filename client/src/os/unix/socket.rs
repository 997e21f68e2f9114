//! Unix sockets: connecting by a deadline, listening, who is at the other end, and paths
//! that are too long for the system.
//!
//! A socket's path has 108 bytes on Linux and 104 on macOS. A longer one is reached through
//! a short alias: a symlink to its directory, in a private directory of ours. The alias is
//! only another name, so two processes that choose different ones still meet.

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
use crate::place;

/// The longest path that every system takes, with room for the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// How long to sleep before trying a full queue again.
const RETRY_EVERY: Duration = Duration::from_millis(2);

/// How many may wait to be accepted: a build's worth of clients at once.
const BACKLOG: i32 = 1024;

/// Why the other end is not trusted.
#[derive(Debug, Error)]
pub enum PeerError {
    /// Another user is there.
    #[error("the other end belongs to user {uid}, not to you (user {us})")]
    Foreign {
        /// Who is there.
        uid: u32,
        /// Who we are.
        us: u32,
    },
    /// The system does not say who is there.
    #[error("failed to learn who is at the other end: {0}")]
    Unknown(#[source] io::Error),
}

/// A path by which the socket at `path` can be reached: itself, or an alias.
pub fn reachable(path: &Path) -> Result<PathBuf, DirError> {
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
    let aliases = place::default_socket_dir();
    ensure_private_dir(&aliases)?;
    let alias = aliases.join(format!("{}.d", place::key_of(dir)));
    if fs::read_link(&alias).ok().as_deref() != Some(dir) {
        // Made under another name and renamed, so that nobody finds it half done.
        let fresh = aliases.join(format!("{}.{}", place::key_of(dir), std::process::id()));
        symlink(dir, &fresh).map_err(io("create", &fresh))?;
        fs::rename(&fresh, &alias).map_err(io("create", &alias))?;
    }
    Ok(alias.join(name))
}

/// Connects, or gives up at the deadline. Unlike a blocking `connect` it also gives up on a
/// listener that has stopped accepting and whose queue is full (DMN-03).
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

/// Listens at `path`, which must not exist. The directory it lies in decides who can reach
/// it; see [`ensure_private_dir`].
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let fd = new_socket()?;
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(UnixListener::from(fd))
}

fn new_socket() -> io::Result<OwnedFd> {
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
    // macOS has no flag for this on `socket`, so it is a second step everywhere.
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

/// Refuses everybody but this user (DMN-02).
pub fn require_own_peer(socket: &impl AsFd) -> Result<(), PeerError> {
    let uid = peer_uid(socket).map_err(PeerError::Unknown)?;
    let us = own_uid();
    if uid == us { Ok(()) } else { Err(PeerError::Foreign { uid, us }) }
}

/// Whose process is at the other end.
#[cfg(target_os = "linux")]
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    Ok(socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials)?.uid())
}

/// Whose process is at the other end.
#[cfg(not(target_os = "linux"))]
pub fn peer_uid(socket: &impl AsFd) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(socket.as_fd())?.0.as_raw())
}

/// Which process is at the other end: of a connection to a listener, the one that listens.
/// `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn peer_pid(socket: &impl AsFd) -> Option<i32> {
    let pid = socket::getsockopt(&socket.as_fd(), socket::sockopt::PeerCredentials).ok()?.pid();
    (pid > 0).then_some(pid)
}

/// Which process is at the other end; not known here.
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
    fn nobody_there_is_an_error_at_once() {
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
        let short = reachable(&path).unwrap();
        assert!(short.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", short.display());
        let _listener = listen(&short).unwrap();
        assert!(path.exists(), "the socket lies where it was meant to");
        connect(&reachable(&path).unwrap(), soon()).unwrap();
        let alias = short.parent().unwrap();
        fs::remove_file(alias).unwrap();
        // An alias that points elsewhere is put right.
        symlink("/nonexistent", alias).unwrap();
        connect(&reachable(&path).unwrap(), soon()).unwrap();
        fs::remove_file(alias).unwrap();
    }
}
