//! `--fix`: the changes that cannot do harm. It creates directories and starts the daemon, which
//! removes the sockets of a dead daemon once it holds the lock. It kills no process (DMN-05),
//! changes no file of the user and nothing in the store.

use std::fs;

use kache_client::Started;

use super::finding::{DoctorFinding, Severity};
use crate::cli::daemon::wait_for_store;
use crate::cli::failure::Failure;
use crate::cli::starter;
use crate::config::Settings;

/// Makes the changes and returns a finding for each of them, and for each that failed.
pub(super) fn fix(settings: &Settings, may_have_daemon: bool) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    let cache_dir = settings.address.cache_dir();
    if !cache_dir.exists() {
        findings.push(match fs::create_dir_all(cache_dir) {
            Ok(()) => {
                let what = format!("created the directory `{}`", cache_dir.display());
                DoctorFinding::new(Severity::Fixed, "store", what)
            }
            Err(error) => {
                let what = format!("failed to create the directory `{}`: {error}", cache_dir.display());
                DoctorFinding::new(Severity::Error, "store", what)
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
            // The check of the daemon that follows reports problems with the store.
            let _ = wait_for_store(&mut connection);
            let what = format!("started the daemon (pid {})", connection.daemon_pid());
            findings.push(DoctorFinding::new(Severity::Fixed, "daemon", what));
        }
        Err(failure) => {
            let what = format!("failed to start the daemon: {}", failure.message);
            let mut finding = DoctorFinding::new(Severity::Error, "daemon", what);
            finding.hints = failure.hints;
            findings.push(finding);
        }
    }
    findings
}
