//! Parses the wrapper calls in `kache report`.

use std::time::Duration;

use serde_json::Value;

/// One wrapper call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) crate_name: String,
    pub(crate) kind: String,
    pub(crate) result: String,
    pub(crate) reason: String,
    pub(crate) compiler_runs: u64,
    pub(crate) probe_runs: u64,
    pub(crate) query: String,
    pub(crate) action: String,
    pub(crate) why: String,
    pub(crate) not_stored: String,
    /// Whether the unit was restored by seeding, without a call.
    pub(crate) is_seeded: bool,
    /// Whether it followed another call's compile.
    pub(crate) has_waited: bool,
    /// How long it waited for remotes.
    pub(crate) remote: Duration,
}

impl Call {
    pub(crate) fn is_hit(&self) -> bool {
        matches!(self.result.as_str(), "local_hit" | "remote_hit" | "dup")
    }

    /// Whether the call was stored, was refused, or needs neither.
    pub(crate) fn is_settled(&self) -> bool {
        self.result != "miss" || !self.action.is_empty() || !self.not_stored.is_empty()
    }

    /// Whether it was a compile of cargo's own, not a query or a build script's trial.
    pub(crate) fn is_compile(&self) -> bool {
        self.kind != "probe" && self.kind != "query" && self.reason != "query"
    }
}

/// The calls of one build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls(pub(crate) Vec<Call>);

impl Calls {
    pub(crate) fn compiles(&self) -> impl Iterator<Item = &Call> {
        self.0.iter().filter(|call| call.is_compile())
    }

    /// The names of crates with this result, sorted.
    pub(crate) fn crates(&self, result: &str) -> Vec<&str> {
        let mut names: Vec<_> =
            self.compiles().filter(|call| call.result == result).map(|call| &*call.crate_name).collect();
        names.sort_unstable();
        names
    }
}

/// The calls in a report, the oldest first.
pub(crate) fn calls_in(report: &[u8]) -> Vec<Call> {
    let report: Value = serde_json::from_slice(report).unwrap();
    assert_eq!(report["schema_version"], 1, "{report}");
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let number = |event: &Value, name: &str| event[name].as_u64().unwrap_or_default();
    let events = report["all_events"].as_array().unwrap_or_else(|| panic!("no events in {report}"));
    let call = |event: &Value| Call {
        crate_name: text(event, "crate_name"),
        kind: text(event, "kind"),
        result: text(event, "result"),
        reason: text(event, "passthrough_reason"),
        compiler_runs: number(event, "compiler_runs"),
        probe_runs: number(event, "probe_runs"),
        query: text(event, "query"),
        action: text(event, "action"),
        why: text(event, "detail"),
        not_stored: text(event, "not_stored"),
        is_seeded: event["reason"] == "seeded",
        has_waited: !event["phases_ms"]["wait"].is_null(),
        remote: Duration::from_secs_f64(event["phases_ms"]["remote"].as_f64().unwrap_or_default() / 1000.0),
    };
    events.iter().map(call).collect()
}
