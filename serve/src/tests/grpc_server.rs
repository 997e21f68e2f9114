//! A server in this process and generated clients of it, for the tests of the gRPC services.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Task, Poll};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use hyper_util::rt::TokioIo;
use kache_cas::{
    AccessKind, ActionCache, ActionKey, BlobNames, BlobStore, BlobWriter, Content, Digest, DigestFunction,
    Hash, Store, StoreError, StoreSettings, StoredResult,
};
use kache_proto::bytestream::byte_stream_client::ByteStreamClient;
use kache_proto::health::health_client::HealthClient;
use kache_proto::reapi;
use kache_proto::reapi::action_cache_client::ActionCacheClient;
use kache_proto::reapi::capabilities_client::CapabilitiesClient;
use kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use tokio::io::DuplexStream;
use tonic::transport::{Channel, Endpoint};

use super::program::{CountedActivity, DrainSwitch};
use crate::admission::{ListenerRules, Peer};
use crate::auth::{Access, AccessPolicy};
use crate::context::{Backend, RequestContext, ServerState};
use crate::limits::ServeLimits;
use crate::program::ActivityCounter;
use crate::{protocol_router, wire_digest};

/// Bytes in the pipe between client and server.
const PIPE_BYTES: usize = 256 * 1024;

/// A server in this process, to which clients connect by pipes.
pub(super) struct InProcessServer {
    pub(super) shared: Arc<ServerState>,
    pub(super) activity: Arc<CountedActivity>,
    pub(super) rules: Arc<ListenerRules>,
    pub(super) drain: DrainSwitch,
}

impl InProcessServer {
    /// A server with an empty store in memory.
    pub(super) fn new() -> Self {
        InProcessServer::with(memory(), ServeLimits::default())
    }

    pub(super) fn with(store: Arc<dyn Backend>, limits: ServeLimits) -> Self {
        let activity = Arc::new(CountedActivity::default());
        let counter: Arc<dyn ActivityCounter> = Arc::<CountedActivity>::clone(&activity);
        let shared = ServerState::new(store, limits, counter);
        let rules = Arc::new(ListenerRules::this_user());
        InProcessServer { shared, activity, rules, drain: DrainSwitch::default() }
    }

    /// A server with an empty store in this directory.
    pub(super) fn on_disk(dir: &Path) -> Self {
        let store = Store::open(StoreSettings::new(dir)).unwrap();
        InProcessServer::with(Arc::new(store), ServeLimits::default())
    }

    /// A server of the same store that grants reading only.
    pub(super) fn read_only(&self) -> Self {
        self.granting(Access::ReadOnly)
    }

    /// A server of the same store that grants at most this.
    pub(super) fn granting(&self, access: Access) -> Self {
        let policy = AccessPolicy { anonymous: access, certificate: Access::None, ceiling: access };
        let rules = Arc::new(ListenerRules { policy, ..ListenerRules::this_user() });
        let (shared, activity) = (Arc::clone(&self.shared), Arc::clone(&self.activity));
        InProcessServer { shared, activity, rules, drain: DrainSwitch::default() }
    }

    fn context(&self) -> RequestContext {
        let peer = Peer::this_user(Arc::clone(&self.rules));
        RequestContext::new(Arc::clone(&self.shared), peer, self.drain.subscribe())
    }

    /// One connection, as bytes.
    pub(super) fn connect(&self) -> DuplexStream {
        connect(self.context())
    }

    /// One connection, for generated clients.
    pub(super) async fn channel(&self) -> Channel {
        self.endpoint(Endpoint::from_static("http://localhost")).await
    }

    pub(super) async fn endpoint(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector(Connector(self.context())).await.unwrap()
    }

    pub(super) async fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel().await)
    }

    pub(super) async fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel().await)
    }

    pub(super) async fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        let client = ContentAddressableStorageClient::new(self.channel().await);
        client.max_encoding_message_size(usize::MAX)
    }

    pub(super) async fn bytestream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel().await)
    }

    pub(super) async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }

    /// Puts a blob into the store directly.
    pub(super) fn insert(&self, function: DigestFunction, bytes: &[u8]) -> Digest {
        let digest = Digest::of(function, bytes);
        let outcomes = self.shared.store.blobs().insert(&[(digest, Bytes::copy_from_slice(bytes))]);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        digest
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.shared.store.blobs().find_missing(&[*digest], AccessKind::Peek).unwrap() == [false]
    }
}

/// An empty store in memory.
pub(super) fn memory() -> Arc<Store> {
    Arc::new(Store::in_memory(StoreSettings::new("/nowhere")))
}

fn connect(context: RequestContext) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(protocol_router::serve(theirs, context));
    ours
}

#[derive(Clone)]
struct Connector(RequestContext);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = connect(self.0.clone());
        Box::pin(async move { Ok(TokioIo::new(stream)) })
    }
}

/// The digest as messages carry it.
pub(super) fn wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash.to_hex(), size_bytes: i64::try_from(digest.size_bytes).unwrap() }
}

pub(super) fn value(function: DigestFunction) -> i32 {
    wire_digest::function_value(function)
}

/// Bytes that compress a little and differ with the seed.
pub(super) fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x1f
    };
    (0..len).map(|_| next()).collect()
}

/// A store whose calls can be made to fail, or whose writes are slow.
pub(super) struct FaultyStore {
    store: Arc<Store>,
    pub(super) is_failing: AtomicBool,
    pub(super) raw_os_error: i32,
    pub(super) writers_take: Duration,
    /// The threads on which blobs were opened.
    pub(super) opened_on: parking_lot::Mutex<Vec<ThreadId>>,
}

impl FaultyStore {
    pub(super) fn new(raw_os_error: i32) -> Arc<Self> {
        let (store, is_failing) = (memory(), AtomicBool::new(false));
        let writers_take = Duration::ZERO;
        Arc::new(FaultyStore { store, is_failing, raw_os_error, writers_take, opened_on: Default::default() })
    }

    /// A store that never fails, and whose writes take this long.
    pub(super) fn slow(writers_take: Duration) -> Arc<Self> {
        let (store, is_failing) = (memory(), AtomicBool::new(false));
        let opened_on = Default::default();
        Arc::new(FaultyStore { store, is_failing, raw_os_error: 0, writers_take, opened_on })
    }

    fn delay(&self) {
        if !self.writers_take.is_zero() {
            std::thread::sleep(self.writers_take);
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if !self.is_failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let source = std::io::Error::from_raw_os_error(self.raw_os_error);
        Err(StoreError::io("open", "/a/place", source))
    }
}

impl Backend for FaultyStore {
    fn blobs(&self) -> &dyn BlobStore {
        self
    }
    fn actions(&self) -> &dyn ActionCache {
        self
    }
}

impl BlobStore for FaultyStore {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        self.check()?;
        self.store.blobs().find_missing(digests, access)
    }
    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        self.opened_on.lock().push(std::thread::current().id());
        self.check()?;
        self.store.blobs().open(digest, access)
    }
    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.check()?;
        self.store.blobs().size_of(function, hash)
    }
    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.check()?;
        self.store.blobs().names_of(digest)
    }
    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.check()?;
        self.delay();
        self.store.blobs().create(digest)
    }
    fn deletions(&self) -> u64 {
        self.store.blobs().deletions()
    }
    fn may_block(&self) -> bool {
        !self.writers_take.is_zero()
    }
}

impl ActionCache for FaultyStore {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        self.check()?;
        self.store.actions().get(key, access)
    }
    fn put(&self, key: &ActionKey, result: &reapi::ActionResult) -> Result<StoredResult, StoreError> {
        self.check()?;
        self.delay();
        self.store.actions().put(key, result)
    }
    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        self.store.actions().remove(key)
    }
    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        self.store.actions().page(after, results_max)
    }
}
