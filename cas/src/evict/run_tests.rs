//! Tests of eviction rounds against the store in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration as Time;

use bytes::Bytes;
use kache_proto::Message;
use kache_proto::reapi::{
    ActionResult, Directory, ExecutedActionMetadata, FileNode, OutputDirectory, OutputFile, Tree,
};
use kache_proto::well_known::Duration;
use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::digest::Blob;
use crate::encoding::wire_digest;
use crate::memory::MemoryStore;
use crate::store::{AccessKind, ActionCache};

const DAY: Time = Time::from_secs(24 * 60 * 60);
const KIB: u64 = 1024;

/// The store in memory, which counts listed pages and attempted deletions and can be made to fail.
struct WatchedStore {
    memory: MemoryStore,
    fails: AtomicBool,
    deletions: AtomicUsize,
    pages: AtomicUsize,
}

impl WatchedStore {
    fn check(&self) -> Result<(), StoreError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StoreError::Database { doing: "read", message: "it broke".to_owned() }),
            false => Ok(()),
        }
    }
}

impl Catalog for WatchedStore {
    fn usage(&self) -> Result<Usage, StoreError> {
        self.memory.usage()
    }
    fn actions_after(&self, after: Option<&ActionKey>, max: usize) -> Result<Vec<ActionEntry>, StoreError> {
        self.check()?;
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.memory.actions_after(after, max)
    }
    fn blobs_after(&self, after: Option<&Hash>, max: usize) -> Result<Vec<BlobEntry>, StoreError> {
        self.check()?;
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.memory.blobs_after(after, max)
    }
    fn action_entry(&self, key: &ActionKey) -> Result<Option<ActionEntry>, StoreError> {
        self.check()?;
        self.memory.action_entry(key)
    }
    fn blob_entry(&self, digest: &Digest) -> Result<Option<BlobEntry>, StoreError> {
        self.check()?;
        self.memory.blob_entry(digest)
    }
    fn delete_action(&self, key: &ActionKey, expected: Retention) -> Result<bool, StoreError> {
        self.deletions.fetch_add(1, Ordering::Relaxed);
        self.memory.delete_action(key, expected)
    }
    fn delete_blob(&self, blake3: &Hash, expected: Retention) -> Result<Option<u64>, StoreError> {
        self.deletions.fetch_add(1, Ordering::Relaxed);
        self.memory.delete_blob(blake3, expected)
    }
}

struct Fixture {
    store: WatchedStore,
    clock: Arc<ManualClock>,
    evictor: Evictor,
}

impl Fixture {
    fn new(limit_kib: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = WatchedStore {
            memory: MemoryStore::new(clock.clone()),
            fails: false.into(),
            deletions: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
        };
        let limits = SizeLimits { limit_bytes: limit_kib * KIB, reserve_bytes: 0 };
        Fixture { store, clock, evictor: Evictor::new(limits) }
    }

    fn memory(&self) -> &MemoryStore {
        &self.store.memory
    }

    /// Stores a blob of this size, whose bytes depend on the name.
    fn blob(&self, function: DigestFunction, name: u32, kib: u64) -> Digest {
        let mut bytes = vec![0; usize::try_from(kib * KIB).unwrap()];
        bytes[..4].copy_from_slice(&name.to_le_bytes());
        let digest = Digest::of(function, &bytes);
        self.memory().insert(&[(digest, Bytes::from(bytes))]).remove(0).unwrap();
        digest
    }

    fn action(&self, name: u32, cost_s: i64, blobs: &[Digest]) -> ActionKey {
        let function = blobs.first().map_or(DigestFunction::Sha256, |digest| digest.function);
        self.put(name, function, &result(cost_s, blobs))
    }

    fn put(&self, name: u32, function: DigestFunction, result: &ActionResult) -> ActionKey {
        let key = ActionKey { instance: "i".into(), function, hash: function.hash(&name.to_le_bytes()) };
        self.memory().put(&key, result).unwrap();
        key
    }

    fn step(&mut self) -> EvictionStep {
        self.try_step().unwrap()
    }

    fn try_step(&mut self) -> Result<EvictionStep, StoreError> {
        let target = EvictionTarget { catalog: &self.store, blobs: &self.store.memory, clock: &*self.clock };
        self.evictor.step(&target)
    }

    /// Makes steps until no more is due.
    fn run(&mut self) -> Evicted {
        let mut evicted = Evicted::default();
        for _ in 0..10_000 {
            let step = self.step();
            evicted.add(&step.evicted);
            if !step.more_is_due {
                return evicted;
            }
        }
        panic!("eviction does not end");
    }

    /// Makes steps until the next one would delete.
    fn run_until_deleting(&mut self) {
        for _ in 0..10_000 {
            assert!(self.step().more_is_due);
            if matches!(
                self.evictor.round.as_deref(),
                Some(EvictionRound { phase: RoundPhase::Deleting { .. }, .. })
            ) {
                return;
            }
        }
        panic!("no round deletes");
    }

    fn has(&self, digest: &Digest) -> bool {
        !self.memory().find_missing(&[*digest], AccessKind::Peek).unwrap()[0]
    }

    fn has_action(&self, key: &ActionKey) -> bool {
        self.memory().get(key, AccessKind::Peek).unwrap().is_some()
    }

    fn used_bytes(&self) -> u64 {
        self.memory().usage().unwrap().physical_bytes
    }

    fn used_kib(&self) -> u64 {
        self.used_bytes() / KIB
    }
}

fn result(cost_s: i64, blobs: &[Digest]) -> ActionResult {
    let file = |(index, digest): (usize, &Digest)| OutputFile {
        path: format!("out{index}"),
        digest: Some(wire_digest(digest)),
        ..Default::default()
    };
    ActionResult {
        output_files: blobs.iter().enumerate().map(file).collect(),
        execution_metadata: Some(ExecutedActionMetadata {
            virtual_execution_duration: Some(Duration { seconds: cost_s, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

const SHA256: DigestFunction = DigestFunction::Sha256;

#[test]
fn sto_06_a_round_ends_at_the_low_mark() {
    let mut fixture = Fixture::new(1_600);
    for name in 0..1_590 {
        fixture.blob(SHA256, name, 1);
    }
    fixture.clock.advance(DAY);
    let evicted = fixture.run();
    assert!(evicted.blobs > 0 && evicted.actions == 0);
    assert!((1_380..=1_400).contains(&fixture.used_kib()), "{} KiB", fixture.used_kib());
    assert_eq!(fixture.run(), Evicted::default(), "there is nothing more to do");
}

#[test]
fn sto_04_promised_and_newly_uploaded_blobs_are_not_evicted() {
    let mut fixture = Fixture::new(100);
    let uploaded: Vec<_> = (0..50).map(|name| fixture.blob(SHA256, name, 1)).collect();
    fixture.clock.advance(crate::leases::UPLOAD_GRACE);
    let promised: Vec<_> = (50..100).map(|name| fixture.blob(SHA256, name, 1)).collect();
    fixture.memory().find_missing(&promised, AccessKind::Promise).unwrap();
    let fresh: Vec<_> = (100..120).map(|name| fixture.blob(SHA256, name, 1)).collect();
    fixture.evictor.want(1_000 * KIB);
    fixture.run();
    assert!(!uploaded.iter().any(|digest| fixture.has(digest)));
    assert!(promised.iter().chain(&fresh).all(|digest| fixture.has(digest)));

    fixture.clock.advance(crate::leases::UPLOAD_GRACE);
    fixture.evictor.want(1_000 * KIB);
    fixture.run();
    assert!(!fresh.iter().any(|digest| fixture.has(digest)));
    assert!(promised.iter().all(|digest| fixture.has(digest)));

    fixture.clock.advance(DAY);
    fixture.evictor.want(1_000 * KIB);
    fixture.run();
    assert!(!promised.iter().any(|digest| fixture.has(digest)));
}

#[test]
fn sto_06_blobs_of_an_evicted_result_are_evicted_even_within_their_upload_grace() {
    let mut fixture = Fixture::new(100);
    let named = fixture.blob(SHA256, 1, 60);
    let key = fixture.action(1, 1, &[named]);
    let unnamed = fixture.blob(SHA256, 2, 60);
    fixture.clock.advance(crate::leases::UPLOAD_GRACE / 3);
    fixture.run();
    assert!(!fixture.has_action(&key));
    assert!(!fixture.has(&named), "dropping a result must free something");
    assert!(fixture.has(&unnamed), "its result may be on its way");
}

#[test]
fn sto_04_a_promised_result_is_kept_with_all_its_blobs() {
    let mut fixture = Fixture::new(100);
    let kept = fixture.blob(SHA256, 1, 40);
    let kept_by = fixture.action(1, 1, &[kept]);
    let gone = fixture.blob(SHA256, 2, 70);
    let gone_by = fixture.action(2, 1_000_000, &[gone]);
    fixture.clock.advance(DAY);
    fixture.memory().get(&kept_by, AccessKind::Promise).unwrap();
    fixture.memory().find_missing(&[kept], AccessKind::Promise).unwrap();
    fixture.run();
    assert!(fixture.has_action(&kept_by) && fixture.has(&kept));
    assert!(!fixture.has_action(&gone_by) && !fixture.has(&gone));
}

#[test]
fn cheap_large_results_are_evicted_before_expensive_small_ones() {
    let mut fixture = Fixture::new(300);
    let add = |name, cost_s, kib| {
        let blob = fixture.blob(SHA256, name, kib);
        (fixture.action(name, cost_s, &[blob]), blob)
    };
    let dear = add(1, 600, 90);
    let cheap = add(2, 1, 90);
    let small = add(3, 1, 1);
    let middling = add(4, 60, 110);
    fixture.clock.advance(DAY);
    let evicted = fixture.run();
    assert_eq!(evicted.actions, 1);
    assert!(!fixture.has_action(&cheap.0) && !fixture.has(&cheap.1));
    for (key, blob) in [dear, small, middling] {
        assert!(fixture.has_action(&key) && fixture.has(&blob));
    }
}

#[test]
fn what_a_remote_has_is_worth_the_time_to_fetch_it_again() {
    for keys in [ActionKey::fetched, ActionKey::pulled] {
        let mut fixture = Fixture::new(300);
        let add = |name: u32, cost_s, keys: fn(DigestFunction, Hash) -> ActionKey| {
            let blob = fixture.blob(SHA256, name, 95);
            let key = keys(SHA256, SHA256.hash(&name.to_le_bytes()));
            fixture.memory().put(&key, &result(cost_s, &[blob])).unwrap();
            (key, blob)
        };
        // To compile it took ten minutes, and to fetch it some milliseconds.
        let fetched = add(1, 600, keys);
        let made = [add(2, 1, ActionKey::made_here), add(3, 1, ActionKey::made_here)];
        fixture.clock.advance(DAY);
        fixture.run();
        assert!(!fixture.has_action(&fetched.0) && !fixture.has(&fetched.1));
        for (key, blob) in made {
            assert!(fixture.has_action(&key) && fixture.has(&blob));
        }
    }
}

#[test]
fn results_that_share_a_blob_are_each_charged_a_share_of_it() {
    let mut fixture = Fixture::new(100);
    let shared = fixture.blob(SHA256, 1, 60);
    let sharers: Vec<_> = (0..10).map(|name| fixture.action(name, 10, &[shared])).collect();
    let own = fixture.blob(SHA256, 2, 36);
    let owner = fixture.action(10, 20, &[own]);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(sharers.iter().all(|key| fixture.has_action(key)) && fixture.has(&shared));
    assert!(!fixture.has_action(&owner) && !fixture.has(&own));
}

#[test]
fn an_expensive_result_that_is_not_used_is_evicted_in_the_end() {
    let mut fixture = Fixture::new(100);
    let old = fixture.blob(SHA256, 1, 60);
    let old_by = fixture.action(1, 100, &[old]);
    fixture.clock.advance(1_000 * DAY);
    let young = fixture.blob(SHA256, 2, 60);
    let young_by = fixture.action(2, 1, &[young]);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(!fixture.has_action(&old_by) && fixture.has_action(&young_by));
}

#[test]
fn old_orphans_are_evicted_before_young_orphans_and_expensive_results() {
    let mut fixture = Fixture::new(100);
    let old = fixture.blob(SHA256, 1, 20);
    fixture.clock.advance(DAY);
    let young = fixture.blob(SHA256, 2, 20);
    let named = fixture.blob(SHA256, 3, 58);
    let named_by = fixture.action(3, 60, &[named]);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(!fixture.has(&old));
    assert!(fixture.has(&young) && fixture.has(&named) && fixture.has_action(&named_by));
}

#[test]
fn sto_05_a_blob_that_a_kept_result_names_is_kept_under_either_digest_function() {
    for function in DigestFunction::ALL {
        let mut fixture = Fixture::new(100);
        let shared = fixture.blob(function, 1, 30);
        let own = fixture.blob(function, 2, 80);
        let goes = fixture.action(1, 1, &[shared, own]);
        let stays = fixture.action(2, 1_000, &[shared]);
        fixture.clock.advance(DAY);
        fixture.run();
        assert!(!fixture.has_action(&goes) && !fixture.has(&own));
        assert!(fixture.has_action(&stays) && fixture.has(&shared));
    }
}

#[test]
fn sto_05_blobs_in_a_tree_are_kept_with_the_result_that_names_the_tree() {
    let mut fixture = Fixture::new(100);
    let inside = fixture.blob(SHA256, 1, 30);
    let node = FileNode { name: "f".to_owned(), digest: Some(wire_digest(&inside)), ..Default::default() };
    let root = Directory { files: vec![node], ..Default::default() };
    let bytes = Bytes::from(Tree { root: Some(root), children: Vec::new() }.encode_to_vec());
    let tree = Digest::<Blob>::of(SHA256, &bytes);
    fixture.memory().insert(&[(tree, bytes)]).remove(0).unwrap();
    let directory =
        OutputDirectory { path: "d".to_owned(), tree_digest: Some(wire_digest(&tree)), ..Default::default() };
    let with_tree = ActionResult { output_directories: vec![directory], ..result(1_000, &[]) };
    let stays = fixture.put(1, SHA256, &with_tree);
    let orphan = fixture.blob(SHA256, 2, 80);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(!fixture.has(&orphan));
    assert!(fixture.has_action(&stays) && fixture.has(&tree) && fixture.has(&inside));

    // They are evicted with the last result that names the tree.
    fixture.evictor.want(1_000 * KIB);
    fixture.run();
    assert!(!fixture.has_action(&stays) && !fixture.has(&tree) && !fixture.has(&inside));
}

#[test]
fn a_result_that_lacks_a_tree_is_evicted_first() {
    let mut fixture = Fixture::new(100);
    let there = fixture.blob(SHA256, 1, 40);
    let whole = fixture.action(1, 1, &[there]);
    let other = fixture.blob(SHA256, 2, 60);
    let absent = Digest::<Blob>::of(SHA256, b"absent");
    let directory = OutputDirectory {
        path: "d".to_owned(),
        tree_digest: Some(wire_digest(&absent)),
        ..Default::default()
    };
    let lacking = ActionResult { output_directories: vec![directory], ..result(100_000, &[other]) };
    let lacking = fixture.put(2, SHA256, &lacking);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(!fixture.has_action(&lacking) && !fixture.has(&other));
    assert!(fixture.has_action(&whole) && fixture.has(&there));
}

#[test]
fn sto_04_entries_that_are_used_between_two_steps_are_kept() {
    let mut fixture = Fixture::new(100);
    let blobs: Vec<_> = (0..4).map(|name| fixture.blob(SHA256, name, 30)).collect();
    let first = fixture.action(0, 1, &blobs[..1]);
    let second = fixture.action(1, 1, &blobs[1..2]);
    fixture.clock.advance(DAY);
    fixture.evictor.want(1_000 * KIB);
    fixture.run_until_deleting();

    fixture.clock.advance(Time::from_millis(5));
    // One result is used, with its blob; one orphan is used; and a new result names a blob of the
    // second result.
    fixture.memory().get(&first, AccessKind::Use).unwrap();
    fixture.memory().find_missing(&blobs[..1], AccessKind::Use).unwrap();
    fixture.memory().find_missing(&blobs[2..3], AccessKind::Use).unwrap();
    let new = fixture.action(7, 1, &blobs[1..2]);
    fixture.memory().find_missing(&blobs[1..2], AccessKind::Use).unwrap();
    fixture.run();

    assert!(fixture.has_action(&first) && fixture.has(&blobs[0]));
    assert!(!fixture.has_action(&second));
    assert!(fixture.has_action(&new) && fixture.has(&blobs[1]));
    assert!(fixture.has(&blobs[2]) && !fixture.has(&blobs[3]));
}

#[test]
fn a_result_that_is_replaced_during_a_round_is_kept() {
    let mut fixture = Fixture::new(100);
    let old = fixture.blob(SHA256, 1, 60);
    let new = fixture.blob(SHA256, 2, 60);
    let key = fixture.action(1, 1, &[old]);
    fixture.clock.advance(DAY);
    fixture.evictor.want(1_000 * KIB);
    fixture.run_until_deleting();
    // With the date of the old result, so that the dates do not show the replacement.
    fixture.clock.set_ms(fixture.clock.now_ms() - duration_ms(DAY));
    fixture.action(1, 1, &[new]);
    fixture.clock.advance(DAY);
    fixture.run();
    assert!(fixture.has_action(&key));
}

#[test]
fn sto_08_an_error_ends_a_round_and_deletes_nothing() {
    let mut fixture = Fixture::new(100);
    let blobs: Vec<_> = (0..120).map(|name| fixture.blob(SHA256, name, 1)).collect();
    fixture.clock.advance(DAY);
    fixture.run_until_deleting();
    fixture.store.fails.store(true, Ordering::Relaxed);
    assert!(fixture.try_step().is_err());
    assert!(blobs.iter().all(|digest| fixture.has(digest)));
    fixture.store.fails.store(false, Ordering::Relaxed);
    assert_eq!(fixture.run(), Evicted::default(), "it rests first");
    fixture.clock.advance(REST);
    assert!(fixture.run().blobs > 0);
}

#[test]
fn sto_10_a_step_is_bounded() {
    let mut fixture = Fixture::new(1_000);
    for name in 0..3_000 {
        let blob = fixture.blob(SHA256, name, 1);
        fixture.action(name, 1, &[blob]);
    }
    fixture.clock.advance(DAY);
    let asked = |fixture: &Fixture| {
        (fixture.store.pages.load(Ordering::Relaxed), fixture.store.deletions.load(Ordering::Relaxed))
    };
    loop {
        let before = asked(&fixture);
        let step = fixture.step();
        let after = asked(&fixture);
        assert!(after.0 - before.0 <= 1, "one page a step");
        assert!(after.1 - before.1 <= DELETIONS_PER_STEP);
        if !step.more_is_due {
            break;
        }
    }
    assert!(fixture.used_kib() <= 937, "{} KiB", fixture.used_kib());
}

#[test]
fn sto_10_a_store_from_which_nothing_can_be_evicted_is_not_scanned_again_at_once() {
    let mut fixture = Fixture::new(100);
    let blobs: Vec<_> = (0..120).map(|name| fixture.blob(SHA256, name, 1)).collect();
    fixture.memory().find_missing(&blobs, AccessKind::Promise).unwrap();
    fixture.clock.advance(Time::from_secs(1));
    fixture.run();
    let searched = fixture.store.pages.load(Ordering::Relaxed);
    for _ in 0..100 {
        fixture.evictor.want(KIB);
        assert_eq!(fixture.run(), Evicted::default());
    }
    assert_eq!(fixture.store.pages.load(Ordering::Relaxed), searched);
    fixture.clock.advance(REST);
    fixture.run();
    assert!(fixture.store.pages.load(Ordering::Relaxed) > searched);
}

#[test]
fn a_clock_that_went_back_does_not_stop_eviction() {
    let mut fixture = Fixture::new(100);
    for name in 0..120 {
        fixture.blob(SHA256, name, 1);
    }
    let now_ms = fixture.clock.now_ms();
    fixture.clock.set_ms(now_ms - duration_ms(365 * DAY));
    assert!(fixture.run().blobs > 0);
}

#[derive(Clone, Debug)]
struct PlannedAction {
    cost_s: i64,
    blobs: Vec<u32>,
    idle_h: u64,
    promised: bool,
    blake3: bool,
}

fn planned() -> impl Strategy<Value = PlannedAction> {
    let blobs = proptest::collection::vec(0u32..30, 0..5);
    (1i64..5_000, blobs, 0u64..100, proptest::bool::weighted(0.1), any::<bool>()).prop_map(
        |(cost_s, blobs, idle_h, promised, blake3)| PlannedAction { cost_s, blobs, idle_h, promised, blake3 },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sto_03_04_05_06_a_round_keeps_results_complete_promises_kept_and_the_limit(
        actions in proptest::collection::vec(planned(), 0..40),
        limit_kib in 8u64..200,
    ) {
        let mut fixture = Fixture::new(limit_kib);
        let mut keys = Vec::new();
        for (name, planned) in actions.iter().enumerate() {
            let function = if planned.blake3 { DigestFunction::Blake3 } else { SHA256 };
            let blobs: Vec<_> = planned
                .blobs
                .iter()
                .map(|&name| fixture.blob(function, name, u64::from(name % 7) + 1))
                .collect();
            let key = fixture.put(u32::try_from(name).unwrap(), function, &result(planned.cost_s, &blobs));
            keys.push((key, blobs));
            fixture.clock.advance(Time::from_secs(planned.idle_h * 360));
        }
        fixture.clock.advance(crate::leases::UPLOAD_GRACE);
        for ((key, blobs), planned) in keys.iter().zip(&actions) {
            if planned.promised {
                fixture.memory().get(key, AccessKind::Promise).unwrap();
                fixture.memory().find_missing(blobs, AccessKind::Promise).unwrap();
            }
        }
        fixture.clock.advance(Time::from_secs(1));
        let before_bytes = fixture.used_bytes();
        fixture.run();

        let mut promised_bytes = 0;
        for ((key, blobs), planned) in keys.iter().zip(&actions) {
            if planned.promised {
                prop_assert!(fixture.has_action(key), "a promised result was evicted");
                promised_bytes += blobs.iter().map(|digest| digest.size_bytes + 2 * KIB).sum::<u64>() + KIB;
            }
            if fixture.has_action(key) {
                prop_assert!(blobs.iter().all(|digest| fixture.has(digest)), "a result lost a blob");
            }
        }
        if before_bytes <= limit_kib * KIB / 16 * 15 {
            prop_assert_eq!(fixture.used_bytes(), before_bytes, "there was no need to evict");
        } else if promised_bytes == 0 {
            prop_assert!(fixture.used_bytes() <= limit_kib * KIB / 16 * 15, "the goal was not reached");
        }
    }
}
