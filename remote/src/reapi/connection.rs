//! The one warm connection to a server, and what the server offers on it.
//!
//! A connection is made when the first request needs it, and again after one that failed. It is closed when
//! it was not used for a while. Requests that are under way keep theirs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use super::capabilities::Offer;
use super::connector::Connector;
use super::stall::WatchedChannel;
use crate::http_headers::{fixed_headers, user_agent};
use crate::options::{OptionsError, RemoteLimits, RemoteOptions};
use crate::pace::Pace;
use crate::token_source::TokenSource;

/// How long the server may be silent while a request is open before it is asked whether it is there. Servers
/// close connections that ask often, so this is longer than the usual limit of one request.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// The window of one stream. With the default of 64 KiB, a network with 50 ms of delay carries 1.3 MB/s.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The window of all streams together.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What a server offers, and the number of connections that were begun when it said so.
type KnownOffer = Option<(u64, Offer)>;

/// A connection to a server of the Remote Execution API.
pub(super) struct Connection {
    /// The way on which requests are sent.
    pub(super) channel: WatchedChannel,
    /// What the server offers. The lock is held while it is asked, so that it is asked once.
    pub(super) offer: tokio::sync::Mutex<KnownOffer>,
    used: Mutex<Instant>,
}

impl Connection {
    fn is_idle(&self, limit: Duration) -> bool {
        self.used.lock().elapsed() >= limit
    }
}

type Slot = Mutex<Option<Arc<Connection>>>;

/// The connection to one location.
pub(super) struct Connections {
    connector: Connector,
    endpoint: Endpoint,
    limits: RemoteLimits,
    tokens: Option<Arc<TokenSource>>,
    current: Arc<Slot>,
}

impl Connections {
    /// Prepares the connection, and makes none yet.
    pub(super) fn new(connector: Connector, options: &RemoteOptions) -> Result<Connections, OptionsError> {
        let wrong = |why: String| OptionsError::Location { location: connector.location().to_string(), why };
        let endpoint = Endpoint::from_shared(connector.location().origin())
            .map_err(|error| wrong(error.to_string()))?
            .user_agent(user_agent(options)?)
            .map_err(|error| wrong(error.to_string()))?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(options.limits.stall);
        let tokens = TokenSource::new(options, &fixed_headers(options)?);
        Ok(Connections { connector, endpoint, limits: options.limits, tokens, current: Arc::default() })
    }

    /// Returns the connector.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Returns the connection that is in use, or a new one.
    pub(super) fn get(&self) -> Arc<Connection> {
        let mut current = self.current.lock();
        match &*current {
            Some(connection) if !connection.channel.is_broken() => {
                *connection.used.lock() = Instant::now();
                Arc::clone(connection)
            }
            _ => {
                let connection = self.open();
                *current = Some(Arc::clone(&connection));
                connection
            }
        }
    }

    fn open(&self) -> Arc<Connection> {
        let channel = self.endpoint.connect_with_connector_lazy(self.connector.clone());
        let channel = WatchedChannel::new(channel, self.limits.connect, Pace::of(&self.limits))
            .with_tokens(self.tokens.clone());
        let used = Mutex::new(Instant::now());
        let connection = Arc::new(Connection { channel, offer: Default::default(), used });
        let (slot, weak) = (Arc::downgrade(&self.current), Arc::downgrade(&connection));
        tokio::spawn(close_when_idle(slot, weak, self.limits.idle));
        connection
    }
}

/// Forgets a connection that was not used for `idle`.
async fn close_when_idle(slot: Weak<Slot>, connection: Weak<Connection>, idle: Duration) {
    loop {
        let Some(until) = connection.upgrade().map(|connection| *connection.used.lock() + idle) else {
            return;
        };
        tokio::time::sleep_until(until).await;
        let (Some(slot), Some(connection)) = (slot.upgrade(), connection.upgrade()) else { return };
        let mut current = slot.lock();
        if connection.is_idle(idle) {
            current.take_if(|current| Arc::ptr_eq(current, &connection));
            return;
        }
    }
}
