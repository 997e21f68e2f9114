//! The report as JSON. `docs/report.schema.json` describes it, and a test compares the two.
//!
//! Fields are only ever added while `schema_version` is 1. A field that does not apply is null.
//! Times are in milliseconds, with a precision of a microsecond.

use std::collections::BTreeMap;
use std::time::Duration;

use kache_cas::Hash;
use serde::Serialize;

use super::command::ReportData;
use crate::cli::moment::rfc3339;
use crate::events::{Change, Event, Outcome, ReasonCounts, Summary, Unread, by_frequency};

/// Raised when a field is removed or changes its meaning.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct ReportDocument<'a> {
    schema_version: u32,
    kache_version: &'static str,
    generated_at: String,
    since: Option<String>,
    cache_dir: &'a str,
    summary: SummaryEntry<'a>,
    all_events: Vec<EventEntry<'a>>,
    unread: Vec<UnreadEntry<'a>>,
}

/// The totals of many calls. `kache stats` prints the same object.
#[derive(Serialize)]
pub(in crate::cli) struct SummaryEntry<'a> {
    hit_rate_pct: f64,
    hit_rate_time_pct: f64,
    total_calls: u64,
    total_crates: u64,
    local_hits: u64,
    seeded: u64,
    prefetch_hits: u64,
    remote_hits: u64,
    dups: u64,
    misses: u64,
    passthroughs: u64,
    errors: u64,
    skipped: u64,
    probes: u64,
    compiler_runs: u64,
    preprocessor_runs: u64,
    probe_runs: u64,
    elapsed_ms: f64,
    compiled_ms: f64,
    avoided_ms: f64,
    saved_ms: f64,
    hit_ms_p50: Option<f64>,
    hit_ms_p95: Option<f64>,
    phases_ms: BTreeMap<&'static str, f64>,
    restored_bytes: u64,
    shared_bytes: u64,
    stored_bytes: u64,
    passthrough_reasons: Vec<ReasonEntry<'a>>,
    miss_reasons: Vec<ReasonEntry<'a>>,
    remote_troubles: Vec<ReasonEntry<'a>>,
}

#[derive(Serialize)]
struct ReasonEntry<'a> {
    reason: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct EventEntry<'a> {
    at: String,
    crate_name: &'a str,
    version: Option<&'a str>,
    kind: Option<&'a str>,
    result: &'static str,
    reason: Option<&'a str>,
    passthrough_reason: Option<&'a str>,
    detail: Option<&'a str>,
    elapsed_ms: f64,
    compile_ms: f64,
    phases_ms: BTreeMap<&'static str, f64>,
    compiler_runs: u32,
    preprocessor_runs: u32,
    probe_runs: u32,
    restored_bytes: u64,
    shared_bytes: u64,
    stored_bytes: u64,
    query: Option<String>,
    action: Option<String>,
    nearest_action: Option<String>,
    changes: Vec<ChangeEntry<'a>>,
    not_stored: Option<String>,
    remote_trouble: Option<&'a str>,
    cwd: Option<&'a str>,
    root: Option<&'a str>,
}

#[derive(Serialize)]
struct ChangeEntry<'a> {
    kind: &'a str,
    name: &'a str,
    before: Option<&'a str>,
    now: Option<&'a str>,
}

#[derive(Serialize)]
struct UnreadEntry<'a> {
    path: String,
    why: &'a str,
}

pub(super) fn page(data: &ReportData) -> String {
    let summary = Summary::of(&data.history.events);
    let document = ReportDocument {
        schema_version: SCHEMA_VERSION,
        kache_version: env!("CARGO_PKG_VERSION"),
        generated_at: rfc3339(data.now),
        since: data.since.map(rfc3339),
        cache_dir: &data.cache_dir,
        summary: summary_entry(&summary),
        all_events: data.history.events.iter().map(event_entry).collect(),
        unread: data.history.unread.iter().map(unread_entry).collect(),
    };
    let text = serde_json::to_string_pretty(&document).expect("every key is a text");
    text + "\n"
}

pub(in crate::cli) fn summary_entry(summary: &Summary) -> SummaryEntry<'_> {
    SummaryEntry {
        hit_rate_pct: rounded(summary.hit_rate_pct()),
        hit_rate_time_pct: rounded(summary.hit_rate_time_pct()),
        total_calls: summary.calls,
        total_crates: summary.crates,
        local_hits: summary.count_of(Outcome::LocalHit),
        seeded: summary.seeded,
        prefetch_hits: summary.count_of(Outcome::PrefetchHit),
        remote_hits: summary.count_of(Outcome::RemoteHit),
        dups: summary.count_of(Outcome::Dup),
        misses: summary.count_of(Outcome::Miss),
        passthroughs: summary.count_of(Outcome::Passthrough),
        errors: summary.count_of(Outcome::Error),
        skipped: summary.count_of(Outcome::Skipped),
        probes: summary.probes,
        compiler_runs: summary.compiler_runs,
        preprocessor_runs: summary.preprocessor_runs,
        probe_runs: summary.probe_runs,
        elapsed_ms: ms(summary.elapsed),
        compiled_ms: ms(summary.compiled),
        avoided_ms: ms(summary.avoided),
        saved_ms: ms(summary.saved),
        hit_ms_p50: summary.hit_percentile(50).map(ms),
        hit_ms_p95: summary.hit_percentile(95).map(ms),
        phases_ms: summary.phases.iter().map(|(phase, took)| (phase.name(), ms(*took))).collect(),
        restored_bytes: summary.restored_bytes,
        shared_bytes: summary.shared_bytes,
        stored_bytes: summary.stored_bytes,
        passthrough_reasons: reason_entries(&summary.passthrough_reasons),
        miss_reasons: reason_entries(&summary.miss_reasons),
        remote_troubles: summary
            .remote_troubles()
            .into_iter()
            .map(|(reason, count)| ReasonEntry { reason, count })
            .collect(),
    }
}

fn reason_entries(reasons: &ReasonCounts) -> Vec<ReasonEntry<'_>> {
    by_frequency(reasons).into_iter().map(|(reason, count)| ReasonEntry { reason, count }).collect()
}

fn event_entry(event: &Event) -> EventEntry<'_> {
    let is_passed_on = event.outcome == Outcome::Passthrough;
    EventEntry {
        at: rfc3339(event.at),
        crate_name: &event.name,
        version: some(&event.version),
        kind: some(&event.kind),
        result: event.outcome.name(),
        reason: some(event.reason_name()),
        passthrough_reason: some(event.reason_name()).filter(|_| is_passed_on),
        detail: some(&event.detail),
        elapsed_ms: ms(event.elapsed),
        compile_ms: ms(event.compile_time),
        phases_ms: phases(event),
        compiler_runs: event.compiler_runs,
        preprocessor_runs: event.preprocessor_runs,
        probe_runs: event.probe_runs,
        restored_bytes: event.restored_bytes,
        shared_bytes: event.shared_bytes,
        stored_bytes: event.stored_bytes,
        query: event.query.map(Hash::to_hex),
        action: event.action.map(Hash::to_hex),
        nearest_action: event.nearest.map(Hash::to_hex),
        changes: event.changes.iter().map(change_entry).collect(),
        not_stored: event.not_stored.as_ref().map(ToString::to_string),
        remote_trouble: some(&event.remote_trouble),
        cwd: some(&event.cwd),
        root: some(&event.root),
    }
}

/// The time of each phase. A call may go through a phase more than once; its times are added.
fn phases(event: &Event) -> BTreeMap<&'static str, f64> {
    let mut sums: BTreeMap<&'static str, Duration> = BTreeMap::new();
    for (phase, took) in &event.phases {
        *sums.entry(phase.name()).or_default() += *took;
    }
    sums.into_iter().map(|(name, took)| (name, ms(took))).collect()
}

fn change_entry(change: &Change) -> ChangeEntry<'_> {
    ChangeEntry {
        kind: &change.kind,
        name: &change.name,
        before: change.before.as_deref(),
        now: change.now.as_deref(),
    }
}

fn unread_entry(unread: &Unread) -> UnreadEntry<'_> {
    UnreadEntry { path: unread.path.to_string_lossy().into_owned(), why: &unread.why }
}

/// Events hold an empty text where a field does not apply; JSON holds null.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Rounds to two digits after the point.
fn rounded(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}
