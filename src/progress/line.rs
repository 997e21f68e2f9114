//! Describes a call in one line. Pure.

use std::time::Duration;

use crate::events::{Event, EventReason, Outcome, PROBE};
use crate::invocation::Reason;

/// The longest line. A pipe accepts this much in one write, so lines of two calls never mix.
const LINE_BYTES_MAX: usize = 512;

/// Returns the line for a call; `None` for a probe or a query, which compile no crate.
pub fn line(event: &Event) -> Option<String> {
    if event.kind == PROBE || event.reason == Some(EventReason::Bypass(Reason::Question)) {
        return None;
    }
    let elapsed = time(event.elapsed);
    let rest = match event.outcome {
        Outcome::LocalHit | Outcome::PrefetchHit | Outcome::RemoteHit | Outcome::Dup => {
            format!("{elapsed}{}", instead_of(event.compile_time))
        }
        Outcome::Miss => format!("compiled in {elapsed}"),
        Outcome::Skipped => format!("failed to compile in {elapsed}"),
        Outcome::Passthrough | Outcome::Error => because(event),
    };
    let name = format!("{} {}", event.name, event.version);
    let kind = if event.kind.is_empty() { String::new() } else { format!(" ({})", event.kind) };
    let text = format!("kache: {}: {}{kind}: {rest}", word(event.outcome), name.trim_end());
    Some(fit(&text))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::LocalHit => "hit",
        Outcome::PrefetchHit => "prefetched hit",
        Outcome::RemoteHit => "remote hit",
        Outcome::Dup => "shared",
        Outcome::Miss => "miss",
        Outcome::Skipped => "error",
        Outcome::Passthrough => "passed on",
        Outcome::Error => "internal error",
    }
}

/// Says how long the compile took when it ran; empty if that is not known.
fn instead_of(compile_time: Duration) -> String {
    if compile_time.is_zero() { String::new() } else { format!(" instead of {}", time(compile_time)) }
}

fn because(event: &Event) -> String {
    let reason = event.reason_name().replace('_', " ");
    if event.detail.is_empty() { reason } else { format!("{reason}, {}", event.detail) }
}

fn time(time: Duration) -> String {
    let ms = time.as_millis();
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// Cuts the text to [`LINE_BYTES_MAX`], and replaces control characters, which a terminal would obey.
fn fit(text: &str) -> String {
    let mut fitting = String::new();
    for letter in text.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if fitting.len() + letter.len_utf8() > LINE_BYTES_MAX {
            break;
        }
        fitting.push(letter);
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn event(outcome: Outcome) -> Event {
        let mut event = Event::new(SystemTime::UNIX_EPOCH, "serde", outcome);
        event.version = "1.0.229".to_owned();
        event.kind = "lib".to_owned();
        event.elapsed = Duration::from_millis(3);
        event
    }

    #[test]
    fn a_line_says_how_a_crate_was_made() {
        let mut hit = event(Outcome::LocalHit);
        hit.compile_time = Duration::from_millis(1204);
        let mut passed = event(Outcome::Passthrough);
        passed.reason = Some(EventReason::Bypass(Reason::UnknownOption));
        passed.detail = "-Zfoo\u{1b}[31m".to_owned();
        for (event, expected) in [
            (hit, "kache: hit: serde 1.0.229 (lib): 3 ms instead of 1.2 s"),
            (event(Outcome::Dup), "kache: shared: serde 1.0.229 (lib): 3 ms"),
            (event(Outcome::Miss), "kache: miss: serde 1.0.229 (lib): compiled in 3 ms"),
            (passed, "kache: passed on: serde 1.0.229 (lib): unknown option, -Zfoo [31m"),
            (
                Event { version: String::new(), kind: String::new(), ..event(Outcome::Skipped) },
                "kache: error: serde: failed to compile in 3 ms",
            ),
        ] {
            assert_eq!(line(&event).as_deref(), Some(expected));
        }
    }

    #[test]
    fn probes_and_queries_have_no_line_and_lines_are_short() {
        let query = Some(EventReason::Bypass(Reason::Question));
        assert_eq!(line(&Event { reason: query, ..event(Outcome::Passthrough) }), None);
        assert_eq!(line(&Event { kind: "probe".to_owned(), ..event(Outcome::LocalHit) }), None);
        let long = Event { name: "ß".repeat(1000), ..event(Outcome::Miss) };
        assert!(line(&long).unwrap().len() <= LINE_BYTES_MAX);
    }
}
