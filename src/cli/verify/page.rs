//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::choose::Candidate;
use super::verifier::{Differing, Finding};
use crate::cli::output::counted;
use crate::cli::report::shown;
use crate::pipeline::Skipped;

/// The version of the JSON document; while it is the same, fields are only ever added.
const SCHEMA_VERSION: u32 = 1;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    agreed: u64,
    disagreed: Vec<(String, String, Vec<Differing>)>,
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

    /// A line for each output that differs, then what it comes to.
    pub(super) fn text(&self, took: Duration) -> String {
        let mut text = String::new();
        for (name, action, found) in &self.disagreed {
            let name = shown(name);
            for (number, one) in found.iter().enumerate() {
                let what = if number == 0 { "is out of service:" } else { "also:" };
                text.push_str(&format!("{name}: action {action} {what} {}\n", place(one)));
            }
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
        let output = |one: &Differing| {
            json!({
                "output": one.output,
                "offset": one.offset,
                "differing_bytes": one.differing_bytes,
                "stored_bytes": one.stored_bytes,
                "made_bytes": one.made_bytes,
            })
        };
        let disagreement = |(name, action, found): &(String, String, Vec<Differing>)| {
            let first = found.first();
            json!({
                "crate_name": name,
                "action": action,
                "output": first.map(|one| &one.output),
                "offset": first.and_then(|one| one.offset),
                "differing_bytes": first.and_then(|one| one.differing_bytes),
                "outputs": found.iter().map(output).collect::<Vec<_>>(),
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
        Finding::Disagreed(found) => {
            let first = found.first().map(place).unwrap_or_default();
            match found.len() as u64 {
                0 | 1 => format!("disagrees: {first}"),
                all => format!("disagrees: {first}, and {} more", counted(all - 1, "output")),
            }
        }
        Finding::Skipped(why, detail) if detail.is_empty() => format!("skipped: {}", why.explanation()),
        Finding::Skipped(why, detail) => format!("skipped: {} ({})", why.explanation(), shown(detail)),
    }
}

fn place(found: &Differing) -> String {
    let output = shown(&found.output);
    let differs = match (found.offset, found.differing_bytes) {
        (Some(offset), Some(count)) => {
            format!("`{output}` differs from byte {offset} on, in {}", counted(count, "byte"))
        }
        _ => format!("`{output}` is in one of two results only"),
    };
    match (found.stored_bytes, found.made_bytes) {
        (Some(stored), Some(made)) if stored == made => format!("{differs} of {made}"),
        (Some(stored), Some(made)) => format!("{differs}, and has {made} in place of {stored}"),
        (Some(stored), None) => {
            format!("`{output}` is stored, with {}, and was not made", counted(stored, "byte"))
        }
        (None, Some(made)) => {
            format!("`{output}` was made, with {}, and is not stored", counted(made, "byte"))
        }
        (None, None) => differs,
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
        let differs = |name: &str, bytes: Option<(u64, u64)>, stored_bytes, made_bytes| Differing {
            output: format!("out/debug/deps/lib{name}"),
            offset: bytes.map(|(offset, _)| offset),
            differing_bytes: bytes.map(|(_, count)| count),
            stored_bytes,
            made_bytes,
        };
        tally.add(&candidate("serde"), Finding::Agreed);
        let app = vec![
            differs("app.rlib", Some((77, 1)), Some(9_000), Some(9_000)),
            differs("app.rmeta", Some((8, 30)), Some(100), Some(120)),
        ];
        assert!(brief(&Finding::Disagreed(app.clone())).ends_with("in 1 byte of 9000, and 1 output more"));
        tally.add(&candidate("app"), Finding::Disagreed(app));
        let other = vec![differs("other.dwp", None, None, Some(1)), differs("other.so", None, Some(5), None)];
        tally.add(&candidate("other"), Finding::Disagreed(other));
        tally.add(
            &candidate("older-daemon"),
            Finding::Disagreed(vec![differs("z.rlib", Some((1, 2)), None, None)]),
        );
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
