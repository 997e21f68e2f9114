//! The JSON report conforms to its schema, and the schema describes every field.

use serde_json::Value;

use crate::calls::all;
use crate::home::Home;
use crate::validator::Schema;

fn schema() -> Schema {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json");
    Schema::new(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn report(home: &Home) -> Value {
    serde_json::from_slice(&home.run(&["report", "--format", "json"]).stdout).unwrap()
}

#[test]
fn the_report_conforms_to_its_schema() {
    for home in [Home::new(), Home::with(&all())] {
        assert_eq!(schema().complaints(&report(&home)), [""; 0]);
    }
}

/// The names and values that are part of the documented interface, whatever the schema says.
#[test]
fn the_report_has_all_documented_fields() {
    let report = report(&Home::with(&all()));
    assert_eq!(report["schema_version"], 1);
    for (name, expected) in [
        ("total_crates", 7),
        ("local_hits", 1),
        ("prefetch_hits", 1),
        ("remote_hits", 1),
        ("dups", 1),
        ("misses", 1),
        ("passthroughs", 3),
        ("errors", 1),
        ("skipped", 1),
    ] {
        assert_eq!(report["summary"][name], expected, "{name}");
    }
    assert_eq!(report["summary"]["hit_rate_pct"], 66.67);
    let results: Vec<_> = report["all_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["result"].as_str().unwrap())
        .collect();
    assert_eq!(
        results,
        [
            "local_hit",
            "prefetch_hit",
            "remote_hit",
            "dup",
            "local_hit",
            "miss",
            "skipped",
            "error",
            "passthrough",
            "passthrough",
            "passthrough"
        ]
    );
    let first = &report["all_events"][0];
    assert_eq!(first["crate_name"], "regex_syntax");
    assert_eq!(first["elapsed_ms"], 1.34);
    assert_eq!(first["passthrough_reason"], Value::Null);
    for runs in ["compiler_runs", "preprocessor_runs", "probe_runs"] {
        assert_eq!(first[runs], 0);
    }
    assert_eq!(report["all_events"][8]["passthrough_reason"], "unknown-flag");
}

/// Wrong reports: the expected complaint, and the change that causes it.
type Spoil = (&'static str, fn(&mut Value));

#[test]
fn a_wrong_report_is_rejected() {
    let right = report(&Home::with(&all()));
    let spoil: &[Spoil] = &[
        ("a version", |report| report["schema_version"] = 2.into()),
        ("a lack", |report| drop(report["summary"].as_object_mut().unwrap().remove("misses"))),
        ("a type", |report| report["all_events"][0]["elapsed_ms"] = "1".into()),
        ("a fraction", |report| report["all_events"][0]["compiler_runs"] = 0.5.into()),
        ("a negative", |report| report["all_events"][0]["stored_bytes"] = (-1).into()),
        ("an outcome", |report| report["all_events"][0]["result"] = "hit".into()),
        ("too much", |report| report["summary"]["hit_rate_pct"] = 101.into()),
        ("a field that is not described", |report| report["summary"]["luck"] = 1.into()),
        ("a null", |report| report["cache_dir"] = Value::Null),
    ];
    for (what, spoil) in spoil {
        let mut report = right.clone();
        spoil(&mut report);
        assert_eq!(schema().complaints(&report).len(), 1, "{what}: {:?}", schema().complaints(&report));
    }
}
