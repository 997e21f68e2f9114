//! `kache diff`: how two actions differ, with the full old and new value of each difference.

use super::args::DiffArgs;
use super::blobs::{BlobSource, resolve};
use super::config::load_here;
use super::exit_codes::{FAILURE, OK};
use super::explain::explained;
use super::failure::CommandResult;
use super::{output, report};
use crate::config::Settings;
use crate::events::Change;
use crate::explain::compare;

/// Exits with 0 if the actions are equal and with 1 if they differ, as `diff` does.
pub(super) fn run(args: &DiffArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    let history = report::history(&settings, None)?;
    let [before, now] = [&args.before, &args.now].map(|text| resolve(text, &history.events));
    let (before, now) = (before?, now?);
    let source = BlobSource::open(&settings)?;
    let (before, now) = (explained(&source, before)?, explained(&source, now)?);
    let changes = compare(&before, &now);
    if changes.is_empty() {
        return Ok(OK);
    }
    output::data(&format!("--- {}\n+++ {}\n{}", before.hash, now.hash, listed(&changes)))?;
    Ok(FAILURE)
}

/// Prints the differences one after the other: kind and name, then the old and the new value.
pub(super) fn listed(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        // An entry without a value, such as a flag, was only added or removed: the sign goes
        // in front of its name. A variable with an empty value does have a value.
        let mark = match (change.before.as_deref(), change.now.as_deref()) {
            (Some(""), None) if change.kind != "env" => "- ",
            (None, Some("")) if change.kind != "env" => "+ ",
            _ => "",
        };
        text.push_str(&format!("{:<12} {mark}{}\n", change.kind, report::shown(&change.name)));
        for (mark, value) in [('-', &change.before), ('+', &change.now)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty() || change.kind == "env") {
                text.push_str(&format!("  {mark} {}\n", report::shown(value)));
            }
        }
    }
    text
}
