//! A round of eviction, one bounded step at a time.
//!
//! A round counts what every result names, ranks results and the blobs that none names,
//! and deletes the least worthy until its goal is reached: results first, then those of
//! their blobs that no surviving result names. Whoever calls [`Evictor::step`] decides
//! when; no lookup ever does (STO-10).
//!
//! What happens between two steps is never assumed away. A result or blob that was used
//! since it was looked at stays; one that came during the round was not counted and
//! therefore stays as well, since coming is a use.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::vec::IntoIter;

use super::catalog::{ActionEntry, BlobEntry, Catalog, Usage};
use super::plan::{Evictable, EvictionCandidate, Selection, SizeLimits};
use super::sketch::NameCounts;
use super::worth::{Worth, rebuild_cost_ms, refetch_cost_ms};
use crate::clock::{Clock, duration_ms};
use crate::completeness::{TreeCache, everything_named};
use crate::digest::{Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::references;
use crate::store::{ActionKey, BlobStore};

/// So many results are looked at in one step: a millisecond or two.
const ACTIONS_PER_STEP: usize = 256;

/// So many blobs are looked at in one step.
const BLOBS_PER_STEP: usize = 1_024;

/// So many things are deleted in one step: each is an `unlink` and a database write.
const DELETIONS_PER_STEP: usize = 64;

/// So many candidates are remembered at most: about 10 MiB. Should they not be enough, the
/// next round follows at once.
const CANDIDATES_MAX: usize = 65_536;

/// How long after a round that did not reach its goal the next may begin, unless a writer
/// waits for room and the last round found some. A round looks at everything; what it
/// could not free then it cannot free now.
const REST: std::time::Duration = std::time::Duration::from_secs(5);

/// A larger blob has a file of its own, in blocks of this size; both as on most volumes.
const BLOCK_BYTES: u64 = 4_096;

/// About what the records of an entry take.
const RECORD_BYTES: u64 = 128;

/// A use dated later than this from now was dated by a clock that was wrong.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

/// Whether the grace of an upload keeps a blob. It does so until a result names it; a store
/// that is filled within that time could otherwise drop results and free nothing.
#[derive(Clone, Copy)]
enum UploadLease {
    Holds,
    Over,
}

/// What eviction works on.
pub struct EvictionTarget<'a> {
    /// The store, to be looked through and thinned out.
    pub catalog: &'a dyn Catalog,
    /// The same store, to read trees from.
    pub blobs: &'a dyn BlobStore,
    /// What tells the time.
    pub clock: &'a dyn Clock,
}

/// What was evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many action results.
    pub actions: u64,
    /// How many blobs.
    pub blobs: u64,
    /// The physical bytes of both.
    pub physical_bytes: u64,
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionStep {
    /// Whether another is due at once.
    pub more_is_due: bool,
    /// What went.
    pub evicted: Evicted,
}

/// Eviction between two steps.
pub struct Evictor {
    limits: SizeLimits,
    round: Option<Box<EvictionRound>>,
    wanted_bytes: u64,
    rested_at_ms: u64,
    last_was_productive: bool,
}

impl Evictor {
    /// Nothing under way.
    pub fn new(limits: SizeLimits) -> Self {
        Evictor { limits, round: None, wanted_bytes: 0, rested_at_ms: 0, last_was_productive: true }
    }

    /// A writer was refused so many bytes. That is pressure, whatever the marks say.
    pub fn want(&mut self, bytes: u64) {
        self.wanted_bytes = self.wanted_bytes.max(bytes);
        if let Some(round) = &mut self.round {
            round.goal_bytes = round.goal_bytes.max(bytes);
        }
    }

    /// Does a little. An error ends the round; nothing is deleted on its account.
    pub fn step(&mut self, target: &EvictionTarget<'_>) -> Result<EvictionStep, StoreError> {
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
        let waited_for = self.wanted_bytes > 0 && self.last_was_productive;
        if !waited_for && self.is_resting(now_ms) {
            self.wanted_bytes = 0;
            return Ok(EvictionStep::default());
        }
        self.round = Some(Box::new(EvictionRound::new(goal_bytes, &usage, now_ms)));
        Ok(EvictionStep { more_is_due: true, evicted: Evicted::default() })
    }

    /// A clock that went back must not make this rest for longer.
    fn is_resting(&self, now_ms: u64) -> bool {
        (self.rested_at_ms..self.rested_at_ms.saturating_add(duration_ms(REST))).contains(&now_ms)
    }

    /// After a round that reached its goal, or could not remember enough to, the next may
    /// begin at once; but only if what went is seen to be gone, so that a store which gives
    /// room back late is not emptied meanwhile.
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
    /// What the store occupied when it began.
    used_bytes: u64,
    /// How many results name a blob; also, which results were counted.
    counts: NameCounts,
    fingerprints: RandomState,
    trees: TreeCache,
    phase: RoundPhase,
    overflowed: bool,
    evicted: Evicted,
}

enum RoundPhase {
    Counting { after: Option<ActionKey> },
    RankingActions { after: Option<ActionKey>, selection: Selection },
    RankingBlobs { after: Option<Hash>, selection: Selection },
    Deleting { candidates: IntoIter<EvictionCandidate>, doomed: VecDeque<Digest> },
}

/// What a result names.
struct NamedBlobs {
    digests: Vec<Digest>,
    /// `None` where the result is of no use: a part of it cannot be had.
    rebuild_ms: Option<u64>,
    /// What the result and all it names hash to, in this round.
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

    /// One step. Whether there is more to do.
    fn advance(&mut self, target: &EvictionTarget<'_>) -> Result<bool, StoreError> {
        let phase = std::mem::replace(&mut self.phase, RoundPhase::Counting { after: None });
        let next = match phase {
            RoundPhase::Counting { after } => self.count(target, after.as_ref())?,
            RoundPhase::RankingActions { after, selection } => {
                self.rank_actions(target, after.as_ref(), selection)?
            }
            RoundPhase::RankingBlobs { after, selection } => {
                self.rank_blobs(target, after.as_ref(), selection)?
            }
            RoundPhase::Deleting { candidates, doomed } => {
                let Some(next) = self.delete(target, candidates, doomed)? else { return Ok(false) };
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
            let selection = Selection::new(CANDIDATES_MAX);
            return Ok(RoundPhase::RankingActions { after: None, selection });
        };
        for entry in &page {
            let named = self.named_by(target, entry);
            self.counts.add(&named.fingerprint);
            named.digests.iter().for_each(|digest| self.counts.add(digest));
        }
        Ok(RoundPhase::Counting { after: Some(last.key.clone()) })
    }

    fn rank_actions(
        &self,
        target: &EvictionTarget<'_>,
        after: Option<&ActionKey>,
        mut selection: Selection,
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
        // A blob that several name is freed by none of them alone: each is charged its part.
        let share = |digest: &Digest| {
            physical_bytes(digest.size_bytes) / u64::from(self.counts.estimate(digest).max(1))
        };
        let physical_bytes = action_bytes(entry) + named.digests.iter().map(share).sum::<u64>();
        let worth = named.rebuild_ms.map_or(Worth::NOTHING, |cost_ms| {
            Worth::of(cost_ms, physical_bytes, entry.retention.age_ms(now_ms))
        });
        EvictionCandidate { worth, physical_bytes, what: Evictable::Action(entry.key.clone()) }
    }

    fn rank_blobs(
        &mut self,
        target: &EvictionTarget<'_>,
        after: Option<&Hash>,
        mut selection: Selection,
    ) -> Result<RoundPhase, StoreError> {
        let page = target.catalog.blobs_after(after, BLOBS_PER_STEP)?;
        let Some(last) = page.last() else {
            self.overflowed = selection.overflowed();
            let candidates = selection.into_order().into_iter();
            return Ok(RoundPhase::Deleting { candidates, doomed: VecDeque::new() });
        };
        let now_ms = target.clock.now_ms();
        for entry in &page {
            if !self.is_named(entry) && !self.is_spared(entry.retention, now_ms) {
                selection.offer(orphan_candidate(entry, now_ms));
            }
        }
        Ok(RoundPhase::RankingBlobs { after: Some(last.names.blake3), selection })
    }

    /// Deletes a few; `None` when the goal is reached or nothing is left that may go. The
    /// blobs of a result that is gone go before the next candidate is looked at, so that
    /// what counts as freed is free.
    fn delete(
        &mut self,
        target: &EvictionTarget<'_>,
        mut candidates: IntoIter<EvictionCandidate>,
        mut doomed: VecDeque<Digest>,
    ) -> Result<Option<RoundPhase>, StoreError> {
        for _ in 0..DELETIONS_PER_STEP {
            if let Some(digest) = doomed.pop_front() {
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
                    doomed.extend(self.delete_action(target, &key)?);
                }
            }
        }
        Ok(Some(RoundPhase::Deleting { candidates, doomed }))
    }

    /// Deletes a result if nobody used it meanwhile. What it named.
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
        // What was never counted, because it came or was replaced since, cannot be taken
        // back from the counts.
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

    /// Deletes a blob if no result names it and nobody used it meanwhile.
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

    /// Whether any result that was there when this round began, and still is, names it.
    fn is_named(&self, entry: &BlobEntry) -> bool {
        let names = DigestFunction::ALL.into_iter().filter_map(|function| entry.names.digest(function));
        names.into_iter().any(|digest| self.counts.estimate(&digest) > 0)
    }

    /// Leased, or used since the round began.
    fn is_spared(&self, retention: Retention, now_ms: u64) -> bool {
        retention.is_leased(now_ms) || self.was_used_lately(retention, now_ms)
    }

    /// Used since the round began.
    fn was_used_lately(&self, retention: Retention, now_ms: u64) -> bool {
        (self.started_ms..=now_ms.saturating_add(CLOCK_TOLERANCE_MS)).contains(&retention.used_ms)
    }

    /// What a result names, as far as can be told. What cannot be read protects nothing.
    fn named_by(&self, target: &EvictionTarget<'_>, entry: &ActionEntry) -> NamedBlobs {
        let function = entry.key.function;
        let (digests, rebuild_ms) = match entry.result.decode() {
            Err(_) => (Vec::new(), None),
            Ok(result) => match everything_named(function, &result, target.blobs, &self.trees) {
                Ok(Some(digests)) => (digests, Some(rebuild_cost_ms(&result))),
                Ok(None) | Err(_) => {
                    let direct = references::references(function, &result);
                    (direct.map(|direct| direct.blobs).unwrap_or_default(), None)
                }
            },
        };
        let fingerprint = self.fingerprints.hash_one((&entry.key, &entry.result.encoded, &digests));
        NamedBlobs { digests, rebuild_ms, fingerprint }
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

/// About what a blob of this size takes on the volume.
fn physical_bytes(size_bytes: u64) -> u64 {
    match size_bytes {
        ..=BLOCK_BYTES => size_bytes + RECORD_BYTES,
        _ => size_bytes.next_multiple_of(BLOCK_BYTES) + RECORD_BYTES,
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
