//! Calls beside work that a gate holds up, with limits of some milliseconds.

use kache_cas::{AccessKind, Digest, DigestFunction, Store, StoreSettings};
use tokio::sync::oneshot;

use super::super::gate::Gate;
use super::*;
use crate::invocation::Environment;
use crate::pipeline::CallReply;

/// The limit of work that is held up.
const LIMIT: Duration = Duration::from_millis(50);

/// Why the calls of these tests are passed on, unless something is wrong: their environment is empty, so
/// that no compiler is found.
const USUAL: Reason = Reason::UnknownCompiler;

/// A time that only a test that hangs exceeds.
const SOON: Duration = Duration::from_secs(20);

/// The calls of a daemon whose store hangs while `clock` is closed.
struct Fixture {
    calls: Calls,
    clock: Arc<Gate>,
    /// Holds up work that is no store's.
    gate: Arc<Gate>,
    store: Arc<Store>,
    _slot: watch::Sender<StoreSlot>,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::<Gate>::default();
        let settings = StoreSettings { clock: clock.clone(), ..StoreSettings::new("/nowhere") };
        let store = Arc::new(Store::in_memory(settings));
        let (slot, receiver) = watch::channel(StoreSlot::Open(Arc::clone(&store)));
        let pipeline = Arc::new(Pipeline::new(dir.path().to_owned(), receiver.clone()));
        let calls = Calls::new(pipeline, receiver, Arc::default(), dir.path().to_owned());
        Fixture { calls, clock, gate: Arc::default(), store, _slot: slot, dir }
    }

    fn handler(&self) -> Arc<CallHandler> {
        Arc::clone(&self.calls.handler)
    }

    fn call(&self) -> Arc<Call> {
        Arc::new(Call {
            argv: ["rustc", "-vV"].map(Into::into).to_vec(),
            cwd: self.dir.path().to_owned(),
            env: Environment::default(),
            umask: 0o22,
            stdin: None,
        })
    }

    /// Makes a call that asks for the compiler's version, and returns why it is passed on.
    async fn reason(&self) -> Reason {
        let (handler, call) = (self.handler(), self.call());
        let namespace = Bytes::new();
        let begun = handler.begin(&call, None, &namespace, Staging::default());
        reason_of(tokio::time::timeout(SOON, begun).await.unwrap().step)
    }

    /// Waits until so many pieces of work are late.
    async fn until_late(&self, count: usize) {
        let is_late = async {
            while self.calls.handler.late.load(Ordering::Relaxed) < count {
                tokio::time::sleep(LIMIT / 10).await;
            }
        };
        tokio::time::timeout(SOON, is_late).await.unwrap();
    }

    /// Makes calls for longer than a probe of the store may take. All are answered as usual.
    async fn other_calls_notice_nothing(&self) {
        let begun = Instant::now();
        while begun.elapsed() < PROBE_MAX + LIMIT {
            let asked = Instant::now();
            assert_eq!(self.reason().await, USUAL);
            assert!(asked.elapsed() < BEGIN_MAX, "it waited for {:?}", asked.elapsed());
            assert_eq!(self.calls.trouble(), None);
        }
    }
}

/// Lets all threads go on, because a runtime that ends waits for them.
impl Drop for Fixture {
    fn drop(&mut self) {
        self.clock.set(false);
        self.gate.set(false);
    }
}

fn reason_of(step: NextStep) -> Reason {
    match step {
        NextStep::Answer(CallReply::PassOn { why, .. }) => why.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dmn_03_a_publish_that_is_held_up_costs_no_other_call_anything() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    for _ in 0..=PUBLISHERS_MAX {
        let (handler, gate) = (fixture.handler(), Arc::clone(&fixture.gate));
        tokio::spawn(async move { handler.publish_within(LIMIT, move |_| gate.pass()).await });
    }
    fixture.until_late(PUBLISHERS_MAX + 1).await;
    fixture.other_calls_notice_nothing().await;
    // Other results are stored beside those that are held up.
    let (sender, stored) = oneshot::channel();
    let publish = move |_: &Pipeline| sender.send(()).unwrap();
    tokio::time::timeout(SOON, fixture.handler().publish_within(SOON, publish)).await.unwrap();
    stored.await.unwrap();
}

#[tokio::test]
async fn dmn_03_a_seeding_that_is_held_up_costs_no_other_call_anything() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let gate = Arc::clone(&fixture.gate);
    let begun = Instant::now();
    let seeded = fixture.handler().in_time(LIMIT, move |_| gate.pass()).await;
    // From here on `seed_guarded` has the guard release cargo's locks.
    assert!(matches!(seeded, Err(WorkError::TimedOut)));
    assert!(begun.elapsed() < SEEDING_MAX, "{:?}", begun.elapsed());
    fixture.until_late(1).await;
    fixture.other_calls_notice_nothing().await;
}

#[tokio::test]
async fn dmn_03_a_call_that_is_held_up_costs_no_other_call_anything() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let gate = Arc::clone(&fixture.gate);
    let work = move |_: &Pipeline| -> NextStep {
        gate.pass();
        panic!("its result comes too late")
    };
    let step = fixture.handler().begun_in_time(&fixture.call(), LIMIT, work).await;
    assert_eq!(reason_of(step), Reason::StoreUnusable);
    fixture.other_calls_notice_nothing().await;
}

#[tokio::test]
async fn dmn_03_while_a_store_hangs_calls_are_passed_on_at_once() {
    let fixture = Fixture::new();
    assert_eq!(fixture.reason().await, USUAL);
    fixture.clock.set(true);
    let (store, call) = (Arc::clone(&fixture.store), fixture.call());
    let look_up = move |_: &Pipeline| -> NextStep {
        let digest = Digest::of(DigestFunction::Blake3, b"blob");
        drop(store.blobs().find_missing(&[digest], AccessKind::Use));
        panic!("the store has answered too late")
    };
    let handler = fixture.handler();
    assert_eq!(reason_of(handler.begun_in_time(&call, LIMIT, look_up).await), Reason::StoreUnusable);
    tokio::time::timeout(SOON, handler.breaker.tripped()).await.unwrap();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(fixture.reason().await, Reason::StoreUnusable);
    }
    assert!(begun.elapsed() < PROBE_MAX, "ten calls waited for {:?}", begun.elapsed());
    assert!(fixture.calls.trouble().is_some());

    fixture.clock.set(false);
    let answers_again = async {
        while handler.breaker.is_tripped() {
            tokio::time::sleep(LIMIT / 10).await;
        }
    };
    tokio::time::timeout(SOON, answers_again).await.unwrap();
    assert_eq!(fixture.reason().await, USUAL);
    assert_eq!(fixture.calls.trouble(), None);
}
