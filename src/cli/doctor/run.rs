//! Runs the checks of `kache doctor` in order and prints the findings.

use std::path::Path;

use super::finding::{DoctorFinding, Severity, text};
use super::{calls, cargo, daemon, fix, observer, probe, settings, volume};
use crate::cli::args::DoctorArgs;
use crate::cli::exit_codes::{DOCTOR_ERROR, OK};
use crate::cli::failure::CommandResult;
use crate::cli::output;
use crate::config::{Environment, Settings};

pub(in crate::cli) fn run(args: &DoctorArgs) -> CommandResult {
    let environment = Environment::of_process();
    let current_dir = std::env::current_dir().ok();
    let may_have_daemon = environment.may_have_daemon();
    let (settings, mut findings) = settings::check(&environment, current_dir.as_deref());
    findings.extend(cargo::check(&environment, current_dir.as_deref()));
    if settings.is_none() {
        let what = "not checked: the configuration must be correct to know which store and daemon to check";
        findings.push(DoctorFinding::new(Severity::Note, "daemon", what));
    }
    if let Some(settings) = &settings {
        if args.fix {
            findings.extend(fix::fix(settings, may_have_daemon));
        }
        findings.extend(daemon::check(settings, may_have_daemon));
        // The other checks read the store's disk, so they would hang where it does not answer.
        match volume::check_answers(settings.address.cache_dir()) {
            Some(finding) => findings.push(finding),
            None => findings.extend(store(settings, current_dir.as_deref(), args.probe)),
        }
    }
    output::data(&text(&findings))?;
    let has_error = findings.iter().any(|finding: &DoctorFinding| finding.severity == Severity::Error);
    Ok(if has_error { DOCTOR_ERROR } else { OK })
}

/// The checks that read or use the store's disk.
fn store(settings: &Settings, current_dir: Option<&Path>, is_probed: bool) -> Vec<DoctorFinding> {
    let mut findings = volume::check(settings, current_dir);
    findings.push(observer::check(settings));
    findings.extend(calls::check(settings));
    if is_probed {
        findings.extend(probe::probe(settings, current_dir));
    }
    findings
}
