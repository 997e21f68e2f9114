//! Seeding: restores units before cargo looks at its target directory, and keeps seeds for the next
//! cargo when one has exited.
//!
//! A seed is only a candidate. Its unit is looked up as if cargo had called for it: with the call that
//! cargo would make, in cargo's environment, over the files as they are now. It is restored only if
//! that lookup leads to the same action. Cargo then checks its own record of the unit as always. So a
//! unit that cargo finds fresh has the files with which kache would have answered cargo's call.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kache_cas::{AccessKind, Digest, Store, StoreError, with_causes};

use super::begin::{KeyedCall, Pipeline};
use super::call_state::CallClient;
use super::in_order::run_in_order;
use super::phases::Phases;
use super::sessions::{SeedCandidate, Session};
use super::verify::Verification;
use crate::cargo::Fingerprint;
use crate::config::CompileSettings;
use crate::events::{Outcome, Phase, SEEDED};
use crate::invocation::{Call, Environment};
use crate::lookup::Found;
use crate::outputs::Staging;
use crate::roles::{Role, Root, Roots};
use crate::seeds::{self, PortableCall, SaveSeedsError, Seed, SeedSet};

/// Seeding stops after so many seeds that could not be restored, if none could: then the whole set
/// does not fit.
const USELESS_MAX: usize = 16;

/// How long to wait for results that are still being stored for a cargo that has exited.
const STORING_MAX: Duration = Duration::from_secs(1);

/// The number of threads that restore seeds. More would not help: cargo needs a processor meanwhile,
/// and the disk is no faster with more threads.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("it is not zero");

/// A session that is being seeded. Later calls of its cargo wait until this is dropped.
#[derive(Debug)]
pub struct Seeding {
    session: Arc<Session>,
    /// The call with which seeding began: cargo's question for the compiler's version.
    call: Arc<Call>,
}

impl Seeding {
    /// Returns a function that lets cargo go on. The daemon calls it when time is up, even if the
    /// thread that restores seeds hangs.
    pub fn ending(&self) -> impl FnOnce() + Send + use<> {
        let session = Arc::clone(&self.session);
        move || session.end_seeding()
    }
}

/// The seeds to restore, and the target directory that they go to.
#[derive(Debug)]
pub struct SeedingPlan {
    seeding: Box<Seeding>,
    set: SeedSet,
    target_dir: PathBuf,
    roots: Roots,
}

impl SeedingPlan {
    /// The target directory that is seeded.
    pub fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// The profile directories that will get units, relative to the target directory.
    pub fn profiles(&self) -> Vec<PathBuf> {
        let mut profiles: Vec<PathBuf> = self.set.iter().map(|seed| seed.unit.profile.clone()).collect();
        profiles.sort_unstable();
        profiles.dedup();
        profiles
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        self.session.end_seeding();
    }
}

impl Pipeline {
    /// Finds the session that a client belongs to. Returns a [`Seeding`] if this call begins one; else
    /// waits while the session is being seeded.
    pub(super) fn identify_client(
        &self,
        client: Option<i32>,
        call: &Arc<Call>,
        staging: Staging,
    ) -> (CallClient, Option<Box<Seeding>>) {
        let session = client.and_then(|pid| self.sessions.of(pid));
        let begins = session.as_ref().is_some_and(|session| session.note_call(call));
        let seeding = session
            .as_ref()
            .filter(|_| begins)
            .map(|session| Box::new(Seeding { session: Arc::clone(session), call: Arc::clone(call) }));
        (CallClient { pid: client, session, staging }, seeding)
    }

    /// Returns the sessions that began since the last call of this function. The caller waits for the
    /// end of each, and then calls [`Pipeline::collect_records`].
    pub fn take_new_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.take_new()
    }

    /// Keeps the seeds of all sessions that have ended, and hashes again the programs that their
    /// cargos made hard links to.
    pub fn collect_records(&self) {
        self.keep_records();
        self.shared.make_cargo_ask(false);
        self.rehash_programs(&self.sessions.take_programs());
    }

    /// Keeps the seeds of all sessions whose cargo has exited. Waits up to [`STORING_MAX`] for those
    /// whose results are still being stored.
    pub fn keep_all_records(&self) {
        self.keep_records_once_stored(|_| true);
    }

    fn keep_records(&self) {
        self.sessions.take_ended(|session| {
            if let Err(error) = self.keep_records_of(session) {
                tracing::warn!("failed to keep the seeds of a build: {}", with_causes(&error));
            }
        });
    }

    fn keep_records_once_stored(&self, is_wanted: impl Fn(&Session) -> bool) {
        let deadline = Instant::now() + STORING_MAX;
        for session in self.sessions.ending() {
            if is_wanted(&session) {
                session.wait_until_stored(deadline);
            }
        }
        self.keep_records();
    }

    /// Finds the seeds of a session; `None` if there are none. Returning `None` drops `seeding`, so
    /// that cargo goes on.
    pub fn plan(&self, seeding: Box<Seeding>) -> Option<SeedingPlan> {
        let plan = self.try_plan(seeding);
        plan.unwrap_or_else(|error| {
            tracing::warn!("failed to read the seeds for a build: {}", with_causes(&error));
            None
        })
    }

    fn try_plan(&self, seeding: Box<Seeding>) -> Result<Option<SeedingPlan>, StoreError> {
        let Seeding { session, call } = &*seeding;
        let Some(request) = session.request() else { return Ok(None) };
        let is_wanted = self.settings(call).is_ok_and(|settings| settings.seed && !settings.disabled);
        let (true, Ok(store)) = (is_wanted, self.store()) else { return Ok(None) };
        let Some(name) = request.key() else { return Ok(None) };
        // A build that has just ended may leave the seeds that this one needs. It is worth the wait:
        // without them, cargo's calls would wait for the same results.
        self.keep_records_once_stored(|session| session.seed_set_name().as_ref() == Some(&name));
        let Some(set) = seeds::load(store.actions(), &name)? else { return Ok(None) };
        let target_dir = request.target_dir();
        let roots = roots(request.workspace(), &target_dir, request.home());
        Ok(Some(SeedingPlan { seeding, set, target_dir, roots }))
    }

    /// Restores the seeds of a plan, through a staging directory in the target directory. Returns the
    /// restored results that are to be verified, as after any hit.
    pub fn seed(&self, plan: &SeedingPlan, staging: &Staging) -> Vec<Verification> {
        let Ok(store) = self.store() else { return Vec::new() };
        let session = &plan.seeding.session;
        session.expect_version_again(plan.set.asks_version_again);
        let client = CallClient { pid: None, session: Some(Arc::clone(session)), staging: staging.clone() };
        self.restore_seeds(plan, &store, &client)
    }

    /// Has the store hash these programs again. Cargo's hard links have moved the change times of
    /// their inodes; without this, the next hit would have to hash them.
    fn rehash_programs(&self, programs: &[Digest]) {
        let Ok(store) = self.store() else { return };
        for digest in programs {
            if let Err(error) = store.blobs().open(digest, AccessKind::Peek) {
                tracing::debug!("failed to hash `{digest}` again: {error}");
            }
        }
    }

    /// Adds the units of one session to its seed set.
    fn keep_records_of(&self, session: &Session) -> Result<(), SaveSeedsError> {
        let Some(request) = session.request() else { return Ok(()) };
        let candidates = session.take_candidates();
        let (Ok(store), Some(name)) = (self.store(), request.key()) else { return Ok(()) };
        let target_dir = request.target_dir();
        let roots = roots(request.workspace(), &target_dir, request.home());
        let before = seeds::load(store.actions(), &name)?.unwrap_or_default();
        let mut hashes: HashSet<String> = before.iter().map(|seed| seed.unit.hash().to_owned()).collect();
        let mut new = Vec::new();
        for candidate in candidates.iter().filter(|candidate| candidate.target_dir == target_dir) {
            // A unit can be seeded only if all of its dependencies can. A unit with a build script
            // cannot: the script has to run first.
            if !candidate.depends_on.iter().all(|hash| hashes.contains(hash)) {
                continue;
            }
            if let Some(seed) = seed_of(candidate, request.environment(), &roots) {
                hashes.insert(seed.unit.hash().to_owned());
                new.push(seed);
            }
        }
        let mut after = before.clone();
        after.merge(new);
        after.asks_version_again |= session.asks_version_again();
        if after != before {
            seeds::save(store.actions(), &name, &after)?;
        }
        Ok(())
    }

    /// Restores the seeds in the order of their dependencies. Stops early if the client has removed
    /// its staging directory, or if no seed of the set can be restored.
    fn restore_seeds(&self, plan: &SeedingPlan, store: &Store, client: &CallClient) -> Vec<Verification> {
        let SeedingPlan { seeding, set, target_dir, roots } = plan;
        let (restored, useless) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let to_verify = Mutex::new(Vec::new());
        let seeds: Vec<&Seed> = set.iter().collect();
        let threads = thread::available_parallelism().map_or(NonZeroUsize::MIN, |many| many.min(THREADS_MAX));
        run_in_order(&set.dependencies(), threads, |index| {
            if useless.load(Ordering::Relaxed) >= USELESS_MAX || client.staging.is_gone() {
                return;
            }
            let seed = seeds[index];
            let call = seed.call.localise(&seeding.call, roots).map(Arc::new);
            let done = call.and_then(|call| self.restore_seed(seed, call, store, client, target_dir));
            if let Some((settings, verification)) = done {
                restored.fetch_add(1, Ordering::Relaxed);
                if self.take_sample(&settings) {
                    to_verify.lock().unwrap_or_else(PoisonError::into_inner).push(verification);
                }
            } else if restored.load(Ordering::Relaxed) == 0 {
                useless.fetch_add(1, Ordering::Relaxed);
            }
        });
        tracing::debug!("{restored:?} of {} units were restored before cargo asked for them", seeds.len());
        to_verify.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up and restores one seed, and then cargo's record of it. `None` if the lookup does not
    /// lead to the seed's action, or if something fails.
    fn restore_seed(
        &self,
        seed: &Seed,
        call: Arc<Call>,
        store: &Store,
        client: &CallClient,
        target_dir: &Path,
    ) -> Option<(Arc<CompileSettings>, Verification)> {
        let mut phases = Phases::begin();
        let settings = self.settings(&call).ok()?;
        let prepared = self.prepare(&call, &settings, &mut phases).ok()?;
        let outcome = self.find(&call, &prepared, store);
        phases.end(Phase::Lookup);
        let Ok(Found::Hit { action, result, .. }) = outcome else { return None };
        // With another action, cargo's record would not match the files: it was written for the outputs
        // of the seed's action.
        if action.hash != seed.action {
            return None;
        }
        let mut keyed = KeyedCall { call, client: client.clone(), settings, prepared, phases };
        let mut event = keyed.event(Outcome::LocalHit);
        event.action = action.hash.to_hex();
        SEEDED.clone_into(&mut event.reason);
        let out_dir = keyed.call.cwd.join(keyed.prepared.rustc.out_dir.as_deref()?);
        let (staging, umask) = (&client.staging, keyed.call.umask);
        staging.make_dirs(&out_dir, umask).ok()?;
        self.restore_hit(store, &mut keyed, &mut event, &result).ok()?;
        // Cargo's record comes last: without a record, cargo builds the unit, so a unit that was
        // restored in part does no harm.
        let record = seed.unit.directory(target_dir);
        staging.announce(std::slice::from_ref(&record)).ok()?;
        staging.make_dirs(record.parent()?, umask).ok()?;
        staging.fill_dir(&record, umask, |directory| seed.fingerprint.write(directory)).ok()?;
        let KeyedCall { call, settings, prepared, .. } = keyed;
        Some((settings, Verification { call, prepared, action, result }))
    }
}

/// Makes a seed of a unit. `None` if cargo's fingerprint of the unit is not the one that it wrote for
/// this call, or if the call or the fingerprint only makes sense in this checkout.
fn seed_of(candidate: &SeedCandidate, cargo_env: &Environment, roots: &Roots) -> Option<Seed> {
    let fingerprint = Fingerprint::read(&candidate.target_dir, &candidate.unit, candidate.called);
    let fingerprint = fingerprint.inspect_err(|why| tracing::debug!("{why}")).ok()?;
    let dirs = [Role::Workspace, Role::Target].map(|role| roots.dir(role));
    let call = PortableCall::of(&candidate.call, cargo_env, roots)?;
    let is_bound = fingerprint.names_any(&dirs.into_iter().flatten().collect::<Vec<_>>());
    (!is_bound).then(|| Seed {
        action: candidate.action,
        unit: candidate.unit.clone(),
        call,
        fingerprint,
        depends_on: candidate.depends_on.clone(),
    })
}

/// The roots in which calls of two checkouts may differ.
fn roots(workspace: &Path, target_dir: &Path, cargo_home: &Path) -> Roots {
    let root = |role, dir: &Path| Root { role, dir: dir.to_owned() };
    Roots::new([
        root(Role::Workspace, workspace),
        root(Role::Target, target_dir),
        root(Role::Cargo, cargo_home),
    ])
}
