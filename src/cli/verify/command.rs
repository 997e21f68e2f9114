//! From arguments to what was found.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::choose::{Candidate, Which, candidates, chosen};
use super::page::{Tally, brief};
use super::verifier::Verifier;
use crate::cli::args::{VerifyArgs, VerifyFormat};
use crate::cli::config::load_here;
use crate::cli::exit_codes::{DISAGREEMENT, OK};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{output, report};
use crate::config::Settings;

/// How many are verified where nobody says.
const SAMPLE_DEFAULT: usize = 10;

pub(in crate::cli) fn run(args: &VerifyArgs) -> Outcome {
    let begun = Instant::now();
    let settings = Settings::new(&load_here()?)?;
    let history = report::history(&settings, None)?;
    report::warn_of_unread(&history);
    let (which, seed) = which(args);
    let chosen = chosen(candidates(&history.events), &which);
    if let (Which::Crate(name), []) = (&which, &chosen[..]) {
        return Err(Failure::new(format!("no stored action of a crate `{name}` is on record"))
            .hint("`kache report` shows the calls that are"));
    }
    if let Some(seed) = seed {
        output::talk(&format!("kache: sample {} with --seed {seed}", chosen.len()));
    }
    let mut tally = Tally::default();
    if !chosen.is_empty() {
        verify_all(&settings, &chosen, &mut tally)?;
    }
    let took = begun.elapsed();
    output::data(&match args.format {
        VerifyFormat::Text => tally.text(took),
        VerifyFormat::Json => tally.json(took, seed),
    })?;
    Ok(if tally.disagrees() { DISAGREEMENT } else { OK })
}

fn verify_all(settings: &Settings, chosen: &[Candidate], tally: &mut Tally) -> Result<(), Failure> {
    let mut verifier = Verifier::new(settings)?;
    for (number, candidate) in (1..).zip(chosen) {
        let finding = verifier.verify(candidate)?;
        let name = report::shown(&candidate.crate_name);
        output::talk(&format!("kache: {number} of {}: {name} {}", chosen.len(), brief(&finding)));
        tally.add(candidate, finding);
    }
    Ok(())
}

/// What is asked for, and the seed where chance decides.
fn which(args: &VerifyArgs) -> (Which, Option<u64>) {
    if args.all {
        return (Which::All, None);
    }
    if let Some(name) = &args.name {
        return (Which::Crate(name.clone()), None);
    }
    let by_clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos())
    };
    let seed = args.seed.unwrap_or_else(by_clock);
    (Which::Sample { count: args.sample.unwrap_or(SAMPLE_DEFAULT), seed }, Some(seed))
}
