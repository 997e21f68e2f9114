//! Runs eviction in rounds, one bounded step at a time.
//!
//! A round has four phases. It counts how many results name each blob; it ranks the results; it
//! ranks the blobs that no result names (orphans); and it deletes the entries of least worth until
//! enough is freed. When a result is deleted, those of its blobs follow that no other result names.
//! The caller of [`Evictor::step`] decides when a step is made; lookups never make one (STO-10).
//!
//! Requests run between two steps, so a round checks each entry again before it deletes it. An
//! entry that was used since the round began stays. An entry that was stored during the round was
//! not counted; it stays as well, because storing is a use.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::vec::IntoIter;

use kache_proto::reapi::ActionResult;

use super::catalog::{ActionEntry, BlobEntry, Catalog, Usage};
use super::plan::{Evictable, EvictionCandidate, EvictionSelection, SizeLimits};
use super::sketch::NameCounts;
use super::worth::{Worth, rebuild_cost_ms, refetch_cost_ms, remote_fetch_cost_ms};
use crate::clock::{Clock, duration_ms};
use crate::completeness::{TreeCache, everything_named};
use crate::digest::{Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::references;
use crate::store::{ActionKey, BlobStore};

/// How many results one step looks at, which takes a millisecond or two.
const ACTIONS_PER_STEP: usize = 256;

/// How many blobs one step looks at.
const BLOBS_PER_STEP: usize = 1_024;

/// How many entries one step deletes, each with an `unlink` and a database write.
const DELETIONS_PER_STEP: usize = 64;

/// How many candidates a round remembers: about 10 MiB. If they are not enough, the next round
/// follows at once.
const CANDIDATES_MAX: usize = 65_536;

/// How long eviction rests after a round that did not reach its goal, unless a writer needs room
/// and the last round freed some. A round looks at every entry, so a second one right after it
/// would free nothing either.
const REST: std::time::Duration = std::time::Duration::from_secs(5);

/// The block size of most volumes. A larger blob has a file of its own, in blocks of this size.
const BLOCK_BYTES: u64 = 4_096;

/// The space for the records of an entry, estimated.
const RECORD_BYTES: u64 = 128;

/// A use that is dated later than this from now was dated by a wrong clock.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

/// Whether the lease of an upload protects a blob from deletion. It does as long as no result names
/// the blob, and no longer when the result that named it is deleted: otherwise a store that is
/// filled within [`UPLOAD_GRACE`](crate::leases::UPLOAD_GRACE) would lose results and free nothing.
#[derive(Clone, Copy)]
enum UploadLease {
    Holds,
    Over,
}

/// The store that eviction works on, by its interfaces.
pub struct EvictionTarget<'a> {
    /// The store, for scans and deletions.
    pub catalog: &'a dyn Catalog,
    /// The same store, for reading trees.
    pub blobs: &'a dyn BlobStore,
    /// The clock by which the store dates uses and leases.
    pub clock: &'a dyn Clock,
}

/// How much was evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// The number of deleted action results.
    pub actions: u64,
    /// The number of deleted blobs.
    pub blobs: u64,
    /// The physical bytes that both occupied.
    pub physical_bytes: u64,
}

/// The outcome of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionStep {
    /// Whether another step is due at once.
    pub more_is_due: bool,
    /// How much this step evicted.
    pub evicted: Evicted,
}

/// The state of eviction between two steps.
pub struct Evictor {
    limits: SizeLimits,
    round: Option<Box<EvictionRound>>,
    /// The size of the largest write that was refused since the last round; zero if none was.
    wanted_bytes: u64,
    /// When the present rest began; zero if the next round may begin at once.
    rested_at_ms: u64,
    /// Whether the last round freed at least half of its goal.
    last_was_productive: bool,
}

impl Evictor {
    /// Makes an evictor with no round under way.
    pub fn new(limits: SizeLimits) -> Self {
        Evictor { limits, round: None, wanted_bytes: 0, rested_at_ms: 0, last_was_productive: true }
    }

    /// Records that a write of this size was refused, which makes eviction due even below the high
    /// mark.
    pub fn want(&mut self, bytes: u64) {
        self.wanted_bytes = self.wanted_bytes.max(bytes);
        if let Some(round) = &mut self.round {
            round.goal_bytes = round.goal_bytes.max(bytes);
        }
    }

    /// Makes one bounded step. An error ends the round; nothing is deleted because of it.
    pub fn step(&mut self, target: &EvictionTarget<'_>) -> Result<EvictionStep, StoreError> {
        // The round is put back only if the step succeeds, so an error ends it.
        let Some(mut round) = self.round.take() else { return self.begin(target) };
        let before = round.evicted;
        let next = round.advance(target);
        let evicted = round.evicted.since(&before);
        match next {
            Ok(true) => {
                self.round = Some(round);
                Ok(EvictionStep { more_is_due: true, evicted })
            }
            Ok(false) => {
                let used_bytes = target.catalog.usage()?.physical_bytes;
                self.finish(&round, Some(used_bytes), target.clock.now_ms());
                Ok(EvictionStep { more_is_due: self.rested_at_ms == 0, evicted })
            }
            Err(error) => {
                self.finish(&round, None, target.clock.now_ms());
                Err(error)
            }
        }
    }

    fn begin(&mut self, target: &EvictionTarget<'_>) -> Result<EvictionStep, StoreError> {
        let usage = target.catalog.usage()?;
        let now_ms = target.clock.now_ms();
        let goal_bytes = self.limits.bytes_to_free(&usage, self.wanted_bytes);
        if goal_bytes == 0 {
            self.wanted_bytes = 0;
            return Ok(EvictionStep::default());
        }
        // A writer that needs room ends the rest, but only if the last round was of use. Otherwise
        // every refused write would scan the whole store in vain.
        let waited_for = self.wanted_bytes > 0 && self.last_was_productive;
        if !waited_for && self.is_resting(now_ms) {
            self.wanted_bytes = 0;
            return Ok(EvictionStep::default());
        }
        self.round = Some(Box::new(EvictionRound::new(goal_bytes, &usage, now_ms)));
        Ok(EvictionStep { more_is_due: true, evicted: Evicted::default() })
    }

    /// Tells whether the rest after the last round still lasts. A clock that went back ends it.
    fn is_resting(&self, now_ms: u64) -> bool {
        (self.rested_at_ms..self.rested_at_ms.saturating_add(duration_ms(REST))).contains(&now_ms)
    }

    /// Ends a round and decides whether the next one may begin at once.
    ///
    /// It may if this round reached its goal, or failed to only because it could not remember enough
    /// candidates. In addition the store's usage must have shrunk by at least half of what was
    /// deleted: a store that frees space late would otherwise be emptied meanwhile.
    fn finish(&mut self, round: &EvictionRound, used_bytes: Option<u64>, now_ms: u64) {
        let freed_bytes = round.evicted.physical_bytes;
        let is_seen = used_bytes.is_some_and(|used| used.saturating_add(freed_bytes / 2) <= round.used_bytes);
        let is_done = freed_bytes >= round.goal_bytes || (round.overflowed && freed_bytes > 0);
        self.last_was_productive = used_bytes.is_some() && freed_bytes >= round.goal_bytes / 2;
        self.wanted_bytes = 0;
        self.rested_at_ms = if is_seen && is_done { 0 } else { now_ms };
    }
}

impl Evicted {
    /// Adds what another step evicted.
    pub fn add(&mut self, other: &Evicted) {
        self.actions += other.actions;
        self.blobs += other.blobs;
        self.physical_bytes += other.physical_bytes;
    }

    fn since(&self, before: &Evicted) -> Evicted {
        Evicted {
            actions: self.actions - before.actions,
            blobs: self.blobs - before.blobs,
            physical_bytes: self.physical_bytes - before.physical_bytes,
        }
    }
}

struct EvictionRound {
    started_ms: u64,
    goal_bytes: u64,
    /// How much the store occupied when the round began.
    used_bytes: u64,
    /// How many results name each blob. The fingerprints of the counted results are added as well,
    /// which tells later whether a result was counted.
    counts: NameCounts,
    fingerprints: RandomState,
    trees: TreeCache,
    phase: RoundPhase,
    overflowed: bool,
    evicted: Evicted,
}

enum RoundPhase {
    Counting { after: Option<ActionKey> },
    RankingActions { after: Option<ActionKey>, selection: EvictionSelection },
    RankingBlobs { after: Option<Hash>, selection: EvictionSelection },
    Deleting { candidates: IntoIter<EvictionCandidate>, blobs_to_delete: VecDeque<Digest> },
}

/// The blobs that a result names.
struct NamedBlobs {
    digests: Vec<Digest>,
    /// The time to get the result again; `None` if the result is of no use, because it or one of its
    /// trees cannot be read.
    cost_ms: Option<u64>,
    /// A hash of the result and of all digests it names, with the key of this round.
    fingerprint: u64,
}

impl EvictionRound {
    fn new(goal_bytes: u64, usage: &Usage, started_ms: u64) -> Self {
        EvictionRound {
            started_ms,
            goal_bytes,
            used_bytes: usage.physical_bytes,
            counts: NameCounts::for_names(usage.blobs.saturating_add(usage.action_results)),
            fingerprints: RandomState::new(),
            trees: TreeCache::default(),
            phase: RoundPhase::Counting { after: None },
            overflowed: false,
            evicted: Evicted::default(),
        }
    }

    /// Makes one step. Returns whether the round goes on.
    fn advance(&mut self, target: &EvictionTarget<'_>) -> Result<bool, StoreError> {
        // The placeholder remains only if the step fails, and then the whole round is dropped.
        let phase = std::mem::replace(&mut self.phase, RoundPhase::Counting { after: None });
        let next = match phase {
            RoundPhase::Counting { after } => self.count(target, after.as_ref())?,
            RoundPhase::RankingActions { after, selection } => {
                self.rank_actions(target, after.as_ref(), selection)?
            }
            RoundPhase::RankingBlobs { after, selection } => {
                self.rank_blobs(target, after.as_ref(), selection)?
            }
            RoundPhase::Deleting { candidates, blobs_to_delete } => {
                let Some(next) = self.delete(target, candidates, blobs_to_delete)? else { return Ok(false) };
                next
            }
        };
        self.phase = next;
        Ok(true)
    }

    fn count(
        &mut self,
        target: &EvictionTarget<'_>,
        after: Option<&ActionKey>,
    ) -> Result<RoundPhase, StoreError> {
        let page = target.catalog.actions_after(after, ACTIONS_PER_STEP)?;
        let Some(last) = page.last() else {
            let selection = EvictionSelection::new(CANDIDATES_MAX);
            return Ok(RoundPhase::RankingActions { after: None, selection });
        };
        for entry in &page {
            let named = self.named_by(target, entry);
            // The fingerprint marks this version of the result as counted. `delete_action` spares a result that was
            // stored or replaced later and is therefore not marked.
            self.counts.add(&named.fingerprint);
            named.digests.iter().for_each(|digest| self.counts.add(digest));
        }
        Ok(RoundPhase::Counting { after: Some(last.key.clone()) })
    }

    fn rank_actions(
        &self,
        target: &EvictionTarget<'_>,
        after: Option<&ActionKey>,
        mut selection: EvictionSelection,
    ) -> Result<RoundPhase, StoreError> {
        let page = target.catalog.actions_after(after, ACTIONS_PER_STEP)?;
        let Some(last) = page.last() else { return Ok(RoundPhase::RankingBlobs { after: None, selection }) };
        let now_ms = target.clock.now_ms();
        for entry in &page {
            if !self.is_spared(entry.retention, now_ms) {
                selection.offer(self.action_candidate(target, entry, now_ms));
            }
        }
        Ok(RoundPhase::RankingActions { after: Some(last.key.clone()), selection })
    }

    fn action_candidate(
        &self,
        target: &EvictionTarget<'_>,
        entry: &ActionEntry,
        now_ms: u64,
    ) -> EvictionCandidate {
        let named = self.named_by(target, entry);
        // Deleting one of several results does not free a blob that they share, so each result is
        // charged its share of the blob.
        let share = |digest: &Digest| {
            physical_bytes(digest.size_bytes) / u64::from(self.counts.estimate(digest).max(1))
        };
        let physical_bytes = action_bytes(entry) + named.digests.iter().map(share).sum::<u64>();
        let worth = named.cost_ms.map_or(Worth::NOTHING, |cost_ms| {
            Worth::of(cost_ms, physical_bytes, entry.retention.age_ms(now_ms))
        });
        EvictionCandidate { worth, physical_bytes, what: Evictable::Action(entry.key.clone()) }
    }

    fn rank_blobs(
        &mut self,
        target: &EvictionTarget<'_>,
        after: Option<&Hash>,
        mut selection: EvictionSelection,
    ) -> Result<RoundPhase, StoreError> {
        let page = target.catalog.blobs_after(after, BLOBS_PER_STEP)?;
        let Some(last) = page.last() else {
            self.overflowed = selection.overflowed();
            let candidates = selection.into_order().into_iter();
            return Ok(RoundPhase::Deleting { candidates, blobs_to_delete: VecDeque::new() });
        };
        let now_ms = target.clock.now_ms();
        for entry in &page {
            if !self.is_named(entry) && !self.is_spared(entry.retention, now_ms) {
                selection.offer(orphan_candidate(entry, now_ms));
            }
        }
        Ok(RoundPhase::RankingBlobs { after: Some(last.names.blake3), selection })
    }

    /// Deletes a few entries. Returns `None` when the goal is reached or no candidate is left. The
    /// blobs of a deleted result are deleted before the next candidate is looked at, so that the
    /// count of freed bytes is right when the goal is checked.
    fn delete(
        &mut self,
        target: &EvictionTarget<'_>,
        mut candidates: IntoIter<EvictionCandidate>,
        mut blobs_to_delete: VecDeque<Digest>,
    ) -> Result<Option<RoundPhase>, StoreError> {
        for _ in 0..DELETIONS_PER_STEP {
            if let Some(digest) = blobs_to_delete.pop_front() {
                self.delete_blob(target, &digest, UploadLease::Over)?;
                continue;
            }
            if self.evicted.physical_bytes >= self.goal_bytes {
                return Ok(None);
            }
            match candidates.next() {
                None => return Ok(None),
                Some(EvictionCandidate { what: Evictable::Orphan(digest), .. }) => {
                    self.delete_blob(target, &digest, UploadLease::Holds)?;
                }
                Some(EvictionCandidate { what: Evictable::Action(key), .. }) => {
                    blobs_to_delete.extend(self.delete_action(target, &key)?);
                }
            }
        }
        Ok(Some(RoundPhase::Deleting { candidates, blobs_to_delete }))
    }

    /// Deletes a result unless it was used meanwhile. Returns the blobs that it named, or none if
    /// it was not deleted.
    fn delete_action(
        &mut self,
        target: &EvictionTarget<'_>,
        key: &ActionKey,
    ) -> Result<Vec<Digest>, StoreError> {
        let Some(entry) = target.catalog.action_entry(key)? else { return Ok(Vec::new()) };
        if self.is_spared(entry.retention, target.clock.now_ms()) {
            return Ok(Vec::new());
        }
        let named = self.named_by(target, &entry);
        // A result that was stored or replaced since the count was not counted, so subtracting it
        // would make the counts of its blobs too low. It stays.
        if self.counts.estimate(&named.fingerprint) == 0
            || !target.catalog.delete_action(key, entry.retention)?
        {
            return Ok(Vec::new());
        }
        self.evicted.actions += 1;
        self.evicted.physical_bytes += action_bytes(&entry);
        self.counts.remove(&named.fingerprint);
        named.digests.iter().for_each(|digest| self.counts.remove(digest));
        Ok(named.digests)
    }

    /// Deletes a blob unless a result names it or it was used meanwhile.
    fn delete_blob(
        &mut self,
        target: &EvictionTarget<'_>,
        digest: &Digest,
        grace: UploadLease,
    ) -> Result<(), StoreError> {
        let Some(entry) = target.catalog.blob_entry(digest)? else { return Ok(()) };
        let now_ms = target.clock.now_ms();
        let is_kept = match grace {
            UploadLease::Holds => entry.retention.is_leased(now_ms),
            UploadLease::Over => entry.retention.is_promised(now_ms),
        };
        if is_kept || self.is_named(&entry) || self.was_used_lately(entry.retention, now_ms) {
            return Ok(());
        }
        if let Some(freed_bytes) = target.catalog.delete_blob(&entry.names.blake3, entry.retention)? {
            self.evicted.blobs += 1;
            self.evicted.physical_bytes += freed_bytes;
        }
        Ok(())
    }

    /// Tells whether a blob is named by a result that existed when the round began and still does.
    fn is_named(&self, entry: &BlobEntry) -> bool {
        let names = DigestFunction::ALL.into_iter().filter_map(|function| entry.names.digest(function));
        names.into_iter().any(|digest| self.counts.estimate(&digest) > 0)
    }

    /// Tells whether an entry is leased, or was used since the round began.
    fn is_spared(&self, retention: Retention, now_ms: u64) -> bool {
        retention.is_leased(now_ms) || self.was_used_lately(retention, now_ms)
    }

    /// Tells whether an entry was used since the round began.
    fn was_used_lately(&self, retention: Retention, now_ms: u64) -> bool {
        (self.started_ms..=now_ms.saturating_add(CLOCK_TOLERANCE_MS)).contains(&retention.used_ms)
    }

    /// Lists the blobs that a result names. If the result or one of its trees cannot be read, the
    /// blobs that only this part names are not protected: the result cannot be restored anyway.
    fn named_by(&self, target: &EvictionTarget<'_>, entry: &ActionEntry) -> NamedBlobs {
        let function = entry.key.function;
        let (digests, cost_ms) = match entry.result.decode() {
            Err(_) => (Vec::new(), None),
            Ok(result) => match everything_named(function, &result, target.blobs, &self.trees) {
                Ok(Some(digests)) => {
                    let cost_ms = cost_ms(&entry.key, &result, &digests);
                    (digests, Some(cost_ms))
                }
                Ok(None) | Err(_) => {
                    let direct = references::references(function, &result);
                    (direct.map(|direct| direct.blobs).unwrap_or_default(), None)
                }
            },
        };
        let fingerprint = self.fingerprints.hash_one((&entry.key, &entry.result.encoded, &digests));
        NamedBlobs { digests, cost_ms, fingerprint }
    }
}

/// Returns the time to get a result again: to make it, or to fetch it if it came from a remote and that is faster.
fn cost_ms(key: &ActionKey, result: &ActionResult, named: &[Digest]) -> u64 {
    let rebuild_ms = rebuild_cost_ms(result);
    match key.is_of_remote() {
        false => rebuild_ms,
        true => rebuild_ms.min(remote_fetch_cost_ms(named.iter().map(|digest| digest.size_bytes).sum())),
    }
}

fn orphan_candidate(entry: &BlobEntry, now_ms: u64) -> EvictionCandidate {
    let cost_ms = refetch_cost_ms(entry.names.size_bytes);
    let digest = entry.names.digest(DigestFunction::Blake3).expect("every blob has a BLAKE3");
    EvictionCandidate {
        worth: Worth::of(cost_ms, entry.physical_bytes, entry.retention.age_ms(now_ms)),
        physical_bytes: entry.physical_bytes,
        what: Evictable::Orphan(digest),
    }
}

fn action_bytes(entry: &ActionEntry) -> u64 {
    entry.result.encoded.len() as u64 + RECORD_BYTES
}

/// Estimates how much a blob of this size occupies on the volume.
fn physical_bytes(size_bytes: u64) -> u64 {
    match size_bytes {
        ..=BLOCK_BYTES => size_bytes + RECORD_BYTES,
        _ => size_bytes.next_multiple_of(BLOCK_BYTES) + RECORD_BYTES,
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
