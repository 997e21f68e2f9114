//! The report for a pull request or a job summary.

use super::command::Subject;
use super::text::{milliseconds, percent, seconds, shown};
use crate::cli::{moment, output};
use crate::events::{Event, Outcome, Summary, by_frequency};

/// Only so many calls that were not hits are listed; services cut off long summaries.
const CALLS_SHOWN_MAX: usize = 100;

pub(super) fn page(subject: &Subject) -> String {
    let events = &subject.history.events;
    let summary = Summary::of(events);
    let mut text = String::from("## kache\n\n");
    text.push_str(&match subject.since {
        Some(since) => format!("Calls since {}.\n\n", moment::for_people(since)),
        None => "All calls on record.\n\n".to_owned(),
    });
    text.push_str(&numbers(&summary));
    text.push_str(&reasons("Passed on", &by_frequency(&summary.passthrough_reasons)));
    text.push_str(&reasons("Missed", &by_frequency(&summary.miss_reasons)));
    text.push_str(&calls(events));
    text
}

fn numbers(summary: &Summary) -> String {
    let mut text = String::from("| | |\n| --- | ---: |\n");
    let mut row = |label: &str, value: String| text.push_str(&format!("| {label} | {value} |\n"));
    row("Hit rate, crates", percent(summary.hit_rate_pct()));
    row("Hit rate, compile time", percent(summary.hit_rate_time_pct()));
    row("Crates", summary.crates.to_string());
    row("Local hits", summary.count_of(Outcome::LocalHit).to_string());
    if summary.seeded > 0 {
        row("Of these, seeded", summary.seeded.to_string());
    }
    for (label, outcome) in [
        ("Prefetch hits", Outcome::PrefetchHit),
        ("Remote hits", Outcome::RemoteHit),
        ("Dups", Outcome::Dup),
        ("Misses", Outcome::Miss),
        ("Failed compiles", Outcome::Skipped),
        ("Errors", Outcome::Error),
        ("Passed on", Outcome::Passthrough),
    ] {
        row(label, summary.count_of(outcome).to_string());
    }
    row("Compiler runs", summary.compiler_runs.to_string());
    row("Time compiling", seconds(summary.compiled));
    row("Time saved", seconds(summary.saved));
    if let Some(half) = summary.hit_percentile(50) {
        row("Hit, median", milliseconds(half));
    }
    row("Laid down", output::size(summary.restored_bytes));
    row("Shared with the store", output::size(summary.shared_bytes));
    row("Stored", output::size(summary.stored_bytes));
    text
}

fn reasons(title: &str, reasons: &[(&str, u64)]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = format!("\n### {title}\n\n| Why | Calls |\n| --- | ---: |\n");
    for (reason, count) in reasons {
        text.push_str(&format!("| {} | {count} |\n", cell(reason)));
    }
    text
}

fn calls(events: &[Event]) -> String {
    let missed: Vec<_> = events.iter().filter(|event| !event.outcome.is_hit()).collect();
    if missed.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n<details><summary>{} that no cache answered</summary>\n\n\
         | Crate | Kind | Result | Took | Why |\n| --- | --- | --- | ---: | --- |\n",
        output::counted(missed.len() as u64, "call")
    );
    for event in missed.iter().take(CALLS_SHOWN_MAX) {
        text.push_str(&format!(
            "| {} {} | {} | {} | {} | {} |\n",
            cell(&event.crate_name),
            cell(&event.version),
            cell(&event.kind),
            event.outcome.name(),
            milliseconds(event.elapsed),
            cell(if event.detail.is_empty() { &event.reason } else { &event.detail }),
        ));
    }
    if missed.len() > CALLS_SHOWN_MAX {
        text.push_str(&format!("\n{} more are in the JSON report.\n", missed.len() - CALLS_SHOWN_MAX));
    }
    text.push_str("\n</details>\n");
    text
}

/// A text from outside, without what Markdown or HTML would take for its own.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for c in shown(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => safe.extend(['\\', c]),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_text() {
        assert_eq!(cell("a|b<script>_x_ `y`\n"), "a\\|b&lt;script>\\_x\\_ \\`y\\`\u{fffd}");
    }
}
