//! The order in which things are looked at, and what becomes of it.

use super::finding::{Finding, State, text};
use super::{calls, cargo, daemon, mend, observer, probe, settings, volume};
use crate::cli::args::DoctorArgs;
use crate::cli::exit_codes::{OK, UNWELL};
use crate::cli::failure::Outcome;
use crate::cli::output;
use crate::config::Environment;

pub(in crate::cli) fn run(args: &DoctorArgs) -> Outcome {
    let environment = Environment::of_process();
    let current_dir = std::env::current_dir().ok();
    let (known, mut findings) = settings::look(&environment, current_dir.as_deref());
    findings.extend(cargo::look(&environment, current_dir.as_deref()));
    if known.is_none() {
        let what = "without settings nobody knows which store and which daemon are meant: not looked at";
        findings.push(Finding::new(State::Note, "daemon", what));
    }
    if let Some(settings) = &known {
        if args.fix {
            findings.extend(mend::mend(settings));
        }
        findings.extend(daemon::look(settings));
        findings.extend(volume::look(settings, current_dir.as_deref()));
        findings.push(observer::look(settings));
        findings.extend(calls::look(settings));
        if args.probe {
            findings.extend(probe::probe(settings, current_dir.as_deref()));
        }
    }
    output::data(&text(&findings))?;
    let is_unwell = findings.iter().any(|finding: &Finding| finding.state == State::Wrong);
    Ok(if is_unwell { UNWELL } else { OK })
}
