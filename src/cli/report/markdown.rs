//! The report as Markdown, for a pull request or a job summary.

use super::command::ReportData;
use super::text::{milliseconds, percent, seconds, shown};
use crate::cli::{moment, output};
use crate::events::{Event, Outcome, Summary, by_frequency};

/// The most calls that are listed. CI services cut off long summaries.
const CALLS_SHOWN_MAX: usize = 100;

pub(super) fn page(data: &ReportData) -> String {
    let events = &data.history.events;
    let summary = Summary::of(events);
    let mut text = String::from("## kache\n\n");
    text.push_str(&match data.since {
        Some(since) => format!("Calls since {}.\n\n", moment::for_people(since)),
        None => "All calls in the event log.\n\n".to_owned(),
    });
    text.push_str(&numbers(&summary));
    text.push_str(&reasons("Bypassed calls", &by_frequency(&summary.passthrough_reasons)));
    text.push_str(&reasons("Misses", &by_frequency(&summary.miss_reasons)));
    text.push_str(&reasons("Calls without a remote", &summary.remote_troubles()));
    text.push_str(&calls(events));
    text
}

fn numbers(summary: &Summary) -> String {
    let mut text = String::from("| | |\n| --- | ---: |\n");
    let mut row = |label: &str, value: String| text.push_str(&format!("| {label} | {value} |\n"));
    row("Hit rate by crates", percent(summary.hit_rate_pct()));
    row("Hit rate by compile time", percent(summary.hit_rate_time_pct()));
    row("Crates", summary.crates.to_string());
    row("Local hits", summary.count_of(Outcome::LocalHit).to_string());
    if summary.seeded > 0 {
        row("Of these, seeded", summary.seeded.to_string());
    }
    for (label, outcome) in [
        ("Prefetch hits", Outcome::PrefetchHit),
        ("Remote hits", Outcome::RemoteHit),
        ("Shared compiles (dup)", Outcome::Dup),
        ("Misses", Outcome::Miss),
        ("Failed compiles", Outcome::Skipped),
        ("Errors", Outcome::Error),
        ("Bypassed", Outcome::Passthrough),
    ] {
        row(label, summary.count_of(outcome).to_string());
    }
    row("Compiler runs", summary.compiler_runs.to_string());
    row("Compile time spent", seconds(summary.compiled));
    row("Compile time saved", seconds(summary.saved));
    if let Some(half) = summary.hit_percentile(50) {
        row("Median time of a hit", milliseconds(half));
    }
    row("Restored", output::size(summary.restored_bytes));
    row("Of these, shared with the store", output::size(summary.shared_bytes));
    row("Stored", output::size(summary.stored_bytes));
    text
}

fn reasons(title: &str, reasons: &[(&str, u64)]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = format!("\n### {title}\n\n| Reason | Calls |\n| --- | ---: |\n");
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
        "\n<details><summary>{} that were not hits</summary>\n\n\
         | Crate | Kind | Result | Time | Reason |\n| --- | --- | --- | ---: | --- |\n",
        output::counted(missed.len() as u64, "call")
    );
    for event in missed.iter().take(CALLS_SHOWN_MAX) {
        text.push_str(&format!(
            "| {} {} | {} | {} | {} | {} |\n",
            cell(&event.name),
            cell(&event.version),
            cell(&event.kind),
            event.outcome.name(),
            milliseconds(event.elapsed),
            cell(if event.detail.is_empty() { event.reason_name() } else { &event.detail }),
        ));
    }
    if missed.len() > CALLS_SHOWN_MAX {
        text.push_str(&format!("\n{} more are in the JSON report.\n", missed.len() - CALLS_SHOWN_MAX));
    }
    text.push_str("\n</details>\n");
    text
}

/// Escapes a text that did not originate in kache, so that neither Markdown nor HTML gives its
/// characters a meaning.
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
    fn markdown_and_html_in_names_are_escaped() {
        assert_eq!(cell("a|b<script>_x_ `y`\n"), "a\\|b&lt;script>\\_x\\_ \\`y\\`\u{fffd}");
    }
}
