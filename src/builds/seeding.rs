//! Seeding: restores units before cargo looks at its target directory.
//!
//! A seed is only a candidate. Its unit is looked up as if cargo had called for it: with the call that
//! cargo would make, in cargo's environment, over the files as they are now. It is restored only if
//! that lookup leads to the same action. Cargo then checks its own record of the unit as always. So a
//! unit that cargo finds fresh has the files with which kache would have answered cargo's call.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kache_cas::{Store, StoreError, with_causes};
use parking_lot::Mutex;

use super::entry::Builds;
use super::in_order::run_in_order;
use super::records::STORING_MAX;
use super::session::Session;
use crate::config::CompileSettings;
use crate::events::{EventReason, Outcome};
use crate::invocation::Call;
use crate::lookup::LookupOutcome;
use crate::outputs::Staging;
use crate::pipeline::{self, CallClient, LookedUpCall, Pipeline, Verification};
use crate::roles::{Role, Root, Roots};
use crate::seeds::{self, Seed, SeedSet};

/// How long seeding may delay a cargo. Restoring a unit takes as long as if cargo had called for it.
pub const SEEDING_MAX: Duration = Duration::from_millis(1_700);

/// The time that is left for the last seed when seeding ends. If it takes longer, everything that was
/// restored is removed again, because the daemon cannot tell which units are complete.
const LAST_SEED_MAX: Duration = Duration::from_millis(300);

/// Seeding stops after so many seeds that could not be restored, if none could: then the whole set
/// does not fit.
const USELESS_MAX: usize = 16;

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
    pub(super) fn new(session: Arc<Session>, call: Arc<Call>) -> Seeding {
        Seeding { session, call }
    }

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

impl Builds {
    /// Finds the seeds of a session; `None` if there are none. Returning `None` drops `seeding`, so
    /// that cargo goes on.
    pub fn plan(&self, pipeline: &Pipeline, seeding: Box<Seeding>) -> Option<SeedingPlan> {
        let plan = self.try_plan(pipeline, seeding);
        plan.unwrap_or_else(|error| {
            tracing::warn!("failed to read the seeds for a build: {}", with_causes(&error));
            None
        })
    }

    fn try_plan(
        &self,
        pipeline: &Pipeline,
        seeding: Box<Seeding>,
    ) -> Result<Option<SeedingPlan>, StoreError> {
        let Seeding { session, call } = &*seeding;
        let Some(request) = session.request() else { return Ok(None) };
        let is_wanted = pipeline.settings(call).is_ok_and(|settings| settings.seed && !settings.disabled);
        let (true, Ok(store)) = (is_wanted, pipeline.store()) else { return Ok(None) };
        let Some(name) = request.key(pipeline.key_function()) else { return Ok(None) };
        // A build that has just ended may leave the seeds that this one needs. It is worth the wait:
        // without them, cargo's calls would wait for the same results.
        self.keep_records_once_stored(pipeline, STORING_MAX, |session| {
            session.seed_set_name(pipeline.key_function()).as_ref() == Some(&name)
        });
        let Some(set) = seeds::load(store.actions(), &name)? else { return Ok(None) };
        let target_dir = request.target_dir();
        let roots = roots(request.workspace(), &target_dir, request.home());
        Ok(Some(SeedingPlan { seeding, set, target_dir, roots }))
    }

    /// Restores the seeds of a plan, through a staging directory in the target directory. Begins with
    /// no more seeds shortly before `left` has passed. Returns the restored results that are to be
    /// verified, as after any hit.
    pub fn seed(
        &self,
        pipeline: &Pipeline,
        plan: &SeedingPlan,
        staging: &Staging,
        left: Duration,
    ) -> Vec<Verification> {
        let Ok(store) = pipeline.store() else { return Vec::new() };
        let session = &plan.seeding.session;
        session.expect_version_again(plan.set.asks_version_again);
        let client = self.client_of(Some(Arc::clone(session)), staging.clone(), true);
        let end = SeedingEnd { at: Instant::now() + left.saturating_sub(LAST_SEED_MAX), staging };
        restore_seeds(pipeline, plan, &store, &client, &end)
    }
}

/// When seeding ends, whether or not all seeds are restored. The units that are restored by then are
/// complete and stay.
struct SeedingEnd<'a> {
    at: Instant,
    /// The client's guard removes this directory when it has waited too long.
    staging: &'a Staging,
}

impl SeedingEnd<'_> {
    fn has_come(&self) -> bool {
        Instant::now() >= self.at || self.staging.is_gone()
    }
}

/// Restores the seeds in the order of their dependencies. Stops early if it has to end, or if no seed
/// of the set can be restored.
fn restore_seeds(
    pipeline: &Pipeline,
    plan: &SeedingPlan,
    store: &Store,
    client: &CallClient,
    end: &SeedingEnd<'_>,
) -> Vec<Verification> {
    let SeedingPlan { seeding, set, target_dir, roots } = plan;
    let (restored, useless) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let to_verify = Mutex::new(Vec::new());
    let seeds: Vec<&Seed> = set.iter().collect();
    let threads = thread::available_parallelism().map_or(NonZeroUsize::MIN, |many| many.min(THREADS_MAX));
    run_in_order(&set.dependencies(), threads, |index| {
        if useless.load(Ordering::Relaxed) >= USELESS_MAX || end.has_come() {
            return;
        }
        let seed = seeds[index];
        let call = seed.call.localise(&seeding.call, roots).map(Arc::new);
        let done = call.and_then(|call| restore_seed(pipeline, seed, call, store, client, target_dir));
        if let Some((settings, verification)) = done {
            restored.fetch_add(1, Ordering::Relaxed);
            if pipeline.take_sample(&settings) {
                to_verify.lock().push(verification);
            }
        } else if restored.load(Ordering::Relaxed) == 0 {
            useless.fetch_add(1, Ordering::Relaxed);
        }
    });
    tracing::debug!("{restored:?} of {} units were restored before cargo asked for them", seeds.len());
    to_verify.into_inner()
}

/// Looks up and restores one seed, and then cargo's record of it. `None` if the lookup does not
/// lead to the seed's action, or if something fails.
fn restore_seed(
    pipeline: &Pipeline,
    seed: &Seed,
    call: Arc<Call>,
    store: &Store,
    client: &CallClient,
    target_dir: &Path,
) -> Option<(Arc<CompileSettings>, Verification)> {
    let keyed = pipeline::key_unrecorded(pipeline, call, client.clone()).ok()?;
    let LookedUpCall { mut keyed, found } = pipeline::look_up(pipeline, store, keyed);
    let Ok(LookupOutcome::Hit { action, result, .. }) = found else { return None };
    // With another action, cargo's record would not match the files: it was written for the outputs
    // of the seed's action.
    if action.hash != seed.action {
        return None;
    }
    let mut event = keyed.event(Outcome::LocalHit);
    event.action = Some(action.hash);
    event.reason = Some(EventReason::Seeded);
    let out_dir = keyed.call.cwd.join(keyed.prepared.compiler.facts().out_dir?);
    let (staging, umask) = (&client.staging, keyed.call.umask);
    staging.make_dirs(&out_dir, umask).ok()?;
    pipeline::restore_result(pipeline, store, &mut keyed, &mut event, (action.hash, &result)).ok()?;
    // Cargo's record comes last: without a record, cargo builds the unit, so a unit that was
    // restored in part does no harm.
    let record = seed.unit.directory(target_dir);
    staging.announce(std::slice::from_ref(&record)).ok()?;
    staging.make_dirs(record.parent()?, umask).ok()?;
    staging.fill_dir(&record, umask, |directory| seed.fingerprint.write(directory)).ok()?;
    let settings = Arc::clone(&keyed.settings);
    Some((settings, Verification::of(keyed, action, result)))
}

/// The roots in which calls of two checkouts may differ.
pub(super) fn roots(workspace: &Path, target_dir: &Path, cargo_home: &Path) -> Roots {
    let root = |role, dir: &Path| Root { role, dir: dir.to_owned() };
    Roots::new([
        root(Role::Workspace, workspace),
        root(Role::Target, target_dir),
        root(Role::Cargo, cargo_home),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dmn_03_seeding_ends_by_its_own_clock_and_by_that_of_the_guard() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join(".kache-1");
        std::fs::create_dir(&made).unwrap();
        let staging = Staging::new(Some(made.clone()));
        let end = |at| SeedingEnd { at, staging: &staging };
        let (soon, now) = (Instant::now() + SEEDING_MAX, Instant::now());
        assert!(!end(soon).has_come());
        assert!(end(now).has_come());
        std::fs::remove_dir(made).unwrap();
        assert!(end(soon).has_come());
    }
}
