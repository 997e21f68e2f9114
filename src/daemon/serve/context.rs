//! What a request handler is given: the store, the limits, who is asking and what they may.
//!
//! It decides nothing: what a caller may do is decided by [`Peer::admit`] for each request,
//! because credentials come with requests and not with connections.

use std::ops::Deref;
use std::sync::Arc;

use kache_cas::{ActionCache, BlobStore, Counters, Store, StoreStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::admission::Peer;
use super::auth::Access;
use super::limits::Limits;
use super::meters::Meters;
use super::metrics::ServeMetrics;
use super::status::over_limit;
use crate::daemon::{Activity, Draining};

/// The store as far as the served protocols need it.
pub trait Backend: Send + Sync + 'static {
    /// Bytes by digest.
    fn blobs(&self) -> &dyn BlobStore;
    /// Results by action; only complete ones (STO-03).
    fn actions(&self) -> &dyn ActionCache;
    /// What it holds, for the status page.
    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }
    /// What happened since it was opened, for `/metrics`.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl Backend for Store {
    fn blobs(&self) -> &dyn BlobStore {
        self.blobs()
    }

    fn actions(&self) -> &dyn ActionCache {
        self.actions()
    }

    fn status(&self) -> StoreStatus {
        self.status()
    }

    fn counters(&self) -> Counters {
        self.counters()
    }
}

/// What every connection of a daemon shares.
pub struct Shared {
    /// The store.
    pub store: Arc<dyn Backend>,
    /// The limits.
    pub limits: Limits,
    /// How gRPC requests ended.
    pub meters: Meters,
    /// How HTTP requests went, and what happened at the door.
    pub metrics: Arc<ServeMetrics>,
    /// Requests in flight and connections open.
    pub activity: Arc<Activity>,
    /// Room for large messages, in units of `MEMORY_UNIT_BYTES`.
    memory: Arc<Semaphore>,
}

/// One permit of the memory budget.
const MEMORY_UNIT_BYTES: usize = 1024;

impl Shared {
    /// What a daemon with this store shares.
    pub fn new(store: Arc<dyn Backend>, limits: Limits, activity: Arc<Activity>) -> Arc<Self> {
        let memory_units = limits.messages_in_memory_bytes_max / MEMORY_UNIT_BYTES;
        let memory = Arc::new(Semaphore::new(memory_units));
        let (meters, metrics) = (Meters::default(), Arc::default());
        Arc::new(Shared { store, limits, meters, metrics, activity, memory })
    }

    /// Waits for room for a message of this size, for as long as a client is waited for.
    /// Small ones need none. The room is given back when what is returned is dropped.
    pub async fn reserve(&self, bytes: usize) -> Result<Room, Status> {
        if bytes <= Limits::MESSAGE_BYTES_UNBUDGETED {
            return Ok(Room::none());
        }
        self.reserve_any(bytes).await
    }

    /// The same for one of many that are gathered, where small ones count too.
    pub async fn reserve_any(&self, bytes: usize) -> Result<Room, Status> {
        let limit = self.limits.messages_in_memory_bytes_max;
        let busy = || over_limit(Code::ResourceExhausted, "busy", "messages_in_memory_bytes_max", limit);
        let units = bytes.min(limit) / MEMORY_UNIT_BYTES;
        let units = u32::try_from(units.max(1)).map_err(|_| busy())?;
        let permits = Arc::clone(&self.memory).acquire_many_owned(units);
        match tokio::time::timeout(self.limits.stream_idle_max, permits).await {
            Ok(Ok(permits)) => Ok(Room(Some(permits))),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// Memory that was reserved for a message, until it is dropped.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for what dropping it does")] Option<OwnedSemaphorePermit>);

/// A connection, as far as a handler needs to know it.
pub struct Connection {
    /// What every connection shares.
    pub shared: Arc<Shared>,
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether the daemon wants to leave.
    pub draining: Draining,
}

/// What a handler is given: its connection, and what this request's sender may do. Cheap to
/// clone: processors that count up and down together what all connections share wait for each
/// other.
#[derive(Clone)]
pub struct Context {
    connection: Arc<Connection>,
    /// For a connection that has not asked for anything yet, nothing.
    pub access: Access,
}

impl Deref for Context {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Context {
    /// For a connection from this peer: nothing is granted before a request was admitted.
    pub fn new(shared: Arc<Shared>, peer: Peer, draining: Draining) -> Self {
        let connection = Arc::new(Connection { shared, peer, draining });
        Context { connection, access: Access::None }
    }

    /// The same with what a request was granted.
    pub fn with_access(self, access: Access) -> Self {
        Context { access, ..self }
    }

    /// Bytes by digest.
    pub fn blobs(&self) -> &dyn BlobStore {
        self.shared.store.blobs()
    }

    /// Results by action.
    pub fn actions(&self) -> &dyn ActionCache {
        self.shared.store.actions()
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }
}

impl Room {
    /// For what needs none.
    pub fn none() -> Self {
        Room(None)
    }
}
