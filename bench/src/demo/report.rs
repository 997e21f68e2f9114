//! Reads the numbers of hits and misses from `kache report`.

use anyhow::{Context, Result};
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
    /// Reads the counts from `kache report`.
    pub(crate) fn ask(cargo: &Cargo, wrapping: &WrapperSetup) -> Result<Calls> {
        Calls::of(&wrapping.report(cargo)?)
    }

    fn of(report: &Value) -> Result<Calls> {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn hits_of_every_kind_count() {
        let summary = json!({"local_hits": 7, "prefetch_hits": 1, "remote_hits": 1, "dups": 1, "misses": 10});
        let calls = Calls::of(&json!({"schema_version": 1, "summary": summary})).unwrap();
        assert_eq!(calls, Calls { hits: 10, misses: 10 });
        assert_eq!(calls.since(Calls { hits: 0, misses: 10 }).hit_rate_pct(), Some(100.0));
        assert_eq!(calls.since(calls).hit_rate_pct(), None);
    }

    #[test]
    fn a_report_without_its_numbers_is_named() {
        let error = Calls::of(&json!({"summary": {"local_hits": 7}})).unwrap_err();
        assert!(error.to_string().contains("summary.prefetch_hits"), "{error}");
    }
}
