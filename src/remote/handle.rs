//! A remote with its settings, and with the breaker that keeps a remote in trouble away from builds (NET-01).
//!
//! A request that fails or takes too long opens the breaker, and so does a build session that has lost its limit
//! to the remote (`remote::asked`). While it is open, no call waits for the remote.
//! A task in the background asks the remote every few seconds and closes the breaker when it answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kache_cas::{DigestFunction, Hash};
use kache_remote::{Capabilities, Remote, RemoteError};
use parking_lot::Mutex;

use super::damaged::DamagedBlobs;
use super::flights::BlobFlights;

/// The interval at which a remote in trouble is asked again.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The longest wait for a remote that is asked again, in the background.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// The length of an id: enough that the remotes of one machine differ.
const ID_DIGITS: usize = 16;

/// The interval at which a remote is asked whether it still has a toolchain.
const TOOLCHAIN_EVERY: Duration = Duration::from_secs(60 * 60);

/// The time limits of a remote's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// The longest wait for a connection and the server's capabilities.
    pub connect: Duration,
    /// The longest wait for one lookup.
    pub lookup: Duration,
    /// The most time that one build session loses to the remote.
    pub stall: Duration,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        AnswerLimits {
            connect: Duration::from_secs(1),
            lookup: Duration::from_millis(250),
            stall: Duration::from_secs(2),
        }
    }
}

/// The two ways to a remote, which differ in their patience.
#[derive(Clone, Debug)]
pub struct RemoteConnections {
    /// For lookups and downloads, which a build waits for.
    pub reader: Arc<dyn Remote>,
    /// For uploads.
    pub writer: Arc<dyn Remote>,
}

/// What a remote is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteUses {
    /// Whether compiles look results up there.
    pub reads: bool,
    /// Whether results are uploaded.
    pub writes: bool,
    /// Whether the inputs of actions are uploaded, too.
    pub uploads_inputs: bool,
}

#[cfg(test)]
impl RemoteUses {
    pub(crate) const READ_WRITE: RemoteUses = RemoteUses { reads: true, writes: true, uploads_inputs: false };
}

/// A remote with its settings and its breaker.
#[derive(Debug)]
pub struct RemoteHandle {
    /// The remote, for lookups and downloads, which a build waits for.
    pub remote: Arc<dyn Remote>,
    /// The same remote, for uploads. It waits longer for a remote that stalls.
    pub writer: Arc<dyn Remote>,
    /// The name that logs and reports show. It holds no credentials.
    pub name: String,
    /// The name of a file or directory that stands for this remote. Other credentials do not change it.
    pub id: String,
    /// Whether compiles look results up there.
    pub reads: bool,
    /// Whether results are uploaded.
    pub writes: bool,
    /// Whether the inputs of actions are uploaded, too.
    pub uploads_inputs: bool,
    /// The blobs that are being fetched from there.
    pub(super) flights: BlobFlights,
    /// The blobs that have other bytes there. The next upload that has them replaces them.
    pub(super) damaged: DamagedBlobs,
    limits: AnswerLimits,
    state: Mutex<HandleState>,
    uploads_waiting: AtomicU64,
    uploads_dropped: AtomicU64,
    /// When the upload of a toolchain was last begun, by the hash of its tree.
    toolchains: Mutex<HashMap<Hash, Instant>>,
}

#[derive(Debug, Default)]
struct HandleState {
    /// The capabilities that the remote last told.
    capabilities: Option<Capabilities>,
    /// Why the breaker is open; `None` if it is closed.
    trouble: Option<String>,
    /// What the remote answered when it refused the last lookup or download; `None` if it did not.
    refused_read: Option<String>,
    /// What the remote answered when it refused the last upload; `None` if it did not.
    refused_upload: Option<String>,
}

impl RemoteHandle {
    /// Creates the handle of a remote whose breaker is closed.
    pub fn new(
        RemoteConnections { reader, writer }: RemoteConnections,
        name: String,
        RemoteUses { reads, writes, uploads_inputs }: RemoteUses,
        limits: AnswerLimits,
    ) -> Arc<RemoteHandle> {
        Arc::new(RemoteHandle {
            remote: reader,
            writer,
            id: DigestFunction::Blake3.hash(name.as_bytes()).to_hex()[..ID_DIGITS].to_owned(),
            name,
            reads,
            writes,
            uploads_inputs,
            flights: BlobFlights::default(),
            damaged: DamagedBlobs::default(),
            limits,
            state: Mutex::default(),
            uploads_waiting: AtomicU64::new(0),
            uploads_dropped: AtomicU64::new(0),
            toolchains: Mutex::default(),
        })
    }

    /// Returns the time limits of the remote's answers.
    pub fn limits(&self) -> &AnswerLimits {
        &self.limits
    }

    /// Returns why the remote is not used at present: the cause in the remote's or the system's words.
    pub fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.clone()
    }

    /// Returns why builds go on without the remote at present: it is in trouble, or refuses what they ask for.
    pub fn unusable_for_reads(&self) -> Option<String> {
        let state = self.state.lock();
        state.trouble.clone().or_else(|| state.refused_read.as_ref().map(|words| format!("refused: {words}")))
    }

    /// Returns what the remote refuses at present, in its words.
    pub fn refusals(&self) -> Vec<String> {
        let state = self.state.lock();
        let named = |what, words: &Option<String>| words.as_ref().map(|words| format!("{what}: {words}"));
        let refusals = [named("lookups", &state.refused_read), named("uploads", &state.refused_upload)];
        refusals.into_iter().flatten().collect()
    }

    /// Notes whether the remote has refused an upload, and its words.
    pub fn note_upload_refused(&self, words: Option<&str>) {
        self.state.lock().refused_upload = words.map(str::to_owned);
    }

    /// Returns how many uploads wait for the remote or are under way.
    pub fn uploads_waiting(&self) -> u64 {
        self.uploads_waiting.load(Ordering::Relaxed)
    }

    /// Returns how many uploads were dropped without having been made.
    pub fn uploads_dropped(&self) -> u64 {
        self.uploads_dropped.load(Ordering::Relaxed)
    }

    /// Notes that an upload was dropped. Only the first one is logged, because often many follow.
    pub fn note_dropped(&self, why: &str) {
        if self.uploads_dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("an upload to {} is dropped: {why}", self.name);
        }
    }

    /// Whether a toolchain is to be uploaded now. That is so once an hour, because a remote may lose it.
    pub fn begin_toolchain(&self, tree: Hash) -> bool {
        let (mut toolchains, now) = (self.toolchains.lock(), Instant::now());
        let is_due = toolchains.get(&tree).is_none_or(|begun| now.duration_since(*begun) >= TOOLCHAIN_EVERY);
        if is_due {
            toolchains.insert(tree, now);
        }
        is_due
    }

    /// Notes that an upload waits for the remote, until the returned value is dropped.
    pub fn note_upload(self: &Arc<Self>) -> WaitingUpload {
        self.uploads_waiting.fetch_add(1, Ordering::Relaxed);
        WaitingUpload { handle: Arc::clone(self) }
    }

    /// Returns the function of the remote's digests, if it follows from the kind of the remote or if the remote has
    /// told it.
    pub fn function(&self) -> Option<DigestFunction> {
        let told = self.state.lock().capabilities.map(|capabilities| capabilities.function);
        told.or_else(|| self.remote.fixed_function())
    }

    /// Whether results may be uploaded, as far as settings and the remote say.
    pub fn takes_results(&self) -> bool {
        self.writes && self.state.lock().capabilities.is_none_or(|capabilities| capabilities.takes_results)
    }

    /// Returns what the remote offers. Waits for a connection if there is none.
    pub async fn capabilities(self: &Arc<Self>) -> Result<Capabilities, RemoteError> {
        let limit = self.limits.connect + self.limits.lookup;
        let capabilities = self.within(limit, self.remote.capabilities()).await?;
        self.state.lock().capabilities = Some(capabilities);
        Ok(capabilities)
    }

    /// Waits for a lookup, for as long as one may take.
    pub async fn lookup<T>(
        self: &Arc<Self>,
        lookup: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let outcome = self.within(self.limits.lookup, lookup).await;
        if outcome.is_ok() {
            self.state.lock().refused_read = None;
        }
        outcome
    }

    /// Asks a remote in trouble at once whether it answers again, and if so, closes the breaker.
    pub async fn close_breaker(&self) {
        if self.trouble().is_some() {
            self.try_to_close().await;
        }
    }

    /// Returns whether the remote answered.
    async fn try_to_close(&self) -> bool {
        let answer = tokio::time::timeout(PROBE_MAX, self.remote.capabilities()).await;
        let Ok(Ok(capabilities)) = answer else { return false };
        let mut state = self.state.lock();
        state.capabilities = Some(capabilities);
        state.trouble = None;
        tracing::info!("the remote {} answers again", self.name);
        true
    }

    /// Notes how a request ended that has time limits of its own. A remote that did not answer opens the
    /// breaker.
    pub fn note<T>(self: &Arc<Self>, outcome: Result<T, RemoteError>) -> Result<T, RemoteError> {
        match &outcome {
            Err(RemoteError::Refused { message }) => {
                self.state.lock().refused_read = Some(message.clone());
            }
            Err(error) if error.is_transient() => self.open_breaker(error),
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    async fn within<T>(
        self: &Arc<Self>,
        limit: Duration,
        request: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let too_late = || RemoteError::unavailable(format!("no answer within {} ms", limit.as_millis()));
        self.note(tokio::time::timeout(limit, request).await.unwrap_or_else(|_| Err(too_late())))
    }

    /// Opens the breaker, and starts the task that closes it again.
    fn open_breaker(self: &Arc<Self>, error: &RemoteError) {
        let was_closed = self.state.lock().trouble.replace(error.to_string()).is_none();
        if was_closed {
            tracing::warn!("the remote {} is not used until it answers again: {error}", self.name);
            tokio::spawn(close_when_it_answers(Arc::downgrade(self)));
        }
    }
}

/// An upload that is being made, waits for a remote or is under way.
#[derive(Debug)]
pub struct WaitingUpload {
    handle: Arc<RemoteHandle>,
}

impl WaitingUpload {
    /// Returns the remote.
    pub fn handle(&self) -> &Arc<RemoteHandle> {
        &self.handle
    }
}

impl Drop for WaitingUpload {
    fn drop(&mut self) {
        self.handle.uploads_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn close_when_it_answers(handle: Weak<RemoteHandle>) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(handle) = handle.upgrade() else { return };
        if handle.trouble().is_none() || handle.try_to_close().await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use kache_remote::memory::MemoryRemote;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn net_01_a_remote_in_trouble_is_left_alone_until_it_answers() {
        let memory = Arc::new(MemoryRemote::new(DigestFunction::Sha256));
        let remote: Arc<dyn Remote> = memory.clone();
        let handle = RemoteHandle::new(
            RemoteConnections { reader: remote.clone(), writer: remote },
            "r".into(),
            RemoteUses::READ_WRITE,
            AnswerLimits::default(),
        );
        let hang = std::future::pending::<Result<(), RemoteError>>();
        let begun = tokio::time::Instant::now();
        assert!(handle.lookup(hang).await.is_err());
        assert_eq!(begun.elapsed(), AnswerLimits::default().lookup);
        assert_eq!(handle.trouble().as_deref(), Some("no answer within 250 ms"));
        memory.fail_with(Some(RemoteError::unavailable("down")));
        tokio::time::sleep(2 * PROBE_EVERY).await;
        assert!(handle.trouble().is_some());
        memory.fail_with(None);
        tokio::time::sleep(2 * PROBE_EVERY).await;
        assert_eq!((handle.trouble(), handle.function()), (None, Some(DigestFunction::Sha256)));
        let refused = handle.lookup(async { Err::<(), _>(RemoteError::refused("read-only")) }).await;
        assert!(refused.is_err() && handle.trouble().is_none());
        assert_eq!(handle.unusable_for_reads().as_deref(), Some("refused: read-only"));
        handle.note_upload_refused(Some("quota"));
        assert_eq!(handle.refusals(), ["lookups: read-only", "uploads: quota"]);
        handle.lookup(async { Ok(()) }).await.unwrap();
        handle.note_upload_refused(None);
        assert_eq!((handle.unusable_for_reads(), handle.refusals()), (None, vec![]));
    }
}
