//! The order in which things are looked at, and what becomes of it.

use std::path::Path;

use super::finding::{Finding, State, text};
use super::{calls, cargo, daemon, mend, observer, probe, settings, volume};
use crate::cli::args::DoctorArgs;
use crate::cli::exit_codes::{OK, UNWELL};
use crate::cli::failure::Outcome;
use crate::cli::output;
use crate::config::{Environment, Settings};

pub(in crate::cli) fn run(args: &DoctorArgs) -> Outcome {
    let environment = Environment::of_process();
    let current_dir = std::env::current_dir().ok();
    let may_have_daemon = environment.may_have_daemon();
    let (known, mut findings) = settings::look(&environment, current_dir.as_deref());
    findings.extend(cargo::look(&environment, current_dir.as_deref()));
    if known.is_none() {
        let what = "without settings nobody knows which store and which daemon are meant: not looked at";
        findings.push(Finding::new(State::Note, "daemon", what));
    }
    if let Some(settings) = &known {
        if args.fix {
            findings.extend(mend::mend(settings, may_have_daemon));
        }
        findings.extend(daemon::look(settings, may_have_daemon));
        match volume::silence(settings.address.cache_dir()) {
            Some(finding) => findings.push(finding),
            None => findings.extend(store(settings, current_dir.as_deref(), args.probe)),
        }
    }
    output::data(&text(&findings))?;
    let is_unwell = findings.iter().any(|finding: &Finding| finding.state == State::Wrong);
    Ok(if is_unwell { UNWELL } else { OK })
}

/// What is found by reading on the store's disk, and by using it.
fn store(settings: &Settings, current_dir: Option<&Path>, is_probed: bool) -> Vec<Finding> {
    let mut findings = volume::look(settings, current_dir);
    findings.push(observer::look(settings));
    findings.extend(calls::look(settings));
    if is_probed {
        findings.extend(probe::probe(settings, current_dir));
    }
    findings
}
