//! Reads figures of calls and of the daemon from `kache report` and `kache daemon status`.

use anyhow::{Context, Result};

use crate::rust::{Cargo, WrapperSetup};

/// The daemon's time for each hit of a compile, in milliseconds, the oldest first.
pub(crate) fn hits_ms(cargo: &Cargo, wrapping: &WrapperSetup) -> Result<Vec<f64>> {
    let report = wrapping.report(cargo)?;
    let events = report["all_events"].as_array().context("`kache report` has no events")?;
    let hits = events.iter().filter(|event| event["result"] == "local_hit" && event["kind"] != "probe");
    hits.map(|event| event["elapsed_ms"].as_f64().context("an event without a time")).collect()
}

/// The number of misses.
pub(crate) fn misses(cargo: &Cargo, wrapping: &WrapperSetup) -> Result<u64> {
    let report = wrapping.report(cargo)?;
    report["summary"]["misses"].as_u64().context("`kache report` has no `misses`")
}

/// The resident memory of the daemon in MB.
pub(crate) fn daemon_mb(cargo: &Cargo, wrapping: &WrapperSetup) -> Result<f64> {
    let status = wrapping.ask(cargo, &["daemon", "status", "--json"])?;
    let pid = status["pid"].as_u64().context("`kache daemon status` names no process")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no `VmRSS` of the daemon")?;
    Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
}
