//! Logged calls of a small build, one of each outcome.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache::events::{Change, Event, EventReason, NotStored, Outcome, Phase};
use kache_cas::Hash;

/// This many seconds after 2026-01-15 10:00:00 UTC.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_768_471_200 + seconds)
}

/// The hash of which each byte has these two digits.
fn hash(digits: &str) -> Option<Hash> {
    digits.repeat(Hash::LEN).parse().ok()
}

fn phases(micros: &[(Phase, u64)]) -> Vec<(Phase, Duration)> {
    micros.iter().map(|(phase, took)| (*phase, Duration::from_micros(*took))).collect()
}

fn call(seconds: u64, name: &str, version: &str, kind: &str, outcome: Outcome) -> Event {
    Event {
        version: version.to_owned(),
        kind: kind.to_owned(),
        cwd: "/home/ann/app".to_owned(),
        root: "/home/ann/app/target".to_owned(),
        ..Event::new(at(seconds), name, outcome)
    }
}

pub(crate) fn local_hit() -> Event {
    Event {
        elapsed: Duration::from_micros(1_340),
        compile_time: Duration::from_millis(1_380),
        phases: phases(&[
            (Phase::Parse, 41),
            (Phase::Inputs, 310),
            (Phase::Key, 25),
            (Phase::Lookup, 90),
            (Phase::Restore, 620),
        ]),
        restored_bytes: 12_400_000,
        shared_bytes: 12_350_000,
        query: hash("11"),
        action: hash("22"),
        ..call(0, "regex_syntax", "0.8.5", "lib", Outcome::LocalHit)
    }
}

pub(crate) fn changed() -> Event {
    Event {
        elapsed: Duration::from_millis(812),
        compile_time: Duration::from_millis(790),
        phases: phases(&[(Phase::Parse, 39), (Phase::Lookup, 120), (Phase::Compile, 790_000)]),
        reason: EventReason::from_name("changed"),
        detail: "`ws/src/lib.rs` changed".to_owned(),
        compiler_runs: 1,
        stored_bytes: 880_000,
        query: hash("33"),
        action: hash("44"),
        nearest: hash("55"),
        changes: vec![
            Change {
                kind: "file".to_owned(),
                name: "ws/src/lib.rs".to_owned(),
                before: Some(format!("blake3/{}/2048", "66".repeat(32))),
                now: Some(format!("blake3/{}/2071", "77".repeat(32))),
            },
            Change {
                kind: "env".to_owned(),
                name: "APP_MODE".to_owned(),
                before: None,
                now: Some("fast".to_owned()),
            },
        ],
        ..call(4, "app", "0.1.0", "lib", Outcome::Miss)
    }
}

/// One call of each outcome.
pub(crate) fn all() -> Vec<Event> {
    let bypass = |seconds, name: &str, reason: &str, detail: &str| Event {
        reason: EventReason::from_name(reason),
        detail: detail.to_owned(),
        elapsed: Duration::from_micros(60),
        ..call(seconds, name, "", "", Outcome::Passthrough)
    };
    let quick = |event: Event| Event {
        elapsed: Duration::from_millis(3),
        compile_time: Duration::from_millis(600),
        restored_bytes: 700_000,
        ..event
    };
    vec![
        local_hit(),
        quick(call(1, "serde", "1.0.229", "lib", Outcome::PrefetchHit)),
        quick(call(1, "syn", "2.0.111", "lib", Outcome::RemoteHit)),
        Event {
            elapsed: Duration::from_millis(400),
            phases: phases(&[(Phase::Wait, 380_000)]),
            ..quick(call(2, "quote", "1.0.42", "lib", Outcome::Dup))
        },
        Event {
            elapsed: Duration::from_micros(300),
            ..quick(call(2, "probe", "", "probe", Outcome::LocalHit))
        },
        changed(),
        Event {
            reason: EventReason::from_name("compile-failed"),
            elapsed: Duration::from_millis(200),
            compile_time: Duration::from_millis(190),
            compiler_runs: 1,
            ..call(5, "broken", "0.1.0", "bin", Outcome::Skipped)
        },
        Event {
            reason: EventReason::from_name("store"),
            detail: "failed to read `blobs/ab`".to_owned(),
            elapsed: Duration::from_millis(100),
            compile_time: Duration::from_millis(90),
            compiler_runs: 1,
            not_stored: Some(NotStored::Recorded("store: no room".to_owned())),
            remote_trouble: "grpc://cache:9092: no answer within 250 ms".to_owned(),
            ..call(6, "unlucky", "0.1.0", "bin", Outcome::Error)
        },
        bypass(7, "app", "unknown-flag", "`-Zsomething`"),
        bypass(8, "rustc", "version", ""),
        bypass(8, "rustc", "version", ""),
    ]
}
