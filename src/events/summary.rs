//! What many calls add up to. Pure: events in, numbers out.
//!
//! A probe that a build script or cargo makes is no crate, and does not count as one: a
//! rate that went up because a compiler was asked its version would say nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Event, Outcome, Phase, SEEDED};

/// The kind of a call that asks a compiler something and makes no crate.
pub const PROBE: &str = "probe";

/// Some calls, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Every call.
    pub calls: u64,
    /// Calls that asked for a crate and were not passed on.
    pub crates: u64,
    /// Probes that were not passed on.
    pub probes: u64,
    /// Of the hits, those that were laid down before anybody asked.
    pub seeded: u64,
    /// How often each thing happened to a crate; to a probe, for what was passed on.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Why calls were passed on, and how often.
    pub passthrough_reasons: BTreeMap<String, u64>,
    /// Why calls missed, and how often.
    pub miss_reasons: BTreeMap<String, u64>,
    /// How often a compiler ran.
    pub compiler_runs: u64,
    /// How often a preprocessor ran.
    pub preprocessor_runs: u64,
    /// How often a compiler was asked a question.
    pub probe_runs: u64,
    /// All calls, from request to answer.
    pub elapsed: Duration,
    /// What compilers took that ran.
    pub compiled: Duration,
    /// What those would have taken that did not run.
    pub avoided: Duration,
    /// The same, less what kache took instead.
    pub saved: Duration,
    /// Where the time went.
    pub phases: BTreeMap<Phase, Duration>,
    /// Bytes laid down.
    pub restored_bytes: u64,
    /// Of these, bytes that take no room of their own.
    pub shared_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// How long hits took, sorted.
    hits: Vec<Duration>,
}

impl Outcome {
    /// Whether no compiler had to run for it.
    pub fn is_hit(self) -> bool {
        matches!(self, Outcome::LocalHit | Outcome::PrefetchHit | Outcome::RemoteHit | Outcome::Dup)
    }

    /// Whether it says anything about how well the cache works: a compile that fails is the
    /// author's business, and what was passed on was never asked for.
    fn is_rated(self) -> bool {
        self.is_hit() || matches!(self, Outcome::Miss | Outcome::Error)
    }
}

impl Summary {
    /// Adds them up.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Summary {
        let mut summary = Summary::default();
        for event in events {
            summary.add(event);
        }
        summary.hits.sort_unstable();
        summary
    }

    fn add(&mut self, event: &Event) {
        self.calls += 1;
        self.compiler_runs += u64::from(event.compiler_runs);
        self.preprocessor_runs += u64::from(event.preprocessor_runs);
        self.probe_runs += u64::from(event.probe_runs);
        self.elapsed += event.elapsed;
        self.restored_bytes += event.restored_bytes;
        self.shared_bytes += event.shared_bytes;
        self.stored_bytes += event.stored_bytes;
        for (phase, took) in &event.phases {
            *self.phases.entry(*phase).or_default() += *took;
        }
        if event.outcome.is_hit() {
            self.avoided += event.compile_time;
            self.saved += event.compile_time.saturating_sub(event.elapsed);
        } else if event.compiler_runs > 0 {
            self.compiled += event.compile_time;
        }
        self.count(event);
    }

    fn count(&mut self, event: &Event) {
        let is_probe = event.kind == PROBE;
        match event.outcome {
            Outcome::Passthrough => {
                *self.passthrough_reasons.entry(event.reason.clone()).or_default() += 1;
            }
            _ if is_probe => {
                self.probes += 1;
                return;
            }
            outcome => {
                self.crates += 1;
                if outcome == Outcome::Miss {
                    *self.miss_reasons.entry(event.reason.clone()).or_default() += 1;
                }
                self.seeded += u64::from(outcome.is_hit() && event.reason == SEEDED);
                // Who waited for another's compile says nothing about how fast a hit is.
                if outcome.is_hit() && outcome != Outcome::Dup {
                    self.hits.push(event.elapsed);
                }
            }
        }
        *self.outcomes.entry(event.outcome).or_default() += 1;
    }

    /// How often this happened.
    pub fn count_of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    fn sum(&self, wanted: impl Fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| wanted(**outcome)).map(|(_, count)| count).sum()
    }

    /// Crates for which no compiler had to run.
    pub fn hits(&self) -> u64 {
        self.sum(Outcome::is_hit)
    }

    /// Crates that could be answered: those that the hit rate counts.
    pub fn rated(&self) -> u64 {
        self.sum(Outcome::is_rated)
    }

    /// Of a hundred crates that could be answered, so many were. 0 where there were none.
    pub fn hit_rate_pct(&self) -> f64 {
        percent(self.hits() as f64, self.rated() as f64)
    }

    /// Of the time that compilers would have taken without a cache, what was avoided.
    pub fn hit_rate_time_pct(&self) -> f64 {
        percent(self.avoided.as_secs_f64(), (self.avoided + self.compiled).as_secs_f64())
    }

    /// So many percent of the hits took no longer. None where there were no hits.
    pub fn hit_percentile(&self, percent: usize) -> Option<Duration> {
        let needed = (self.hits.len() * percent.min(100)).div_ceil(100).max(1);
        self.hits.get(needed - 1).copied()
    }
}

/// Reasons with their counts, the most frequent first.
pub fn by_frequency(reasons: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut sorted: Vec<_> = reasons.iter().map(|(reason, count)| (&**reason, *count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn event(outcome: Outcome, elapsed_ms: u64, compile_ms: u64) -> Event {
        Event {
            elapsed: Duration::from_millis(elapsed_ms),
            compile_time: Duration::from_millis(compile_ms),
            compiler_runs: u32::from(matches!(outcome, Outcome::Miss | Outcome::Skipped)),
            ..Event::new(UNIX_EPOCH, "x", outcome)
        }
    }

    #[test]
    fn nothing_adds_up_to_nothing() {
        let summary = Summary::of([]);
        assert_eq!(summary, Summary::default());
        assert_eq!((summary.hit_rate_pct(), summary.hit_rate_time_pct()), (0.0, 0.0));
        assert_eq!(summary.hit_percentile(50), None);
    }

    #[test]
    fn rates_count_what_could_be_answered() {
        let summary = Summary::of(&[
            event(Outcome::LocalHit, 1, 300),
            event(Outcome::RemoteHit, 3, 300),
            event(Outcome::Dup, 90, 100),
            event(Outcome::Miss, 120, 100),
            event(Outcome::Skipped, 50, 50),
            event(Outcome::Passthrough, 0, 0),
        ]);
        assert_eq!((summary.calls, summary.crates, summary.hits()), (6, 5, 3));
        assert!((summary.hit_rate_pct() - 75.0).abs() < 1e-9);
        assert!((summary.hit_rate_time_pct() - 100.0 * 700.0 / 850.0).abs() < 1e-9);
        assert_eq!(summary.saved, Duration::from_millis(299 + 297 + 10));
        assert_eq!(summary.hit_percentile(50), Some(Duration::from_millis(1)));
        assert_eq!(summary.hit_percentile(0), Some(Duration::from_millis(1)));
        assert_eq!(summary.hit_percentile(51), Some(Duration::from_millis(3)));
        assert_eq!(summary.hit_percentile(100), Some(Duration::from_millis(3)));
        assert_eq!(summary.compiler_runs, 2);
    }

    #[test]
    fn a_hit_that_took_longer_than_the_compile_saved_nothing() {
        assert_eq!(Summary::of(&[event(Outcome::LocalHit, 10, 5)]).saved, Duration::ZERO);
    }

    #[test]
    fn a_probe_is_no_crate() {
        let probe = |outcome, reason: &str| Event {
            kind: PROBE.to_owned(),
            reason: reason.to_owned(),
            ..event(outcome, 1, 10)
        };
        let summary = Summary::of(&[probe(Outcome::LocalHit, ""), probe(Outcome::Passthrough, "version")]);
        assert_eq!((summary.calls, summary.crates, summary.probes, summary.hits()), (2, 0, 1, 0));
        assert_eq!(by_frequency(&summary.passthrough_reasons), [("version", 1)]);
        assert_eq!(summary.count_of(Outcome::Passthrough), 1);
    }

    #[test]
    fn reasons_are_sorted_by_how_often_they_hold() {
        let miss = |reason: &str| Event { reason: reason.to_owned(), ..event(Outcome::Miss, 1, 1) };
        let summary = Summary::of(&[miss("a"), miss("b"), miss("c"), miss("c")]);
        assert_eq!(by_frequency(&summary.miss_reasons), [("c", 2), ("a", 1), ("b", 1)]);
    }
}
