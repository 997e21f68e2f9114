//! The remotes that are open, by their settings.
//!
//! Settings belong to a call (DMN-01), and connections to the process: two calls with equal settings use one
//! connection.

use std::collections::BTreeSet;
use std::sync::Arc;

use kache_remote::OptionsError;
use parking_lot::Mutex;

use super::asked::DOWNLOAD_BYTES_PER_SECOND_MIN;
use super::handle::{AnswerLimits, RemoteConnections, RemoteHandle, RemoteUses};
use super::session::{RemoteSession, SessionWithoutBuild};
use crate::config::RemoteSettings;

/// The largest number of remotes that are open at once. Beyond it, the one that was opened first is forgotten.
const OPEN_MAX: usize = 64;

/// The largest number of problems that are logged.
const PROBLEMS_MAX: usize = 256;

/// The remotes that are open. One that cannot be opened is remembered, too, so that it is logged once.
#[derive(Debug, Default)]
pub struct OpenRemotes {
    open: Mutex<Vec<(RemoteSettings, Option<Arc<RemoteHandle>>)>>,
    without_build: SessionWithoutBuild,
    /// The problems of settings that were logged.
    logged: Mutex<BTreeSet<String>>,
}

impl OpenRemotes {
    /// Logs problems of settings, each of them once.
    pub fn log_problems(&self, problems: &[String]) {
        if problems.is_empty() {
            return;
        }
        let mut logged = self.logged.lock();
        for problem in problems {
            if logged.len() < PROBLEMS_MAX && logged.insert(problem.clone()) {
                tracing::warn!("a remote is not used as its settings say: {problem}");
            }
        }
    }

    /// Returns the session of calls that belong to no build.
    pub fn session_without_build(&self) -> Arc<RemoteSession> {
        self.without_build.get()
    }

    /// Returns all remotes that are open.
    pub fn all(&self) -> Vec<Arc<RemoteHandle>> {
        self.open.lock().iter().filter_map(|(_, handle)| handle.clone()).collect()
    }

    /// Returns the remotes with these settings, in their order, and opens those that are not open. A remote
    /// that cannot be opened is left out. This connects to nothing, but may read certificates.
    pub fn with(&self, settings: &[RemoteSettings]) -> Vec<Arc<RemoteHandle>> {
        if settings.is_empty() {
            return Vec::new();
        }
        let mut open = self.open.lock();
        settings.iter().filter_map(|one| find_or_open(&mut open, one)).collect()
    }
}

/// Opens a remote for a build, which waits at most `stall_max` for a remote that stalls or is very slow, and for
/// uploads.
fn open_both(settings: &RemoteSettings) -> Result<RemoteConnections, OptionsError> {
    let RemoteSettings { location, options, stall_max, .. } = settings;
    let mut impatient = options.clone();
    impatient.limits.stall = *stall_max;
    impatient.limits.bytes_per_second_min = DOWNLOAD_BYTES_PER_SECOND_MIN;
    let reader = kache_remote::open(location, &impatient)?;
    Ok(RemoteConnections { reader, writer: kache_remote::open(location, options)? })
}

/// Returns the name of a remote in logs and reports.
fn shown_name(RemoteSettings { location, options, .. }: &RemoteSettings) -> String {
    match &*options.instance {
        "" => location.to_string(),
        instance => format!("{location} (instance `{instance}`)"),
    }
}

/// Opens a remote with connections of its own, which know nothing about what the remote had earlier. No build uses
/// them.
pub fn open_anew(settings: &RemoteSettings) -> Result<Arc<RemoteHandle>, OptionsError> {
    let RemoteSettings { options, lookup_max: lookup, stall_max: stall, .. } = settings;
    let limits = AnswerLimits { connect: options.limits.connect, lookup: *lookup, stall: *stall };
    let RemoteSettings { reads, writes, uploads_inputs, .. } = *settings;
    let uses = RemoteUses { reads, writes, uploads_inputs };
    Ok(RemoteHandle::new(open_both(settings)?, shown_name(settings), uses, limits))
}

fn find_or_open(
    open: &mut Vec<(RemoteSettings, Option<Arc<RemoteHandle>>)>,
    settings: &RemoteSettings,
) -> Option<Arc<RemoteHandle>> {
    if let Some((_, handle)) = open.iter().find(|(known, _)| known == settings) {
        return handle.clone();
    }
    let handle = open_anew(settings).inspect_err(|error| {
        tracing::warn!("the remote {} is not used: {error}", shown_name(settings));
    });
    let handle = handle.ok();
    if open.len() >= OPEN_MAX {
        open.remove(0);
    }
    open.push((settings.clone(), handle.clone()));
    handle
}
