//! A remote as one call of a build session asks it.
//!
//! Every request has a time that a healthy answer takes. What is beyond it the call loses, and a session that has
//! lost its limit does not ask this remote any more (NET-01). The same moment tells a call that it should ask
//! another remote as well ([`AskedRemote::slow`]).

use std::sync::Arc;
use std::time::Duration;

use kache_remote::{Capabilities, RemoteError, RequestContext};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::handle::RemoteHandle;
use super::session::RemoteSession;
use super::stall::StallClock;

/// The lowest speed of a healthy download. To compile is faster than to wait for a slower one: the compilers of
/// ripgrep wrote 10 MB for each second of processor time.
pub(super) const DOWNLOAD_BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// A remote as one call of a build session asks it.
#[derive(Debug)]
pub struct AskedRemote {
    handle: Arc<RemoteHandle>,
    session: Arc<RemoteSession>,
    clock: Arc<StallClock>,
    slow: Notify,
}

impl AskedRemote {
    /// Prepares the requests of a call of this session.
    pub fn new(handle: &Arc<RemoteHandle>, session: &Arc<RemoteSession>) -> AskedRemote {
        AskedRemote {
            handle: Arc::clone(handle),
            session: Arc::clone(session),
            clock: session.clock(handle),
            slow: Notify::new(),
        }
    }

    /// Returns the remote.
    pub fn handle(&self) -> &Arc<RemoteHandle> {
        &self.handle
    }

    /// Whether the call may ask the remote: its breaker is closed, and the session has lost little time to it.
    pub fn is_usable(&self) -> bool {
        self.handle.trouble().is_none() && !self.clock.is_spent()
    }

    /// Returns why the call goes on without the remote, with the remote's name; `None` if it does not.
    pub fn given_up(&self) -> Option<String> {
        let why = self.handle.unusable_for_reads();
        let why = why.or_else(|| self.clock.is_spent().then(|| self.spent().to_string()))?;
        Some(format!("{}: {why}", self.handle.name))
    }

    /// Returns the context of the call's requests.
    pub fn context(&self, mnemonic: &'static str, action_id: String) -> RequestContext {
        let invocation_id = self.session.id().to_owned();
        RequestContext { action_id, invocation_id, mnemonic: mnemonic.into(), replaces: false }
    }

    /// Returns when a request takes longer than a healthy one does. The request goes on.
    pub async fn slow(&self) {
        self.slow.notified().await;
    }

    /// Returns what the remote offers.
    pub async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        // A connection takes several round trips, and a request one.
        self.wait(2 * self.healthy(), self.handle.capabilities()).await
    }

    /// Waits for a lookup.
    pub async fn lookup<T>(
        &self,
        lookup: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        self.wait(self.healthy(), self.handle.lookup(lookup)).await
    }

    /// Waits for a download of so many bytes.
    pub async fn download<T>(
        &self,
        bytes: u64,
        download: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let transfer = Duration::from_millis(bytes.saturating_mul(1000) / DOWNLOAD_BYTES_PER_SECOND_MIN);
        let noted = async { self.handle.note(download.await) };
        self.wait(self.healthy().saturating_add(transfer), noted).await
    }

    /// Returns the time that a healthy answer takes at most: half of what a lookup may take.
    fn healthy(&self) -> Duration {
        self.handle.limits().lookup / 2
    }

    async fn wait<T>(
        &self,
        healthy: Duration,
        request: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        if let Some(trouble) = self.handle.trouble() {
            return Err(RemoteError::unavailable(trouble));
        }
        if self.clock.is_spent() {
            return Err(self.spent());
        }
        let begun = Instant::now();
        let losing = async {
            tokio::time::sleep(healthy).await;
            self.slow.notify_one();
            self.clock.lose().await;
        };
        let outcome = tokio::select! {
            biased;
            outcome = request => outcome,
            () = losing => Err(self.spent()),
        };
        if outcome.as_ref().is_err_and(RemoteError::is_transient) {
            self.clock.note_lost(begun);
        }
        if self.clock.is_spent() && self.handle.trouble().is_none() {
            return self.handle.note(Err(self.spent())).or(outcome);
        }
        outcome
    }

    fn spent(&self) -> RemoteError {
        let limit_ms = self.clock.limit().as_millis();
        RemoteError::unavailable(format!(
            "it is too slow: one build has waited {limit_ms} ms for it (`stall_ms`)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;
    use kache_remote::memory::MemoryRemote;

    use super::*;
    use crate::remote::{AnswerLimits, RemoteConnections, RemoteUses};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn a_handle() -> Arc<RemoteHandle> {
        let remote = Arc::new(MemoryRemote::new(DigestFunction::Sha256));
        let connections = RemoteConnections { reader: remote.clone(), writer: remote };
        RemoteHandle::new(connections, "r".to_owned(), RemoteUses::READ_WRITE, AnswerLimits::default())
    }

    async fn answer_after(time: Duration) -> Result<(), RemoteError> {
        tokio::time::sleep(time).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn net_01_a_healthy_remote_loses_no_time() {
        let (handle, session) = (a_handle(), Arc::default());
        for _ in 0..300 {
            let asked = AskedRemote::new(&handle, &session);
            asked.lookup(answer_after(ms(20))).await.unwrap();
            asked.lookup(answer_after(ms(20))).await.unwrap();
            // 5 MB with 2 MB/s.
            asked.download(5 << 20, answer_after(ms(2500))).await.unwrap();
            assert!(asked.is_usable());
        }
        assert!(!session.clock(&handle).is_spent());
        assert_eq!(session.clock(&handle).left(), session.clock(&handle).limit());
    }

    #[tokio::test(start_paused = true)]
    async fn net_01_a_remote_that_answers_each_lookup_late_costs_a_session_its_limit_once() {
        let (handle, session) = (a_handle(), Arc::default());
        let begun = Instant::now();
        // Eight calls at once, as cargo makes them.
        let call =
            async || while AskedRemote::new(&handle, &session).lookup(answer_after(ms(240))).await.is_ok() {};
        tokio::join!(call(), call(), call(), call(), call(), call(), call(), call());
        // Half of each answer's time is lost.
        assert!(begun.elapsed() < ms(4500), "{:?}", begun.elapsed());
        let trouble = handle.trouble().unwrap();
        assert!(trouble.contains("one build has waited 2000 ms"), "{trouble}");
        // The breaker closes again, and the session remembers.
        tokio::time::sleep(ms(20_000)).await;
        assert_eq!(handle.trouble(), None);
        let begun = Instant::now();
        let again = AskedRemote::new(&handle, &session);
        assert!(!again.is_usable());
        again.lookup(answer_after(ms(1))).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let other = AskedRemote::new(&handle, &Arc::default());
        assert!(other.is_usable());
        other.lookup(answer_after(ms(1))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn net_01_requests_that_fail_count_with_all_their_time() {
        let (handle, session) = (a_handle(), Arc::default());
        let fail_after = async |time| {
            tokio::time::sleep(time).await;
            Err::<(), _>(RemoteError::unavailable("it broke off"))
        };
        let asked = AskedRemote::new(&handle, &session);
        // A large blob may take long, but this one has never come.
        asked.download(1 << 30, fail_after(ms(1500))).await.unwrap_err();
        assert_eq!(handle.trouble().as_deref(), Some("it broke off"));
        // Other calls do not wait while the breaker is open.
        let begun = Instant::now();
        asked.lookup(answer_after(ms(1))).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(ms(20_000)).await;
        assert!(asked.is_usable());
        // The rest of the limit is lost in a request that hangs.
        let begun = Instant::now();
        asked.download(0, std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(begun.elapsed(), ms(125 + 500));
        assert!(!asked.is_usable());
    }

    #[test]
    fn all_requests_of_a_session_carry_its_id() {
        let (handle, session) = (a_handle(), Arc::default());
        let id = |session: &Arc<RemoteSession>| {
            AskedRemote::new(&handle, session).context("Rustc", "0a".to_owned()).invocation_id
        };
        assert_eq!(id(&session), id(&session));
        assert_ne!(id(&session), id(&Arc::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_slow_when_it_takes_longer_than_a_healthy_one() {
        let handle = a_handle();
        let asked = AskedRemote::new(&handle, &Arc::default());
        let begun = Instant::now();
        asked.lookup(answer_after(ms(100))).await.unwrap();
        let slow = async {
            asked.slow().await;
            begun.elapsed()
        };
        let (slow, _) = tokio::join!(slow, asked.lookup(answer_after(ms(200))));
        assert_eq!(slow, ms(225));
    }
}
