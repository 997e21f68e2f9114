//! Seeding: units are laid down for a cargo before it looks, and kept for the next one when it
//! has ended.
//!
//! What is laid down was looked up as if cargo had called for it: by the call that it would
//! make, with its own environment, over the files as they are now. Only the very result that
//! the seed was taken from is taken. Cargo then compares its own record as it always does. So
//! a unit that is found fresh is one that a call would have answered with the same files.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kache_cas::{AccessKind, Digest, Store};

use super::begin::{Asked, Pipeline};
use super::in_order::in_order;
use super::pending::Client;
use super::phases::Phases;
use super::sessions::{Noted, Session};
use super::verify::Verification;
use crate::cargo::Fingerprint;
use crate::config::CompileSettings;
use crate::events::{Outcome, Phase, SEEDED};
use crate::invocation::{Call, Environment};
use crate::lookup::Found;
use crate::restore::Staging;
use crate::roles::{Role, Root, Roots};
use crate::seeds::{self, Portable, Seed, Seeds};

/// So many seeds that are of no use, and none that is, end it: the whole set is not.
const USELESS_MAX: usize = 16;

/// How long what is still being stored is waited for.
const STORING_MAX: Duration = Duration::from_secs(1);

/// On how many threads units are laid down: cargo needs one meanwhile, and a disk does not get
/// faster.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("it is not zero");

/// A cargo that waits, as soon as it asks on, for what is laid down.
#[derive(Debug)]
pub struct Seeding {
    session: Arc<Session>,
    /// Its first question.
    call: Arc<Call>,
}

impl Seeding {
    /// What ends it from outside when time is up, whatever it waits for.
    pub fn ending(&self) -> impl FnOnce() + Send + use<> {
        let session = Arc::clone(&self.session);
        move || session.end_seeding()
    }
}

/// The seeds to restore, and the target directory that they go to.
#[derive(Debug)]
pub struct Plan {
    seeding: Box<Seeding>,
    set: Seeds,
    target_dir: PathBuf,
    roots: Roots,
}

impl Plan {
    /// The target directory.
    pub fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// The directories of profiles in it, relative to it.
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
    /// The cargo behind this process, and whether it is to be given something.
    pub(super) fn meet(
        &self,
        client: Option<i32>,
        call: &Arc<Call>,
        staging: Staging,
    ) -> (Client, Option<Box<Seeding>>) {
        let session = client.and_then(|pid| self.sessions.of(pid));
        let begins = session.as_ref().is_some_and(|session| session.hear(call));
        let seeding = session
            .as_ref()
            .filter(|_| begins)
            .map(|session| Box::new(Seeding { session: Arc::clone(session), call: Arc::clone(call) }));
        (Client { pid: client, session, staging }, seeding)
    }

    /// Cargos whose end nobody waits for yet.
    pub fn unattended(&self) -> Vec<Arc<Session>> {
        self.sessions.unattended()
    }

    /// Keeps what cargos that have ended leave to others, and looks again at what they changed.
    pub fn harvest(&self) {
        self.keep_records();
        self.shared.make_cargo_ask(false);
        self.look_again(&self.sessions.take_programs());
    }

    /// Keeps what they leave, also those of which something is still being stored.
    pub fn keep_all_records(&self) {
        self.keep_records_once_stored(|_| true);
    }

    fn keep_records(&self) {
        self.sessions.harvest(|session| {
            if let Err(error) = self.keep_records_of(session) {
                tracing::warn!("failed to keep what a build leaves to others: {error:#}");
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

    /// What there is for this cargo; `None` where there is nothing, or where that cannot be told.
    pub fn plan(&self, seeding: Box<Seeding>) -> Option<Plan> {
        let plan = self.try_plan(seeding);
        plan.unwrap_or_else(|error| {
            tracing::warn!("failed to find what cargo would ask for: {error:#}");
            None
        })
    }

    fn try_plan(&self, seeding: Box<Seeding>) -> anyhow::Result<Option<Plan>> {
        let Seeding { session, call } = &*seeding;
        let Some(asked) = session.asked() else { return Ok(None) };
        let is_wanted = self.settings(call).is_ok_and(|settings| settings.seed && !settings.disabled);
        let (true, Ok(store)) = (is_wanted, self.store()) else { return Ok(None) };
        let Some(name) = asked.key() else { return Ok(None) };
        // One that has just ended may be what it wants. Its calls would wait for the same.
        self.keep_records_once_stored(|session| session.set().as_ref() == Some(&name));
        let Some(set) = seeds::load(store.actions(), &name)? else { return Ok(None) };
        let target_dir = asked.target_dir();
        let roots = roots(asked.workspace(), &target_dir, asked.home());
        Ok(Some(Plan { seeding, set, target_dir, roots }))
    }

    /// Lays it down by way of a staging directory in the target directory. Of what was laid down,
    /// some is to be made once more and compared, as of all hits.
    pub fn seed(&self, plan: &Plan, staging: &Staging) -> Vec<Verification> {
        let Ok(store) = self.store() else { return Vec::new() };
        let session = &plan.seeding.session;
        session.expect_another(plan.set.asks_again);
        let client = Client { pid: None, session: Some(Arc::clone(session)), staging: staging.clone() };
        self.lay_down_all(plan, &store, &client)
    }

    /// Hashes anew, while nobody waits for it, what cargo's second names have put into doubt.
    fn look_again(&self, programs: &[Digest]) {
        let Ok(store) = self.store() else { return };
        for digest in programs {
            if let Err(error) = store.blobs().open(digest, AccessKind::Peek) {
                tracing::debug!("failed to look at `{digest}` again: {error}");
            }
        }
    }

    fn keep_records_of(&self, session: &Session) -> anyhow::Result<()> {
        let Some(asked) = session.asked() else { return Ok(()) };
        let noted = session.take_noted();
        let (Ok(store), Some(name)) = (self.store(), asked.key()) else { return Ok(()) };
        let target_dir = asked.target_dir();
        let roots = roots(asked.workspace(), &target_dir, asked.home());
        let before = seeds::load(store.actions(), &name)?.unwrap_or_default();
        let mut hashes: HashSet<String> = before.iter().map(|seed| seed.unit.hash().to_owned()).collect();
        let mut found = Vec::new();
        for one in noted.iter().filter(|one| one.target_dir == target_dir) {
            // What stands on a build script's run cannot be laid down before that has run.
            if !one.depends_on.iter().all(|hash| hashes.contains(hash)) {
                continue;
            }
            if let Some(seed) = seed_of(one, asked.environment(), &roots) {
                hashes.insert(seed.unit.hash().to_owned());
                found.push(seed);
            }
        }
        let mut after = before.clone();
        after.add(found);
        after.asks_again |= session.asks_again();
        if after != before {
            seeds::save(store.actions(), &name, &after)?;
        }
        Ok(())
    }

    fn lay_down_all(&self, plan: &Plan, store: &Store, client: &Client) -> Vec<Verification> {
        let Plan { seeding, set, target_dir, roots } = plan;
        let (laid, useless) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let to_verify = Mutex::new(Vec::new());
        let seeds: Vec<&Seed> = set.iter().collect();
        let threads = thread::available_parallelism().map_or(NonZeroUsize::MIN, |many| many.min(THREADS_MAX));
        in_order(&set.dependencies(), threads, |place| {
            if useless.load(Ordering::Relaxed) >= USELESS_MAX || client.staging.is_gone() {
                return;
            }
            let seed = seeds[place];
            let call = seed.call.call(&seeding.call, roots).map(Arc::new);
            let done = call.and_then(|call| self.lay_down_one(seed, call, store, client, target_dir));
            if let Some((settings, verification)) = done {
                laid.fetch_add(1, Ordering::Relaxed);
                if self.is_sampled(&settings) {
                    to_verify.lock().unwrap_or_else(PoisonError::into_inner).push(verification);
                }
            } else if laid.load(Ordering::Relaxed) == 0 {
                useless.fetch_add(1, Ordering::Relaxed);
            }
        });
        tracing::debug!("{laid:?} of {} units were laid down before cargo asked", seeds.len());
        to_verify.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lay_down_one(
        &self,
        seed: &Seed,
        call: Arc<Call>,
        store: &Store,
        client: &Client,
        target_dir: &Path,
    ) -> Option<(Arc<CompileSettings>, Verification)> {
        let mut phases = Phases::begin();
        let settings = self.settings(&call).ok()?;
        let prepared = self.prepare(&call, &settings, &mut phases).ok()?;
        let found = self.find(&call, &prepared, store);
        phases.end(Phase::Lookup);
        let Ok(Found::Hit { action, result, .. }) = found else { return None };
        if action.hash != seed.action {
            return None;
        }
        let mut asked = Asked { call, client: client.clone(), settings, prepared, phases };
        let mut event = asked.event(Outcome::LocalHit);
        event.action = action.hash.to_hex();
        SEEDED.clone_into(&mut event.reason);
        let out_dir = asked.call.cwd.join(asked.prepared.rustc.out_dir.as_deref()?);
        let (staging, umask) = (&client.staging, asked.call.umask);
        staging.make_dirs(&out_dir, umask).ok()?;
        self.hit(store, &mut asked, &mut event, &result).ok()?;
        // Without it, cargo takes the unit for one that is to be built.
        let record = seed.unit.directory(target_dir);
        staging.announce(std::slice::from_ref(&record)).ok()?;
        staging.make_dirs(record.parent()?, umask).ok()?;
        staging.fill_dir(&record, umask, |directory| seed.fingerprint.write(directory)).ok()?;
        let Asked { call, settings, prepared, .. } = asked;
        Some((settings, Verification { call, prepared, action, result }))
    }
}

/// The seed of a unit, if cargo keeps of it what it wrote for this call.
fn seed_of(noted: &Noted, cargos: &Environment, roots: &Roots) -> Option<Seed> {
    let fingerprint = Fingerprint::read(&noted.target_dir, &noted.unit, noted.called);
    let fingerprint = fingerprint.inspect_err(|why| tracing::debug!("{why}")).ok()?;
    let dirs = [Role::Workspace, Role::Target].map(|role| roots.dir(role));
    let call = Portable::of(&noted.call, cargos, roots)?;
    let is_of_this_place = fingerprint.names_any(&dirs.into_iter().flatten().collect::<Vec<_>>());
    (!is_of_this_place).then(|| Seed {
        action: noted.action,
        unit: noted.unit.clone(),
        call,
        fingerprint,
        depends_on: noted.depends_on.clone(),
    })
}

/// What calls of two checkouts may differ in.
fn roots(workspace: &Path, target_dir: &Path, cargo_home: &Path) -> Roots {
    let root = |role, dir: &Path| Root { role, dir: dir.to_owned() };
    Roots::new([
        root(Role::Workspace, workspace),
        root(Role::Target, target_dir),
        root(Role::Cargo, cargo_home),
    ])
}
