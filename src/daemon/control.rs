//! The control socket: accepts connections, turns frames into events and sends replies.
//!
//! Invariant (DMN-02): only processes of this user are answered. The socket's directory is private,
//! and the user of each peer is checked as well. The core interprets the frames.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kache_client::control::reply;
use kache_client::os::{peer_pid, require_own_peer};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::activity::{Activity, OpenConnection};
use super::core::{ConnectionId, DaemonEvent};
use crate::control::{Incoming, WRITE_WAIT_MAX, incoming, outgoing};
use crate::daemon::Draining;

/// The number of replies that may wait for a client to read them. A client sends one request at a
/// time.
const REPLIES_WAITING_MAX: usize = 16;

/// The pause in accepting connections when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A message from tasks and threads to the driver's loop.
#[derive(Debug)]
pub(super) enum DriverInput {
    /// A client connected. It comes with the client's mailbox, and with the id of its process where
    /// the system says.
    Connected(ConnectionId, Mailbox, Option<i32>),
    /// An event for the core.
    Event(DaemonEvent),
}

/// A token of every task that writes to a client. When the last one is dropped, all replies are
/// written.
pub(super) type Writing = mpsc::Sender<()>;

/// A sender of replies to one client. When it is dropped, the connection is closed after the replies
/// that were sent.
pub(super) type Mailbox = mpsc::Sender<reply::Kind>;

/// Accepts connections until draining begins.
pub(super) async fn accept_all(
    listener: UnixListener,
    inputs: mpsc::Sender<DriverInput>,
    activity: Arc<Activity>,
    writing: Writing,
    mut draining: Draining,
) {
    let mut next_id: ConnectionId = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.begun() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                next_id += 1;
                admit(stream, next_id, &inputs, (activity.connection(), writing.clone())).await;
            }
            Err(error) => {
                // Without a pause, a lack of descriptors would make this a busy loop.
                tracing::warn!("failed to accept a control connection: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Checks the peer of a new connection and starts the tasks that read and write it.
async fn admit(
    stream: UnixStream,
    id: ConnectionId,
    inputs: &mpsc::Sender<DriverInput>,
    guards: (OpenConnection, Writing),
) {
    if let Err(error) = require_own_peer(&stream) {
        tracing::warn!("rejecting a control connection: {error}");
        return;
    }
    let pid = peer_pid(&stream);
    let (reading, sending) = stream.into_split();
    let (mailbox, replies) = mpsc::channel(REPLIES_WAITING_MAX);
    // This is sent before the reader starts, so that the core knows the client before its first frame.
    if inputs.send(DriverInput::Connected(id, mailbox, pid)).await.is_ok() {
        let (writer_guard, writer_ended) = oneshot::channel();
        tokio::spawn(write_all(sending, replies, guards, writer_guard));
        tokio::spawn(read_all(reading, id, inputs.clone(), writer_ended));
    }
}

/// Reads frames until the client closes the connection or the daemon has written its last reply.
/// Anything that the client sends after that is not read.
async fn read_all(
    reading: OwnedReadHalf,
    id: ConnectionId,
    inputs: mpsc::Sender<DriverInput>,
    mut writer_ended: oneshot::Receiver<()>,
) {
    let mut frames = incoming(reading);
    loop {
        let received = tokio::select! {
            received = frames.next() => received,
            _ = &mut writer_ended => Incoming::End,
        };
        let (event, is_last) = match received {
            Incoming::Frame(frame) => (DaemonEvent::Frame(id, frame), false),
            Incoming::Broken(error) => (DaemonEvent::Broken(id, error.to_string()), true),
            Incoming::End => (DaemonEvent::Disconnected(id), true),
        };
        if inputs.send(DriverInput::Event(event)).await.is_err() || is_last {
            return;
        }
    }
}

/// Writes replies until the mailbox is dropped or the client does not read; then drops the guards.
async fn write_all(
    sending: OwnedWriteHalf,
    mut replies: mpsc::Receiver<reply::Kind>,
    guards: (OpenConnection, Writing),
    writer_guard: oneshot::Sender<()>,
) {
    let mut frames = outgoing(sending, WRITE_WAIT_MAX);
    while let Some(reply) = replies.recv().await {
        if !frames.send(reply).await {
            break;
        }
    }
    frames.finish().await;
    drop((guards, writer_guard));
}

/// The mailboxes of all clients, each with the id of the client's process.
#[derive(Debug, Default)]
pub(super) struct Mailboxes(HashMap<ConnectionId, (Mailbox, Option<i32>)>);

impl Mailboxes {
    pub(super) fn add(&mut self, id: ConnectionId, mailbox: Mailbox, pid: Option<i32>) {
        self.0.insert(id, (mailbox, pid));
    }

    /// Sends a reply without waiting. A client that has [`REPLIES_WAITING_MAX`] replies unread is
    /// disconnected.
    pub(super) fn send(&mut self, id: ConnectionId, kind: reply::Kind) {
        if let Some((mailbox, _)) = self.0.get(&id)
            && mailbox.try_send(kind).is_err()
        {
            self.0.remove(&id);
        }
    }

    /// Returns a weak sender to a client, which does not keep the connection open, and the id of the
    /// client's process; `None` if the client is gone.
    pub(super) fn replies(&self, id: ConnectionId) -> Option<(mpsc::WeakSender<reply::Kind>, Option<i32>)> {
        self.0.get(&id).map(|(mailbox, pid)| (mailbox.downgrade(), *pid))
    }

    /// Closes the connection after the replies that were sent.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.0.remove(&id);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }
}
