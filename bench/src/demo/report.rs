//! Reads the numbers of hits and misses from `kache report`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::rust::{Cargo, WrapperSetup};

/// Numbers of calls since the cache was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Calls that were restored from the cache, or followed another call's compile.
    pub(crate) hits: u64,
    /// Calls that ran the compiler.
    pub(crate) misses: u64,
}

impl Calls {
    /// Reads the counts from `kache report`, which it runs as cargo would.
    pub(crate) fn ask(cargo: &Cargo, wrapping: &WrapperSetup) -> Result<Calls> {
        let mut command = wrapping.own(cargo);
        let said = command.args(["report", "--format", "json"]).stdin(Stdio::null()).output()?;
        ensure!(said.status.success(), "`kache report` failed: {}", String::from_utf8_lossy(&said.stderr));
        Calls::parse(&said.stdout)
    }

    fn parse(report: &[u8]) -> Result<Calls> {
        let report: Value = serde_json::from_slice(report).context("`kache report` printed no JSON")?;
        let count = |name: &str| {
            let count = report["summary"][name].as_u64();
            count.with_context(|| format!("`kache report` has no number `summary.{name}`"))
        };
        let hits = ["local_hits", "prefetch_hits", "remote_hits", "dups"];
        let hits = hits.into_iter().map(count).sum::<Result<u64>>()?;
        Ok(Calls { hits, misses: count("misses")? })
    }

    /// The calls after `earlier` was read.
    pub(crate) fn since(self, earlier: Calls) -> Calls {
        Calls {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
        }
    }

    /// The percentage of hits. `None` if there were no calls.
    pub(crate) fn hit_rate_pct(self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_of_every_kind_count() {
        let report = br#"{"schema_version":1,"summary":{"local_hits":7,"prefetch_hits":1,"remote_hits":1,"dups":1,"misses":10}}"#;
        let calls = Calls::parse(report).unwrap();
        assert_eq!(calls, Calls { hits: 10, misses: 10 });
        assert_eq!(calls.since(Calls { hits: 0, misses: 10 }).hit_rate_pct(), Some(100.0));
        assert_eq!(calls.since(calls).hit_rate_pct(), None);
    }

    #[test]
    fn a_report_without_its_numbers_is_named() {
        let error = Calls::parse(br#"{"summary":{"local_hits":7}}"#).unwrap_err();
        assert!(error.to_string().contains("summary.prefetch_hits"), "{error}");
    }
}
