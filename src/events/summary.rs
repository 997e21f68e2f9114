//! Adds up many events. Pure.
//!
//! A probe is not counted as a compile: a hit rate that rises because
//! a compiler's version was queried would mean nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Event, Outcome, Phase};
use super::reason::EventReason;

/// The kind of a call that is a probe and compiles no crate.
pub const PROBE: &str = "probe";

/// How many calls there were for each reason.
pub type ReasonCounts = BTreeMap<Option<EventReason>, u64>;

/// The sums over some events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The number of calls.
    pub calls: u64,
    /// The number of calls for crates that were not passed on.
    pub crates: u64,
    /// The number of probes that were not passed on.
    pub probes: u64,
    /// The number of hits that were seeded.
    pub seeded: u64,
    /// The number of crates with each outcome. `Passthrough` counts probes as well.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The reasons why calls were passed on, with their numbers.
    pub passthrough_reasons: ReasonCounts,
    /// The reasons of misses, with their numbers.
    pub miss_reasons: ReasonCounts,
    /// The remotes that calls went on without, and why, with the numbers of these calls.
    pub remote_troubles: BTreeMap<String, u64>,
    /// The number of times that a compiler ran.
    pub compiler_runs: u64,
    /// The number of times that a preprocessor ran.
    pub preprocessor_runs: u64,
    /// The number of times that a compiler ran only to be queried.
    pub probe_runs: u64,
    /// The time of all calls, from request to reply.
    pub elapsed: Duration,
    /// The time of all compiles that ran.
    pub compiled: Duration,
    /// The time of the compiles that did not run because of a hit.
    pub avoided: Duration,
    /// The time avoided, less the time that the hits took.
    pub saved: Duration,
    /// The time of all calls by phase.
    pub phases: BTreeMap<Phase, Duration>,
    /// The size of the outputs that were restored.
    pub restored_bytes: u64,
    /// The part of `restored_bytes` that uses the same disk space as the store.
    pub shared_bytes: u64,
    /// The number of bytes that were stored.
    pub stored_bytes: u64,
    /// The times of hits, sorted.
    hits: Vec<Duration>,
}

impl Outcome {
    /// Returns whether no compiler had to run for the call.
    pub fn is_hit(self) -> bool {
        matches!(self, Outcome::LocalHit | Outcome::PrefetchHit | Outcome::RemoteHit | Outcome::Dup)
    }

    /// Returns whether the outcome counts in the hit rate. A compile that fails does not, because it
    /// could not have been stored, and a call that was passed on does not either.
    fn is_rated(self) -> bool {
        self.is_hit() || matches!(self, Outcome::Miss | Outcome::Error)
    }
}

impl Summary {
    /// Adds up some events.
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
        if !event.remote_trouble.is_empty() {
            *self.remote_troubles.entry(event.remote_trouble.clone()).or_default() += 1;
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
                self.seeded += u64::from(outcome.is_hit() && event.reason == Some(EventReason::Seeded));
                // The time of a follower is mostly the leader's compile, so it is no time of a hit.
                if outcome.is_hit() && outcome != Outcome::Dup {
                    self.hits.push(event.elapsed);
                }
            }
        }
        *self.outcomes.entry(event.outcome).or_default() += 1;
    }

    /// Returns the remotes that calls went on without, and why, with the numbers of these calls, the highest first.
    pub fn remote_troubles(&self) -> Vec<(&str, u64)> {
        let mut sorted: Vec<(&str, u64)> =
            self.remote_troubles.iter().map(|(why, count)| (&**why, *count)).collect();
        sorted.sort_by_key(|&(why, count)| (std::cmp::Reverse(count), why));
        sorted
    }

    /// Returns the number of crates with this outcome.
    pub fn count_of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    fn sum(&self, wanted: impl Fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| wanted(**outcome)).map(|(_, count)| count).sum()
    }

    /// Returns the number of crates for which no compiler had to run.
    pub fn hits(&self) -> u64 {
        self.sum(Outcome::is_hit)
    }

    /// Returns the number of crates that count in the hit rate.
    pub fn rated(&self) -> u64 {
        self.sum(Outcome::is_rated)
    }

    /// Returns the hits in percent of the crates that count; 0 if there are none.
    pub fn hit_rate_pct(&self) -> f64 {
        percent(self.hits() as f64, self.rated() as f64)
    }

    /// Returns the time avoided in percent of the time that compiles would have taken without a cache;
    /// 0 if there were none.
    pub fn hit_rate_time_pct(&self) -> f64 {
        percent(self.avoided.as_secs_f64(), (self.avoided + self.compiled).as_secs_f64())
    }

    /// Returns the time within which this many percent of the hits ended; `None` without hits.
    pub fn hit_percentile(&self, percent: usize) -> Option<Duration> {
        // The nearest-rank method: the smallest time that covers at least this share of the hits.
        let needed = (self.hits.len() * percent.min(100)).div_ceil(100).max(1);
        self.hits.get(needed - 1).copied()
    }
}

/// Returns the names of the reasons with their counts, the most frequent first, and equally frequent
/// ones by name.
pub fn by_frequency(reasons: &ReasonCounts) -> Vec<(&str, u64)> {
    let mut sorted: Vec<(&str, u64)> =
        reasons.iter().map(|(reason, count)| (EventReason::name_of(reason.as_ref()), *count)).collect();
    sorted.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
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
    fn the_sums_over_no_events_are_zero() {
        let summary = Summary::of([]);
        assert_eq!(summary, Summary::default());
        assert_eq!((summary.hit_rate_pct(), summary.hit_rate_time_pct()), (0.0, 0.0));
        assert_eq!(summary.hit_percentile(50), None);
    }

    #[test]
    fn hit_rates_count_calls_that_could_have_been_hits() {
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
    fn a_probe_is_not_counted_as_a_crate() {
        let probe = |outcome, reason: &str| Event {
            kind: PROBE.to_owned(),
            reason: EventReason::from_name(reason),
            ..event(outcome, 1, 10)
        };
        let summary = Summary::of(&[probe(Outcome::LocalHit, ""), probe(Outcome::Passthrough, "version")]);
        assert_eq!((summary.calls, summary.crates, summary.probes, summary.hits()), (2, 0, 1, 0));
        assert_eq!(by_frequency(&summary.passthrough_reasons), [("version", 1)]);
        assert_eq!(summary.count_of(Outcome::Passthrough), 1);
    }

    #[test]
    fn reasons_are_sorted_by_frequency() {
        let miss =
            |reason: &str| Event { reason: EventReason::from_name(reason), ..event(Outcome::Miss, 1, 1) };
        let summary = Summary::of(&[miss("a"), miss("b"), miss("c"), miss("c")]);
        assert_eq!(by_frequency(&summary.miss_reasons), [("c", 2), ("a", 1), ("b", 1)]);
    }
}
