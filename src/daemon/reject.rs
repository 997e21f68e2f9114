//! Rejects connections of the served protocols while the store cannot be used.
//!
//! The listeners exist from the start, so that a port that is in use is reported at once. But the
//! store is served only when it is open. A client whose connection is accepted by no task would wait
//! for its own timeout, and its build with it. So each connection is accepted and closed, which tells
//! the client to go on without the cache. No protocol is spoken here.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;

use kache_serve::Bound;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// Second handles of the listeners. Connections are rejected until this is dropped.
pub(super) struct RejectingListeners {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
    tasks: JoinSet<()>,
}

impl RejectingListeners {
    /// Duplicates the listeners, and rejects nothing yet. It must be called inside a runtime.
    pub(super) fn from(tcp: &[Bound], unix: &StdUnixListener) -> io::Result<Self> {
        let second = |bound: &Bound| {
            let listener = std::net::TcpListener::from(bound.socket.as_fd().try_clone_to_owned()?);
            TcpListener::from_std(listener)
        };
        // The flag belongs to the socket, so the second handle has it as well.
        unix.set_nonblocking(true)?;
        Ok(RejectingListeners {
            tcp: tcp.iter().map(second).collect::<io::Result<_>>()?,
            unix: vec![UnixListener::from_std(unix.try_clone()?)?],
            tasks: JoinSet::new(),
        })
    }

    /// Rejects connections from now on. A second call has no effect.
    pub(super) fn begin(&mut self) {
        for listener in self.tcp.drain(..) {
            self.tasks.spawn(async move { while listener.accept().await.is_ok() {} });
        }
        for listener in self.unix.drain(..) {
            self.tasks.spawn(async move { while listener.accept().await.is_ok() {} });
        }
    }
}
