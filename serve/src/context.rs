//! The arguments of a request handler: the store, the limits, the client and its access.
//!
//! It decides nothing. [`Peer::admit`] decides for each request what the caller may do, because
//! credentials come with requests and not with connections.

use std::ops::Deref;
use std::sync::Arc;

use kache_cas::{ActionCache, BlobStore, Counters, Store, StoreStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::admission::Peer;
use super::auth::Access;
use super::grpc_metrics::GrpcMetrics;
use super::limits::ServeLimits;
use super::metrics::ServeMetrics;
use super::status::over_limit;
use crate::program::{ActivityCounter, DrainSignal};

/// The store, as far as the served protocols need it.
pub trait Backend: Send + Sync + 'static {
    /// Returns the part of the store that holds blobs.
    fn blobs(&self) -> &dyn BlobStore;
    /// The action results, of which only complete ones are returned (STO-03).
    fn actions(&self) -> &dyn ActionCache;
    /// The size and state of the store, for `/status`.
    fn status(&self) -> StoreStatus {
        StoreStatus::default()
    }
    /// Counters since the store was opened, for `/metrics`.
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

/// The state that all connections share.
pub struct ServerState {
    /// The store from which all connections are served.
    pub store: Arc<dyn Backend>,
    /// The limits of the protocols.
    pub limits: ServeLimits,
    /// Counts gRPC requests by method and code.
    pub grpc_metrics: GrpcMetrics,
    /// Counts HTTP requests, connections and requests that were not admitted.
    pub metrics: Arc<ServeMetrics>,
    /// Counts requests and connections for the daemon, which does not leave while there are any.
    pub activity: Arc<dyn ActivityCounter>,
    /// The memory budget for large messages: one permit is `MEMORY_UNIT_BYTES`.
    memory: Arc<Semaphore>,
}

/// How many bytes of memory one permit stands for.
const MEMORY_UNIT_BYTES: usize = 1024;

impl ServerState {
    /// The shared state for this store, with all counters at zero.
    pub fn new(
        store: Arc<dyn Backend>,
        limits: ServeLimits,
        activity: Arc<dyn ActivityCounter>,
    ) -> Arc<Self> {
        let memory_units = limits.messages_in_memory_bytes_max / MEMORY_UNIT_BYTES;
        let memory = Arc::new(Semaphore::new(memory_units));
        let (grpc_metrics, metrics) = (GrpcMetrics::default(), Arc::default());
        Arc::new(ServerState { store, limits, grpc_metrics, metrics, activity, memory })
    }

    /// Reserves memory for a message of this size, and waits for it up to `stream_idle_max`.
    /// A message of at most `MESSAGE_BYTES_UNBUDGETED` needs none. Dropping the reservation
    /// gives the memory back.
    pub async fn reserve(&self, bytes: usize) -> Result<MemoryReservation, Status> {
        if bytes <= ServeLimits::MESSAGE_BYTES_UNBUDGETED {
            return Ok(MemoryReservation::none());
        }
        self.reserve_any(bytes).await
    }

    /// The same for messages of which many are held at once, so that small ones count, too.
    pub async fn reserve_any(&self, bytes: usize) -> Result<MemoryReservation, Status> {
        let limit = self.limits.messages_in_memory_bytes_max;
        let busy = || over_limit(Code::ResourceExhausted, "busy", "messages_in_memory_bytes_max", limit);
        let units = bytes.min(limit) / MEMORY_UNIT_BYTES;
        let units = u32::try_from(units.max(1)).map_err(|_| busy())?;
        let permits = Arc::clone(&self.memory).acquire_many_owned(units);
        match tokio::time::timeout(self.limits.stream_idle_max, permits).await {
            Ok(Ok(permits)) => Ok(MemoryReservation(Some(permits))),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// Memory that is reserved for a message until this is dropped.
#[derive(Debug)]
pub struct MemoryReservation(
    #[expect(dead_code, reason = "held for what dropping it does")] Option<OwnedSemaphorePermit>,
);

/// The connection on which a request came.
pub struct ConnectionContext {
    /// The state that all connections share.
    pub shared: Arc<ServerState>,
    /// The client at the other end of the connection.
    pub peer: Peer,
    /// Tells whether the daemon is draining.
    pub draining: DrainSignal,
}

/// The argument of a handler: the connection, and the access of the caller.
///
/// Cloning it changes one reference count, which belongs to this connection alone. Counts that
/// all connections share would make processors wait for each other.
#[derive(Clone)]
pub struct RequestContext {
    connection: Arc<ConnectionContext>,
    /// `Access::None` until a request was admitted.
    pub access: Access,
}

impl Deref for RequestContext {
    type Target = ConnectionContext;

    fn deref(&self) -> &ConnectionContext {
        &self.connection
    }
}

impl RequestContext {
    /// A context for a connection from this peer, which grants nothing yet.
    pub fn new(shared: Arc<ServerState>, peer: Peer, draining: DrainSignal) -> Self {
        let connection = Arc::new(ConnectionContext { shared, peer, draining });
        RequestContext { connection, access: Access::None }
    }

    /// The same connection with the access that a request was granted.
    pub fn with_access(self, access: Access) -> Self {
        RequestContext { access, ..self }
    }

    /// The blobs of the store.
    pub fn blobs(&self) -> &dyn BlobStore {
        self.shared.store.blobs()
    }

    /// The action results of the store.
    pub fn actions(&self) -> &dyn ActionCache {
        self.shared.store.actions()
    }

    /// The limits of the protocols.
    pub fn limits(&self) -> &ServeLimits {
        &self.shared.limits
    }
}

impl MemoryReservation {
    /// A reservation of no memory.
    pub fn none() -> Self {
        MemoryReservation(None)
    }
}
