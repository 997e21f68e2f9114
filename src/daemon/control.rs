//! The control socket: connections come in, frames become events, replies go out.
//!
//! Only this user's processes are heard (DMN-02): the directory is private, and the peer is
//! asked all the same. What a frame means is the core's business.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kache_client::control::reply;
use kache_client::os::{peer_pid, require_own_peer};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::activity::{Activity, OpenConnection};
use super::core::{ConnectionId, Event};
use crate::control::{Incoming, WRITE_WAIT_MAX, incoming, outgoing};
use crate::daemon::Draining;

/// How many replies may wait for a client to read them. It sends one request at a time.
const REPLIES_WAITING_MAX: usize = 16;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What the driver is told by the tasks here.
#[derive(Debug)]
pub(super) enum Signal {
    /// A client connected; this is its mailbox, and its process where the system says.
    Connected(ConnectionId, Mailbox, Option<i32>),
    /// Something happened on a connection.
    Event(Event),
}

/// Held by every task that writes to a client; when the last one is dropped, all that was to be
/// said is said.
pub(super) type Writing = mpsc::Sender<()>;

/// Where replies to one client go. Dropping it closes the connection after them.
pub(super) type Mailbox = mpsc::Sender<reply::Kind>;

/// Accepts until draining begins.
pub(super) async fn accept_all(
    listener: UnixListener,
    signals: mpsc::Sender<Signal>,
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
                admit(stream, next_id, &signals, (activity.connection(), writing.clone())).await;
            }
            Err(error) => {
                tracing::warn!("failed to accept a control connection: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn admit(
    stream: UnixStream,
    id: ConnectionId,
    signals: &mpsc::Sender<Signal>,
    held: (OpenConnection, Writing),
) {
    if let Err(error) = require_own_peer(&stream) {
        tracing::warn!("turning a control connection away: {error}");
        return;
    }
    let process = peer_pid(&stream);
    let (reading, sending) = stream.into_split();
    let (mailbox, letters) = mpsc::channel(REPLIES_WAITING_MAX);
    // Sent before the reader begins, so that the client is known before its first frame.
    if signals.send(Signal::Connected(id, mailbox, process)).await.is_ok() {
        let (written, hung_up) = oneshot::channel();
        tokio::spawn(write_all(sending, letters, held, written));
        tokio::spawn(read_all(reading, id, signals.clone(), hung_up));
    }
}

/// Reads until the client is gone, or until it was dismissed and had its last reply: what it
/// floods us with after that is not even read.
async fn read_all(
    reading: OwnedReadHalf,
    id: ConnectionId,
    signals: mpsc::Sender<Signal>,
    mut hung_up: oneshot::Receiver<()>,
) {
    let mut frames = incoming(reading);
    loop {
        let came = tokio::select! {
            came = frames.next() => came,
            _ = &mut hung_up => Incoming::End,
        };
        let (event, is_last) = match came {
            Incoming::Frame(frame) => (Event::Frame(id, frame), false),
            Incoming::Broken(error) => (Event::Broken(id, error.to_string()), true),
            Incoming::End => (Event::Disconnected(id), true),
        };
        if signals.send(Signal::Event(event)).await.is_err() || is_last {
            return;
        }
    }
}

async fn write_all(
    sending: OwnedWriteHalf,
    mut letters: mpsc::Receiver<reply::Kind>,
    held: (OpenConnection, Writing),
    written: oneshot::Sender<()>,
) {
    let mut frames = outgoing(sending, WRITE_WAIT_MAX);
    while let Some(letter) = letters.recv().await {
        if !frames.send(letter).await {
            break;
        }
    }
    frames.finish().await;
    drop((held, written));
}

/// The clients that can be written to.
#[derive(Debug, Default)]
pub(super) struct Mailboxes(HashMap<ConnectionId, (Mailbox, Option<i32>)>);

impl Mailboxes {
    pub(super) fn add(&mut self, id: ConnectionId, mailbox: Mailbox, process: Option<i32>) {
        self.0.insert(id, (mailbox, process));
    }

    /// Sends without waiting. A client that has let so many replies lie gets no more.
    pub(super) fn send(&mut self, id: ConnectionId, kind: reply::Kind) {
        if let Some((mailbox, _)) = self.0.get(&id)
            && mailbox.try_send(kind).is_err()
        {
            self.0.remove(&id);
        }
    }

    /// A way to this client that keeps nothing open, and its process.
    pub(super) fn replies(&self, id: ConnectionId) -> Option<(mpsc::WeakSender<reply::Kind>, Option<i32>)> {
        self.0.get(&id).map(|(mailbox, process)| (mailbox.downgrade(), *process))
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        self.0.remove(&id);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }
}
