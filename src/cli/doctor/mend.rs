//! `--fix`: what can do no harm. Directories are made, and the daemon is started, which
//! removes the sockets of a dead one once it has its lock. Nobody is killed (DMN-05), no
//! file of the user's is changed, and nothing in the store is touched.

use std::fs;

use kache_client::Started;

use super::finding::{Finding, State};
use crate::cli::daemon::wait_for_store;
use crate::cli::failure::Failure;
use crate::cli::starter;
use crate::config::Settings;

pub(super) fn mend(settings: &Settings, may_have_daemon: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cache_dir = settings.address.cache_dir();
    if !cache_dir.exists() {
        findings.push(match fs::create_dir_all(cache_dir) {
            Ok(()) => Finding::new(State::Mended, "store", format!("made `{}`", cache_dir.display())),
            Err(error) => {
                let what = format!("failed to make `{}`: {error}", cache_dir.display());
                Finding::new(State::Wrong, "store", what)
            }
        });
    }
    if !may_have_daemon {
        return findings;
    }
    let started = starter::starter(settings)
        .and_then(|starter| starter.ensure(starter::deadline()).map_err(Failure::from));
    match started {
        Ok((_, Started::AlreadyRunning)) => {}
        Ok((mut connection, _)) => {
            // What is wrong with its store is found when it is looked at.
            let _ = wait_for_store(&mut connection);
            let what = format!("started it (pid {})", connection.daemon_pid());
            findings.push(Finding::new(State::Mended, "daemon", what));
        }
        Err(failure) => {
            let mut finding =
                Finding::new(State::Wrong, "daemon", format!("failed to start it: {}", failure.message));
            finding.hints = failure.hints;
            findings.push(finding);
        }
    }
    findings
}
