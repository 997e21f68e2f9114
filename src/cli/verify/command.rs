//! `kache verify` from its arguments to the printed result.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::choose::{RecordedAction, Selection, recorded_actions, select};
use super::page::{VerifyReport, brief};
use super::verifier::Verifier;
use crate::cli::args::{VerifyArgs, VerifyFormat};
use crate::cli::config::load_here;
use crate::cli::exit_codes::{DISAGREEMENT, OK};
use crate::cli::failure::{CommandResult, Failure};
use crate::cli::{output, report};
use crate::config::Settings;

/// The size of the sample if no option selects actions.
const SAMPLE_DEFAULT: usize = 10;

pub(in crate::cli) fn run(args: &VerifyArgs) -> CommandResult {
    let begun = Instant::now();
    let settings = Settings::new(&load_here()?)?;
    let history = report::history(&settings, None)?;
    report::warn_of_unread(&history);
    let (selection, seed) = selection(args);
    let selected = select(recorded_actions(&history.events), &selection);
    if let (Selection::Crate(name), []) = (&selection, &selected[..]) {
        return Err(Failure::new(format!("the event log has no stored action of a crate `{name}`"))
            .hint("`kache report` lists the calls"));
    }
    if let Some(seed) = seed {
        output::message(&format!("kache: verifying a sample of {} (--seed {seed})", selected.len()));
    }
    let mut report = VerifyReport::default();
    if !selected.is_empty() {
        verify_all(&settings, &selected, &mut report)?;
    }
    let took = begun.elapsed();
    output::data(&match args.format {
        VerifyFormat::Text => report.text(took),
        VerifyFormat::Json => report.json(took, seed),
    })?;
    Ok(if report.has_disagreement() { DISAGREEMENT } else { OK })
}

fn verify_all(
    settings: &Settings,
    selected: &[RecordedAction],
    report: &mut VerifyReport,
) -> Result<(), Failure> {
    let mut verifier = Verifier::new(settings)?;
    for (number, action) in (1..).zip(selected) {
        let result = verifier.verify(action)?;
        let name = report::shown(&action.crate_name);
        output::message(&format!("kache: {number} of {}: {name} {}", selected.len(), brief(&result)));
        report.add(action, result);
    }
    Ok(())
}

/// Returns the selected actions, and the seed if they are a random sample.
fn selection(args: &VerifyArgs) -> (Selection, Option<u64>) {
    if args.all {
        return (Selection::All, None);
    }
    if let Some(name) = &args.name {
        return (Selection::Crate(name.clone()), None);
    }
    let by_clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos())
    };
    let seed = args.seed.unwrap_or_else(by_clock);
    (Selection::Sample { count: args.sample.unwrap_or(SAMPLE_DEFAULT), seed }, Some(seed))
}
