//! Keeps the records of builds whose cargo has exited: seeds for later builds of the same kind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::{AccessKind, Digest, StoreError, with_causes};

use super::entry::Builds;
use super::seeding::roots;
use super::session::{SeedCandidate, Session};
use crate::cargo::{self, Fingerprint};
use crate::invocation::Environment;
use crate::pipeline::Pipeline;
use crate::remote::builds::{self, WorkspaceName};
use crate::roles::{Role, Roots};
use crate::seeds::{self, PortableCall, SaveSeedsError, Seed};

/// How long a call or the end of a daemon waits for results that are still being stored for a cargo that has exited.
pub const STORING_MAX: Duration = Duration::from_secs(1);

impl Builds {
    /// Returns the sessions that began since the last call of this function. The caller waits for the
    /// end of each, and then calls [`Builds::collect_records`].
    pub fn take_new_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.take_new()
    }

    /// Keeps the seeds of all sessions that have ended, and hashes again the programs that their
    /// cargos made hard links to.
    pub fn collect_records(&self, pipeline: &Pipeline) {
        self.keep_records(pipeline);
        if let Some(shared) = pipeline.shared_outputs().files() {
            shared.make_cargo_ask(false);
        }
        rehash_programs(pipeline, &self.sessions.take_programs());
    }

    /// Keeps the seeds of all sessions whose cargo has exited. Waits this long at most for those whose
    /// results are still being stored.
    pub fn keep_all_records(&self, pipeline: &Pipeline, wait_max: Duration) {
        self.keep_records_once_stored(pipeline, wait_max, |_| true);
    }

    fn keep_records(&self, pipeline: &Pipeline) {
        self.sessions.take_ended(|session| {
            if let Err(error) = keep_records_of(session, pipeline) {
                tracing::warn!("failed to keep the seeds of a build: {}", with_causes(&error));
            }
            if let Err(error) = keep_used_results_of(session, pipeline) {
                tracing::warn!("failed to keep the list of a build's results: {}", with_causes(&error));
            }
        });
    }

    /// Keeps the seeds of all sessions whose cargo has exited. Waits this long at most for those that are
    /// wanted and whose results are still being stored.
    pub(super) fn keep_records_once_stored(
        &self,
        pipeline: &Pipeline,
        wait_max: Duration,
        is_wanted: impl Fn(&Session) -> bool,
    ) {
        let deadline = Instant::now() + wait_max;
        for session in self.sessions.ending() {
            if is_wanted(&session) {
                session.wait_until_stored(deadline);
            }
        }
        self.keep_records(pipeline);
    }
}

/// Has the store hash these programs again. Cargo's hard links have moved the change times of
/// their inodes; without this, the next hit would have to hash them.
fn rehash_programs(pipeline: &Pipeline, programs: &[Digest]) {
    let Ok(store) = pipeline.store() else { return };
    for digest in programs {
        if let Err(error) = store.blobs().open(digest, AccessKind::Peek) {
            tracing::debug!("failed to hash `{digest}` again: {}", with_causes(&error));
        }
    }
}

/// Adds the units of one session to its seed set.
fn keep_records_of(session: &Session, pipeline: &Pipeline) -> Result<(), SaveSeedsError> {
    let Some(request) = session.request() else { return Ok(()) };
    let candidates = session.take_candidates();
    let (Ok(store), Some(name)) = (pipeline.store(), request.key(pipeline.key_function())) else {
        return Ok(());
    };
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

/// Adds the results of one session to the list of its workspace's builds, here and on the remotes.
fn keep_used_results_of(session: &Session, pipeline: &Pipeline) -> Result<(), StoreError> {
    let (Some(request), Some((used, settings))) = (session.request(), session.take_used()) else {
        return Ok(());
    };
    let members = cargo::workspace::members(request.workspace()).and_then(WorkspaceName::new);
    let (Some(workspace), Ok(store)) = (members, pipeline.store()) else { return Ok(()) };
    builds::note_build(store.actions(), &workspace, request.kind(pipeline.key_function()), &used)?;
    pipeline.share_builds(&settings, &workspace);
    Ok(())
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
