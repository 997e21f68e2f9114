//! Medians, the table, and missed goals.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::round::Sample;
use super::wrapper::Wrapper;
use crate::median::median;

const MB: f64 = 1e6;

// The goals of kache's row: each is the largest allowed ratio to another row's figure.
const COLD_MAX: f64 = 1.05;
const ORACLE_MAX: f64 = 1.25;
const PEER_MAX: f64 = 0.75;
const LATER_MAX: f64 = 1.0;
pub(crate) const BYTES_MAX: f64 = 1.25;
/// The goal on a filesystem where files can share extents.
pub(crate) const VOLUME_BYTES_MAX: f64 = 1.15;

/// The medians of one wrapper's rounds. A figure that was not measured is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) wrapper: Wrapper,
    pub(crate) rounds: usize,
    pub(crate) cold: Option<f64>,
    pub(crate) warm: Option<f64>,
    pub(crate) first: Option<f64>,
    pub(crate) later: Option<f64>,
    pub(crate) bytes: Option<f64>,
    pub(crate) stale: usize,
}

impl Row {
    /// Makes the row of these rounds.
    pub(crate) fn new(wrapper: Wrapper, samples: &[Sample]) -> Row {
        let seconds = |times: Vec<Duration>| median(times.iter().map(Duration::as_secs_f64).collect());
        Row {
            wrapper,
            rounds: samples.len(),
            cold: seconds(samples.iter().map(|sample| sample.cold).collect()),
            warm: seconds(samples.iter().filter_map(|sample| sample.warm).collect()),
            first: seconds(samples.iter().flat_map(|sample| sample.first.clone()).collect()),
            later: seconds(samples.iter().filter_map(|sample| sample.later).collect()),
            bytes: median(samples.iter().map(|sample| sample.bytes as f64).collect()),
            stale: samples.iter().map(|sample| sample.stale).max().unwrap_or_default(),
        }
    }

    /// Returns the row as JSON, in seconds and bytes.
    pub(crate) fn json(&self) -> Value {
        json!({
            "wrapper": self.wrapper.name(),
            "rounds": self.rounds,
            "cold_s": self.cold,
            "warm_s": self.warm,
            "second_worktree_first_s": self.first,
            "second_worktree_later_s": self.later,
            "bytes": self.bytes,
            "compiled_again": self.stale,
        })
    }
}

/// Prints the head of a project's table.
pub(crate) fn print_head(out: &mut impl Write, project: &str) -> io::Result<()> {
    writeln!(
        out,
        "\n{project:<16} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}",
        "cold", "warm", "second", "later", "MB", "again"
    )
}

/// Prints a row as one line, in the columns of the header.
pub(crate) fn print_row(out: &mut impl Write, row: &Row) -> io::Result<()> {
    let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} s"));
    let size = row.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.0}", bytes / MB));
    writeln!(
        out,
        "{:<16} {:>8} {:>8} {:>8} {:>8} {size:>10} {:>8}",
        row.wrapper.name(),
        time(row.cold),
        time(row.warm),
        time(row.first),
        time(row.later),
        row.stale,
    )?;
    out.flush()
}

/// A sentence for each goal that kache's row misses.
pub(crate) fn shortfalls(project: &str, rows: &[Row], bytes_max: f64) -> Vec<String> {
    let row = |wanted: Wrapper| rows.iter().find(|row| row.wrapper == wanted);
    let Some(ours) = row(Wrapper::Kache) else { return Vec::new() };
    let best = |of: fn(&Row) -> Option<f64>| {
        let peers = rows.iter().filter(|row| row.wrapper.is_peer());
        peers.filter_map(of).min_by(f64::total_cmp)
    };
    let (plain, oracle) = (row(Wrapper::Plain), row(Wrapper::Oracle));
    let checks = [
        ("cold", ours.cold, plain.and_then(|row| row.cold), COLD_MAX, "plain cargo"),
        ("warm", ours.warm, oracle.and_then(|row| row.warm), ORACLE_MAX, "the oracle"),
        ("second worktree", ours.first, oracle.and_then(|row| row.first), ORACLE_MAX, "the oracle"),
        ("warm", ours.warm, best(|row| row.warm), PEER_MAX, "the best peer"),
        ("second worktree", ours.first, best(|row| row.first), PEER_MAX, "the best peer"),
        ("second worktree, later", ours.later, best(|row| row.later), LATER_MAX, "the best peer"),
        (
            "bytes of three worktrees",
            ours.bytes,
            plain.and_then(|row| row.bytes),
            bytes_max,
            "one plain target",
        ),
    ];
    let mut short: Vec<String> = checks
        .into_iter()
        .filter_map(|(what, ours, other, limit, whose)| {
            let ratio = ours? / other?;
            let text = || format!("{project}, {what}: {ratio:.2}x of {whose} instead of {limit:.2}x at most");
            (ratio > limit).then(text)
        })
        .collect();
    if ours.stale > 0 {
        short.push(format!(
            "{project}: cargo compiled {} crates again in a second build of an unchanged checkout",
            ours.stale
        ));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wrapper: Wrapper, seconds: f64) -> Row {
        let value = Some(seconds);
        Row {
            wrapper,
            rounds: 1,
            cold: value,
            warm: value,
            first: value,
            later: value,
            bytes: value,
            stale: 0,
        }
    }

    #[test]
    fn each_missed_goal_is_named() {
        let rows = [
            row(Wrapper::Plain, 1.0),
            row(Wrapper::Oracle, 1.0),
            row(Wrapper::Kache, 1.2),
            row(Wrapper::Mbx, 1.3),
        ];
        let short = shortfalls("demo", &rows, BYTES_MAX);
        assert_eq!(short.len(), 3, "{short:?}");
        assert!(short[0].starts_with("demo, cold: 1.20x of plain cargo"), "{short:?}");
        assert!(shortfalls("demo", &rows[..2], BYTES_MAX).is_empty());
    }
}
