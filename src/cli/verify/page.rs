//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::choose::Candidate;
use super::verifier::{Disagreement, Finding};
use crate::cli::output::counted;
use crate::cli::report::shown;
use crate::pipeline::Skipped;

/// The version of the JSON document; while it is the same, fields are only ever added.
const SCHEMA_VERSION: u32 = 1;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    agreed: u64,
    disagreed: Vec<(String, String, Disagreement)>,
    skipped: BTreeMap<Skipped, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, candidate: &Candidate, finding: Finding) {
        match finding {
            Finding::Agreed => self.agreed += 1,
            Finding::Disagreed(found) => {
                self.disagreed.push((candidate.crate_name.clone(), candidate.action.clone(), found));
            }
            Finding::Skipped(why, _) => *self.skipped.entry(why).or_default() += 1,
        }
    }

    pub(super) fn disagrees(&self) -> bool {
        !self.disagreed.is_empty()
    }

    /// A line for each disagreement, then what it comes to.
    pub(super) fn text(&self, took: Duration) -> String {
        let mut text = String::new();
        for (name, action, found) in &self.disagreed {
            text.push_str(&format!("{}: action {action} is out of service: {}\n", shown(name), place(found)));
        }
        let disagreed = self.disagreed.len() as u64;
        text.push_str(&format!(
            "verified {} in {:.1} s: {} agreed, {disagreed} disagreed\n",
            counted(self.agreed + disagreed, "action"),
            took.as_secs_f64(),
            self.agreed,
        ));
        for (why, count) in &self.skipped {
            text.push_str(&format!("skipped {}: {}\n", counted(*count, "action"), why.explanation()));
        }
        text
    }

    pub(super) fn json(&self, took: Duration, seed: Option<u64>) -> String {
        let skipped: BTreeMap<&str, u64> =
            self.skipped.iter().map(|(why, count)| (why.name(), *count)).collect();
        let disagreement = |(name, action, found): &(String, String, Disagreement)| {
            json!({
                "crate_name": name,
                "action": action,
                "output": found.output,
                "offset": found.offset,
                "differing_bytes": found.differing_bytes,
            })
        };
        let disagreed = self.disagreed.len() as u64;
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "seed": seed,
            "verified": self.agreed + disagreed,
            "agreed": self.agreed,
            "disagreed": disagreed,
            "skipped": skipped,
            "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
            "disagreements": self.disagreed.iter().map(disagreement).collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }
}

/// What came of one action, in a few words.
pub(super) fn brief(finding: &Finding) -> String {
    match finding {
        Finding::Agreed => "agrees".to_owned(),
        Finding::Disagreed(found) => format!("disagrees: {}", place(found)),
        Finding::Skipped(why, detail) if detail.is_empty() => format!("skipped: {}", why.explanation()),
        Finding::Skipped(why, detail) => format!("skipped: {} ({})", why.explanation(), shown(detail)),
    }
}

fn place(found: &Disagreement) -> String {
    let output = shown(&found.output);
    match (found.offset, found.differing_bytes) {
        (Some(offset), Some(count)) => {
            format!("`{output}` differs from byte {offset} on, in {}", counted(count, "byte"))
        }
        _ => format!("`{output}` is in one of two results only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        let candidate = |name: &str| Candidate {
            action: "ab".repeat(32),
            crate_name: name.to_owned(),
            places: Vec::new(),
        };
        let differs = |offset, differing_bytes| {
            let output = "out/debug/deps/libapp.rlib".to_owned();
            Finding::Disagreed(Disagreement { output, offset, differing_bytes })
        };
        tally.add(&candidate("serde"), Finding::Agreed);
        tally.add(&candidate("app"), differs(Some(77), Some(1)));
        tally.add(&candidate("other"), differs(None, None));
        tally.add(&candidate("old"), Finding::Skipped(Skipped::InputsChanged, String::new()));
        tally.add(&candidate("older"), Finding::Skipped(Skipped::InputsChanged, String::new()));
        tally.add(&candidate("gone"), Finding::Skipped(Skipped::CheckoutGone, String::new()));
        tally
    }

    #[test]
    fn text() {
        insta::assert_snapshot!(tally().text(Duration::from_millis(2_340)));
    }

    #[test]
    fn json() {
        insta::assert_snapshot!(tally().json(Duration::from_millis(2_340), Some(7)));
    }
}
