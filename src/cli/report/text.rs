//! The report for a terminal: the latest calls, then the totals. The totals come last because
//! the end of a long output is what stays on the screen.

use std::time::Duration;

use super::command::ReportData;
use crate::cli::{moment, output};
use crate::events::{Event, Outcome, ReasonCounts, Summary, by_frequency};

/// The most calls that are listed; the totals count all calls.
const CALLS_SHOWN_MAX: usize = 200;

/// The greatest width of the column with the crates.
const CRATE_CHARS_MAX: usize = 32;

/// The most reasons that are named; the others are added up.
const REASONS_SHOWN_MAX: usize = 8;

pub(super) fn page(data: &ReportData) -> String {
    let events = &data.history.events;
    if events.is_empty() {
        return match data.since {
            Some(since) => format!("the event log has no call since {}\n", moment::for_people(since)),
            None => format!("the event log in {} has no calls yet\n", data.cache_dir),
        };
    }
    format!("{}\n{}", calls(events), totals(data, &Summary::of(events)))
}

fn window(data: &ReportData) -> String {
    match data.since {
        Some(since) => format!("since {}", moment::for_people(since)),
        None => format!("in {}", data.cache_dir),
    }
}

fn calls(events: &[Event]) -> String {
    let first = events.len().saturating_sub(CALLS_SHOWN_MAX);
    let shown = &events[first..];
    let width = |text: String| text.chars().count();
    let crates = shown.iter().map(|event| width(crate_of(event))).max().unwrap_or(0).max(5);
    let mut text = String::new();
    if first > 0 {
        text.push_str(&format!("{first} earlier calls are not shown; `--format json` lists all\n"));
    }
    text.push_str(&format!(
        "{:<14}  {:<12}  {:<crates$}  {:<12}  {:>9}  {:>9}  {:>9}  REASON\n",
        "TIME (UTC)", "RESULT", "CRATE", "KIND", "TOOK", "COMPILE", "SIZE"
    ));
    for event in shown {
        // A call either restores outputs or stores them, so one column is enough for both.
        let bytes = if event.restored_bytes > 0 { event.restored_bytes } else { event.stored_bytes };
        let line = format!(
            "{:<14}  {:<12}  {:<crates$}  {:<12}  {:>9}  {:>9}  {:>9}  {}",
            moment::short(event.at),
            event.outcome.name(),
            crate_of(event),
            shown_or_dash(&event.kind),
            milliseconds(event.elapsed),
            if event.compile_time.is_zero() { "-".to_owned() } else { milliseconds(event.compile_time) },
            if bytes == 0 { "-".to_owned() } else { output::size(bytes) },
            reason(event),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn crate_of(event: &Event) -> String {
    let name = match &*event.version {
        "" => shown(&event.name),
        version => format!("{} {}", shown(&event.name), shown(version)),
    };
    match name.char_indices().nth(CRATE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

fn reason(event: &Event) -> String {
    let not_stored = event.not_stored.as_ref().map(ToString::to_string).unwrap_or_default();
    let parts = [event.reason_name(), &event.detail, &not_stored];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).map(shown).collect();
    parts.join(": ")
}

fn shown_or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown(text) }
}

fn totals(data: &ReportData, summary: &Summary) -> String {
    let mut text = format!("{} {}\n", output::counted(summary.calls, "call"), window(data));
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<10} {value}\n"));
    line("hit rate", &rates(summary));
    line("hits", &hits(summary));
    line("compiled", &compiled(summary));
    line("bypassed", &bypassed(summary));
    if !summary.miss_reasons.is_empty() {
        line("misses", &reasons(&summary.miss_reasons));
    }
    line("time", &times(summary));
    if let Some(times) = hit_times(summary) {
        line("hit time", &times);
    }
    if !summary.phases.is_empty() {
        line("phases", &phases(summary));
    }
    line("size", &sizes(summary));
    for why in remote_troubles(summary) {
        line("remote", &why);
    }
    text
}

/// Says which remotes calls went on without, and why.
pub(in crate::cli) fn remote_troubles(summary: &Summary) -> Vec<String> {
    let troubles = summary.remote_troubles();
    let without = |(why, count): &(&str, u64)| {
        format!("{} went on without {}", output::counted(*count, "call"), shown(why))
    };
    let mut lines: Vec<String> = troubles.iter().take(REASONS_SHOWN_MAX).map(without).collect();
    let rest: u64 = troubles.iter().skip(REASONS_SHOWN_MAX).map(|(_, count)| count).sum();
    if rest > 0 {
        lines.push(format!("{} for other reasons", output::counted(rest, "call")));
    }
    lines
}

fn rates(summary: &Summary) -> String {
    if summary.crates == 0 {
        return "-".to_owned();
    }
    let by_count = percent(summary.hit_rate_pct());
    let by_time = percent(summary.hit_rate_time_pct());
    format!("{by_count} of crates, {by_time} of compile time")
}

fn hits(summary: &Summary) -> String {
    let count = |outcome, name| output::counted(summary.count_of(outcome), name);
    let mut parts = vec![
        count(Outcome::LocalHit, "local hit"),
        count(Outcome::PrefetchHit, "prefetch hit"),
        count(Outcome::RemoteHit, "remote hit"),
        count(Outcome::Dup, "dup"),
    ];
    if summary.seeded > 0 {
        parts[0].push_str(&format!(" ({} seeded)", summary.seeded));
    }
    if summary.probes > 0 {
        parts.push(output::counted(summary.probes, "probe"));
    }
    parts.join(", ")
}

fn compiled(summary: &Summary) -> String {
    let misses = match summary.count_of(Outcome::Miss) {
        1 => "1 miss".to_owned(),
        count => format!("{count} misses"),
    };
    let errors = output::counted(summary.count_of(Outcome::Error), "error");
    let runs = output::counted(summary.compiler_runs, "compiler run");
    format!("{misses}, {} failed, {errors}; {runs}", summary.count_of(Outcome::Skipped))
}

fn bypassed(summary: &Summary) -> String {
    match summary.count_of(Outcome::Passthrough) {
        0 => "0".to_owned(),
        count => format!("{count}: {}", reasons(&summary.passthrough_reasons)),
    }
}

fn times(summary: &Summary) -> String {
    let spent = seconds(summary.elapsed);
    let (compiled, saved) = (seconds(summary.compiled), seconds(summary.saved));
    format!("{spent} in calls, of which {compiled} in the compiler; {saved} of compiling saved")
}

/// How long hits took. Dups do not count, because they wait for another call's compile.
fn hit_times(summary: &Summary) -> Option<String> {
    let [half, most, all] = [50, 95, 100].map(|percent| summary.hit_percentile(percent));
    let (half, most, all) = (milliseconds(half?), milliseconds(most?), milliseconds(all?));
    Some(format!("median {half}, 95 % within {most}, all within {all}"))
}

fn phases(summary: &Summary) -> String {
    let parts: Vec<_> = summary
        .phases
        .iter()
        .map(|(phase, took)| format!("{} {}", phase.name(), milliseconds(*took)))
        .collect();
    parts.join(", ")
}

fn sizes(summary: &Summary) -> String {
    let [restored, shared, stored] =
        [summary.restored_bytes, summary.shared_bytes, summary.stored_bytes].map(output::size);
    format!("{restored} restored, of which {shared} shared with the store; {stored} stored")
}

/// Formats reasons with their counts, the most frequent first: `unknown-flag 3, stdin 1`.
fn reasons(reasons: &ReasonCounts) -> String {
    let sorted = by_frequency(reasons);
    let named = |(reason, count): &(&str, u64)| format!("{} {count}", shown_or_dash(reason));
    let mut parts: Vec<_> = sorted.iter().take(REASONS_SHOWN_MAX).map(named).collect();
    let rest: u64 = sorted.iter().skip(REASONS_SHOWN_MAX).map(|(_, count)| count).sum();
    if rest > 0 {
        parts.push(format!("others {rest}"));
    }
    parts.join(", ")
}

/// Formats a percentage: `98.0 %`.
pub(in crate::cli) fn percent(percent: f64) -> String {
    format!("{percent:.1} %")
}

/// Formats a time with at most three digits: `0.31 ms`, `31 ms`, `3.1 s`.
pub(super) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        _ => seconds(time),
    }
}

/// Formats a time in seconds, `3.1 s`; from two minutes on in minutes or hours.
pub(in crate::cli) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(120) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        output::duration(time)
    }
}

/// Replaces control characters, which could move a terminal's cursor. Names and paths come from
/// the build, not from kache.
pub(in crate::cli) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventReason;

    #[test]
    fn times_have_at_most_three_digits() {
        for (micros, expected) in [
            (0, "0.00 ms"),
            (314, "0.31 ms"),
            (9_990, "9.99 ms"),
            (31_400, "31 ms"),
            (999_400, "999 ms"),
            (999_600, "1.0 s"),
            (3_140_000, "3.1 s"),
            (600_000_000, "10 min"),
        ] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn reasons_beyond_the_first_are_added_up() {
        let many = (1..=10).map(|n| (EventReason::from_name(&format!("r{n}")), n)).collect();
        assert_eq!(reasons(&many), "r10 10, r9 9, r8 8, r7 7, r6 6, r5 5, r4 4, r3 3, others 3");
    }

    #[test]
    fn control_characters_in_names_are_replaced() {
        assert_eq!(shown("a\x1b[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
    }
}
