//! Counts what was asked over gRPC, how it ended and how long it took. Numbers only; showing them is
//! `metrics`' work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::Code;

use super::latency::Latency;

/// The methods that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as the protocol names it")]
pub enum Method {
    GetCapabilities,
    GetActionResult,
    UpdateActionResult,
    FindMissingBlobs,
    BatchUpdateBlobs,
    BatchReadBlobs,
    GetTree,
    Read,
    Write,
    QueryWriteStatus,
    HealthCheck,
    HealthWatch,
    Other,
}

impl Method {
    /// Every method, in the order of their discriminants.
    pub const ALL: [Method; 13] = [
        Method::GetCapabilities,
        Method::GetActionResult,
        Method::UpdateActionResult,
        Method::FindMissingBlobs,
        Method::BatchUpdateBlobs,
        Method::BatchReadBlobs,
        Method::GetTree,
        Method::Read,
        Method::Write,
        Method::QueryWriteStatus,
        Method::HealthCheck,
        Method::HealthWatch,
        Method::Other,
    ];

    /// The name, as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Method::GetCapabilities => "GetCapabilities",
            Method::GetActionResult => "GetActionResult",
            Method::UpdateActionResult => "UpdateActionResult",
            Method::FindMissingBlobs => "FindMissingBlobs",
            Method::BatchUpdateBlobs => "BatchUpdateBlobs",
            Method::BatchReadBlobs => "BatchReadBlobs",
            Method::GetTree => "GetTree",
            Method::Read => "Read",
            Method::Write => "Write",
            Method::QueryWriteStatus => "QueryWriteStatus",
            Method::HealthCheck => "HealthCheck",
            Method::HealthWatch => "HealthWatch",
            Method::Other => "Other",
        }
    }
}

/// gRPC's codes are 0 to 16.
const CODES: usize = 17;

/// How many requests of each method ended with each code.
#[derive(Debug, Default)]
pub struct Meters {
    ended: [[AtomicU64; CODES]; Method::ALL.len()],
    latency: [Latency; Method::ALL.len()],
}

impl Meters {
    /// One more request of this method ended so. A stream counts when its answer begins.
    pub fn count(&self, method: Method, code: Code) {
        self.ended[method as usize][code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// It took this long until its answer began.
    pub fn took(&self, method: Method, took: Duration) {
        self.latency[method as usize].record(took);
    }

    /// How long each method took, whether anybody used it or not.
    pub fn latencies(&self) -> impl Iterator<Item = (Method, &Latency)> {
        Method::ALL.into_iter().zip(&self.latency)
    }

    /// Every count that is not zero.
    pub fn snapshot(&self) -> Vec<(Method, Code, u64)> {
        let of_method = |method: Method| {
            self.ended[method as usize].iter().zip(0i32..).filter_map(move |(count, code)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then(|| (method, Code::from_i32(code), count))
            })
        };
        Method::ALL.into_iter().flat_map(of_method).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_method_and_code() {
        let meters = Meters::default();
        meters.count(Method::Read, Code::Ok);
        meters.count(Method::Read, Code::Ok);
        meters.count(Method::Other, Code::Unauthenticated);
        let expected = vec![(Method::Read, Code::Ok, 2), (Method::Other, Code::Unauthenticated, 1)];
        assert_eq!(meters.snapshot(), expected);
    }

    #[test]
    fn the_list_of_methods_is_in_order() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index, "{method:?}");
        }
    }
}
