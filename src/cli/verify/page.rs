//! The results of `kache verify`, counted and printed as text or JSON. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::choose::RecordedAction;
use super::verifier::{DifferingOutput, VerifyResult};
use crate::cli::output::counted;
use crate::cli::report::shown;
use crate::pipeline::Skipped;

/// The version of the JSON document. While it is the same, fields are only ever added.
const SCHEMA_VERSION: u32 = 1;

/// The results so far.
#[derive(Debug, Default)]
pub(super) struct VerifyReport {
    agreed: u64,
    disagreed: Vec<Disagreement>,
    skipped: BTreeMap<Skipped, u64>,
}

/// An action of which two runs gave different results.
#[derive(Debug)]
struct Disagreement {
    crate_name: String,
    action: String,
    outputs: Vec<DifferingOutput>,
}

impl VerifyReport {
    pub(super) fn add(&mut self, action: &RecordedAction, result: VerifyResult) {
        match result {
            VerifyResult::Agreed => self.agreed += 1,
            VerifyResult::Disagreed(outputs) => self.disagreed.push(Disagreement {
                crate_name: action.crate_name.clone(),
                action: action.action.to_hex(),
                outputs,
            }),
            VerifyResult::Skipped(why, _) => *self.skipped.entry(why).or_default() += 1,
        }
    }

    pub(super) fn has_disagreement(&self) -> bool {
        !self.disagreed.is_empty()
    }

    /// A line for each output that differs, then the totals.
    pub(super) fn text(&self, took: Duration) -> String {
        let mut text = String::new();
        for Disagreement { crate_name, action, outputs } in &self.disagreed {
            let name = shown(crate_name);
            for (number, output) in outputs.iter().enumerate() {
                let what = if number == 0 { "is quarantined:" } else { "also:" };
                text.push_str(&format!("{name}: action {action} {what} {}\n", difference(output)));
            }
        }
        let disagreed = self.disagreed.len() as u64;
        text.push_str(&format!(
            "verified {} in {:.1} s: {} with the same result, {disagreed} with another one\n",
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
        let output = |one: &DifferingOutput| {
            json!({
                "output": one.output,
                "offset": one.offset,
                "differing_bytes": one.differing_bytes,
                "stored_bytes": one.stored_bytes,
                "made_bytes": one.made_bytes,
            })
        };
        let disagreement = |one: &Disagreement| {
            let first = one.outputs.first();
            json!({
                "crate_name": one.crate_name,
                "action": one.action,
                "output": first.map(|one| &one.output),
                "offset": first.and_then(|one| one.offset),
                "differing_bytes": first.and_then(|one| one.differing_bytes),
                "outputs": one.outputs.iter().map(output).collect::<Vec<_>>(),
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

/// The result of one action on one line.
pub(super) fn brief(result: &VerifyResult) -> String {
    match result {
        VerifyResult::Agreed => "has the same result".to_owned(),
        VerifyResult::Disagreed(outputs) => {
            let first = outputs.first().map(difference).unwrap_or_default();
            match outputs.len() as u64 {
                0 | 1 => format!("has another result: {first}"),
                all => format!("has another result: {first}, and {} more", counted(all - 1, "output")),
            }
        }
        VerifyResult::Skipped(why, detail) if detail.is_empty() => format!("skipped: {}", why.explanation()),
        VerifyResult::Skipped(why, detail) => format!("skipped: {} ({})", why.explanation(), shown(detail)),
    }
}

fn difference(output: &DifferingOutput) -> String {
    let name = shown(&output.output);
    let differs = match (output.offset, output.differing_bytes) {
        (Some(offset), Some(count)) => {
            format!("`{name}` differs in {}, first at byte {offset}", counted(count, "byte"))
        }
        _ => format!("`{name}` is in only one of the results"),
    };
    match (output.stored_bytes, output.made_bytes) {
        (Some(stored), Some(made)) if stored == made => format!("{differs} of {made}"),
        (Some(stored), Some(made)) => format!("{differs}; it had {stored} bytes and now has {made}"),
        (Some(stored), None) => {
            format!("`{name}` is stored with {} and was not made again", counted(stored, "byte"))
        }
        (None, Some(made)) => {
            format!("`{name}` was made with {} and is not stored", counted(made, "byte"))
        }
        (None, None) => differs,
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::Hash;

    use super::*;

    fn report() -> VerifyReport {
        let mut report = VerifyReport::default();
        let action = |name: &str| RecordedAction {
            action: Hash([0xab; Hash::LEN]),
            crate_name: name.to_owned(),
            checkouts: Vec::new(),
        };
        let differs = |name: &str, bytes: Option<(u64, u64)>, stored_bytes, made_bytes| DifferingOutput {
            output: format!("out/debug/deps/lib{name}"),
            offset: bytes.map(|(offset, _)| offset),
            differing_bytes: bytes.map(|(_, count)| count),
            stored_bytes,
            made_bytes,
        };
        report.add(&action("serde"), VerifyResult::Agreed);
        let app = vec![
            differs("app.rlib", Some((77, 1)), Some(9_000), Some(9_000)),
            differs("app.rmeta", Some((8, 30)), Some(100), Some(120)),
        ];
        assert!(
            brief(&VerifyResult::Disagreed(app.clone()))
                .ends_with("first at byte 77 of 9000, and 1 output more")
        );
        report.add(&action("app"), VerifyResult::Disagreed(app));
        let other = vec![differs("other.dwp", None, None, Some(1)), differs("other.so", None, Some(5), None)];
        report.add(&action("other"), VerifyResult::Disagreed(other));
        report.add(
            &action("older-daemon"),
            VerifyResult::Disagreed(vec![differs("z.rlib", Some((1, 2)), None, None)]),
        );
        report.add(&action("old"), VerifyResult::Skipped(Skipped::InputsChanged, String::new()));
        report.add(&action("older"), VerifyResult::Skipped(Skipped::InputsChanged, String::new()));
        report.add(&action("gone"), VerifyResult::Skipped(Skipped::CheckoutGone, String::new()));
        report
    }

    #[test]
    fn text() {
        insta::assert_snapshot!(report().text(Duration::from_millis(2_340)));
    }

    #[test]
    fn json() {
        insta::assert_snapshot!(report().json(Duration::from_millis(2_340), Some(7)));
    }
}
