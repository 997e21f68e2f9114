//! Counts gRPC requests by method and status code, and measures how long they took. `pages`
//! writes the numbers to `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::Code;

use super::latency::LatencyHistogram;

/// The methods that are counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has the name of a gRPC method")]
pub enum GrpcMethod {
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

impl GrpcMethod {
    /// Every method, in the order of their discriminants.
    pub const ALL: [GrpcMethod; 13] = [
        GrpcMethod::GetCapabilities,
        GrpcMethod::GetActionResult,
        GrpcMethod::UpdateActionResult,
        GrpcMethod::FindMissingBlobs,
        GrpcMethod::BatchUpdateBlobs,
        GrpcMethod::BatchReadBlobs,
        GrpcMethod::GetTree,
        GrpcMethod::Read,
        GrpcMethod::Write,
        GrpcMethod::QueryWriteStatus,
        GrpcMethod::HealthCheck,
        GrpcMethod::HealthWatch,
        GrpcMethod::Other,
    ];

    /// The name, as a label.
    pub const fn name(self) -> &'static str {
        match self {
            GrpcMethod::GetCapabilities => "GetCapabilities",
            GrpcMethod::GetActionResult => "GetActionResult",
            GrpcMethod::UpdateActionResult => "UpdateActionResult",
            GrpcMethod::FindMissingBlobs => "FindMissingBlobs",
            GrpcMethod::BatchUpdateBlobs => "BatchUpdateBlobs",
            GrpcMethod::BatchReadBlobs => "BatchReadBlobs",
            GrpcMethod::GetTree => "GetTree",
            GrpcMethod::Read => "Read",
            GrpcMethod::Write => "Write",
            GrpcMethod::QueryWriteStatus => "QueryWriteStatus",
            GrpcMethod::HealthCheck => "HealthCheck",
            GrpcMethod::HealthWatch => "HealthWatch",
            GrpcMethod::Other => "Other",
        }
    }
}

/// gRPC's codes are 0 to 16.
const CODES: usize = 17;

/// How many requests of each method ended with each code.
#[derive(Debug, Default)]
pub struct GrpcMetrics {
    ended: [[AtomicU64; CODES]; GrpcMethod::ALL.len()],
    latency: [LatencyHistogram; GrpcMethod::ALL.len()],
}

impl GrpcMetrics {
    /// Counts a request. A request with a stream of responses is counted when the first is sent.
    pub fn count(&self, method: GrpcMethod, code: Code) {
        self.ended[method as usize][code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Records the time from a request to the beginning of its response.
    pub fn took(&self, method: GrpcMethod, took: Duration) {
        self.latency[method as usize].record(took);
    }

    /// The durations of each method, including methods without requests.
    pub fn latencies(&self) -> impl Iterator<Item = (GrpcMethod, &LatencyHistogram)> {
        GrpcMethod::ALL.into_iter().zip(&self.latency)
    }

    /// All counts that are not zero.
    pub fn snapshot(&self) -> Vec<(GrpcMethod, Code, u64)> {
        let of_method = |method: GrpcMethod| {
            self.ended[method as usize].iter().zip(0i32..).filter_map(move |(count, code)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then(|| (method, Code::from_i32(code), count))
            })
        };
        GrpcMethod::ALL.into_iter().flat_map(of_method).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_method_and_code() {
        let grpc_metrics = GrpcMetrics::default();
        grpc_metrics.count(GrpcMethod::Read, Code::Ok);
        grpc_metrics.count(GrpcMethod::Read, Code::Ok);
        grpc_metrics.count(GrpcMethod::Other, Code::Unauthenticated);
        let expected = vec![(GrpcMethod::Read, Code::Ok, 2), (GrpcMethod::Other, Code::Unauthenticated, 1)];
        assert_eq!(grpc_metrics.snapshot(), expected);
    }

    #[test]
    fn the_list_of_methods_is_in_order() {
        for (index, method) in GrpcMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index, "{method:?}");
        }
    }
}
