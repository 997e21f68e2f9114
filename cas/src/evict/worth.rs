//! The worth of an entry: the cost of making it again, divided by its size and its age.
//!
//! This is pure arithmetic. Worth is milliseconds saved per byte kept, and shrinks with the time
//! since the last use: a result that took a minute and fills a kilobyte outlives one that took a
//! second and fills a gigabyte, and both are evicted in the end if they are not used.

use std::cmp::Ordering;

use kache_proto::reapi::{ActionResult, ExecutedActionMetadata};
use kache_proto::well_known::Timestamp;

/// The assumed time to rebuild a result that does not record its own: about the median compile of
/// an ordinary project.
pub const REBUILD_MS_DEFAULT: u64 = 1_000;

/// The shortest rebuild: a process has to be started.
const REBUILD_MS_MIN: u64 = 10;

/// The longest rebuild that is believed. A result that claims more would never be evicted.
const REBUILD_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The time of the request when a client uploads a blob again that no result names.
const REFETCH_MS: u64 = 20;

/// The speed of the transfer in that case: 50 MB/s.
const REFETCH_BYTES_PER_MS: u64 = 50_000;

/// The time of the requests when a result is fetched from a remote again: three round trips.
const REMOTE_FETCH_MS: u64 = 60;

/// The speed of the transfer in that case: 10 MB/s.
const REMOTE_FETCH_BYTES_PER_MS: u64 = 10_000;

/// A smaller entry counts as this many bytes, because its records occupy space as well.
const BYTES_MIN: u64 = 512;

/// A younger entry counts as this old: within an hour of their use all entries are equally young.
const AGE_MS_MIN: u64 = 60 * 60 * 1000;

/// The worth of an entry, on a logarithmic scale. The entries of least worth are evicted first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth(f64);

impl Worth {
    /// The worth of a result that cannot be restored.
    pub const NOTHING: Worth = Worth(f64::NEG_INFINITY);

    /// Computes the worth of an entry from the time to make it again, the space that it occupies,
    /// and the time since its last use.
    pub fn of(cost_ms: u64, physical_bytes: u64, age_ms: u64) -> Worth {
        let log2 = |number: u64| (number as f64).log2();
        Worth(log2(cost_ms.max(1)) - log2(physical_bytes.max(BYTES_MIN)) - log2(age_ms.max(AGE_MS_MIN)))
    }
}

impl Eq for Worth {}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the time until a client has uploaded a blob again that no result names.
pub(super) fn refetch_cost_ms(size_bytes: u64) -> u64 {
    REFETCH_MS + size_bytes / REFETCH_BYTES_PER_MS
}

/// Returns the time until a result with blobs of this size was fetched from a remote again.
pub(super) fn remote_fetch_cost_ms(size_bytes: u64) -> u64 {
    REMOTE_FETCH_MS + size_bytes / REMOTE_FETCH_BYTES_PER_MS
}

/// Returns the time to rebuild a result, as recorded in it.
pub(super) fn rebuild_cost_ms(result: &ActionResult) -> u64 {
    let said = result.execution_metadata.as_ref().and_then(execution_ms);
    said.map_or(REBUILD_MS_DEFAULT, |ms| ms.clamp(REBUILD_MS_MIN, REBUILD_MS_MAX))
}

fn execution_ms(metadata: &ExecutedActionMetadata) -> Option<u64> {
    let virtually = metadata.virtual_execution_duration.as_ref();
    let virtually = virtually.and_then(|duration| ms(duration.seconds, duration.nanos));
    let between = |start: &Option<Timestamp>, end: &Option<Timestamp>| {
        let (start, end) = (start.as_ref()?, end.as_ref()?);
        ms(end.seconds, end.nanos)?.checked_sub(ms(start.seconds, start.nanos)?)
    };
    // A duration of zero means that the field was never set.
    virtually
        .or_else(|| between(&metadata.execution_start_timestamp, &metadata.execution_completed_timestamp))
        .or_else(|| between(&metadata.worker_start_timestamp, &metadata.worker_completed_timestamp))
        .filter(|&ms| ms > 0)
}

fn ms(seconds: i64, nanos: i32) -> Option<u64> {
    let seconds = u64::try_from(seconds).ok()?;
    Some(seconds.checked_mul(1000)? + u64::try_from(nanos).ok()? / 1_000_000)
}

#[cfg(test)]
mod tests {
    use kache_proto::well_known::Duration;

    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;

    #[test]
    fn cost_size_and_age_each_count() {
        let base = Worth::of(1_000, 1 << 20, 10 * HOUR_MS);
        assert!(Worth::of(60_000, 1 << 20, 10 * HOUR_MS) > base, "dearer to rebuild");
        assert!(Worth::of(1_000, 1 << 10, 10 * HOUR_MS) > base, "smaller");
        assert!(Worth::of(1_000, 1 << 20, 2 * HOUR_MS) > base, "younger");
        assert!(Worth::of(1_000, 1 << 20, 20 * HOUR_MS) < base, "older");
        assert!(Worth::NOTHING < Worth::of(0, u64::MAX, u64::MAX));
    }

    #[test]
    fn an_old_expensive_entry_may_outlive_a_young_cheap_one() {
        let dear = Worth::of(120_000, 1 << 20, 48 * HOUR_MS);
        let cheap = Worth::of(500, 1 << 20, 2 * HOUR_MS);
        assert!(dear > cheap);
        assert!(Worth::of(120_000, 1 << 20, 24 * 365 * HOUR_MS) < cheap, "but not forever");
    }

    #[test]
    fn the_cost_is_the_duration_that_the_result_records() {
        let of =
            |metadata| rebuild_cost_ms(&ActionResult { execution_metadata: metadata, ..Default::default() });
        let at = |seconds| Some(Timestamp { seconds, nanos: 500_000_000 });
        assert_eq!(of(None), REBUILD_MS_DEFAULT);
        let ran = ExecutedActionMetadata {
            execution_start_timestamp: at(100),
            execution_completed_timestamp: at(107),
            ..Default::default()
        };
        assert_eq!(of(Some(ran.clone())), 7_000);
        let virtually = Some(Duration { seconds: 3, nanos: 0 });
        let said = ExecutedActionMetadata { virtual_execution_duration: virtually, ..ran.clone() };
        assert_eq!(of(Some(said)), 3_000);
        let backwards = ExecutedActionMetadata { execution_start_timestamp: at(200), ..ran.clone() };
        assert_eq!(of(Some(backwards)), REBUILD_MS_DEFAULT);
        let forever = ExecutedActionMetadata { execution_completed_timestamp: at(i64::MAX / 2_000), ..ran };
        assert_eq!(of(Some(forever)), REBUILD_MS_MAX);
        let worker = ExecutedActionMetadata {
            worker_start_timestamp: at(1),
            worker_completed_timestamp: at(2),
            ..Default::default()
        };
        assert_eq!(of(Some(worker)), 1_000);
    }
}
