//! Who comes while the store cannot be used is turned away at once.
//!
//! The listeners are there from the start, so that a port is taken or refused at once. But
//! nobody serves them before the store is open, and a client whose connection merely waits
//! would wait as long as its patience: a build would stand still because of its cache.
//! Closing the connection tells it to go on without one. It knows no protocol.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::serve::listen::Bound;

/// Second handles of the listeners, for as long as nobody serves them. Dropping it ends it.
pub(super) struct TurningAway {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
    tasks: JoinSet<()>,
}

impl TurningAway {
    /// For these listeners; it has not begun yet. Call it inside a runtime.
    pub(super) fn from(tcp: &[Bound], unix: &StdUnixListener) -> io::Result<Self> {
        let second = |bound: &Bound| {
            let listener = std::net::TcpListener::from(bound.socket.as_fd().try_clone_to_owned()?);
            TcpListener::from_std(listener)
        };
        // One flag serves all handles of a socket.
        unix.set_nonblocking(true)?;
        Ok(TurningAway {
            tcp: tcp.iter().map(second).collect::<io::Result<_>>()?,
            unix: vec![UnixListener::from_std(unix.try_clone()?)?],
            tasks: JoinSet::new(),
        })
    }

    /// From now on. Doing so again changes nothing.
    pub(super) fn begin(&mut self) {
        for listener in self.tcp.drain(..) {
            self.tasks.spawn(async move { while listener.accept().await.is_ok() {} });
        }
        for listener in self.unix.drain(..) {
            self.tasks.spawn(async move { while listener.accept().await.is_ok() {} });
        }
    }
}
