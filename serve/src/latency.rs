//! A histogram of durations. Recording one costs two atomic additions and never blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::Exposition;

/// The upper bounds of the buckets, in microseconds and as the text in seconds that Prometheus
/// reads. A hit in memory takes tens of microseconds, an upload over a slow line seconds.
const BUCKETS: [(u64, &str); 12] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    /// How many durations are within the bound of each bucket and above the bound before it. The
    /// last bucket has no bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    total_us: AtomicU64,
}

impl LatencyHistogram {
    /// Counts one request that took this long.
    pub fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound, _)| took_us <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Writes the samples of this histogram, with `label`, to the family `name`.
    pub fn expose(&self, out: &mut Exposition, name: &str, label: (&str, &str)) {
        let bucket = format!("{name}_bucket");
        let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        let mut below = 0;
        for (bound, counter) in bounds.zip(&self.buckets) {
            below += counter.load(Ordering::Relaxed);
            out.sample(&bucket, &[label, ("le", bound)], below);
        }
        let total = Duration::from_micros(self.total_us.load(Ordering::Relaxed));
        out.sample(&format!("{name}_sum"), &[label], total.as_secs_f64());
        out.sample(&format!("{name}_count"), &[label], below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_their_texts_are_right() {
        assert!(BUCKETS.is_sorted());
        for (bound_us, text) in BUCKETS {
            assert_eq!(text.parse::<f64>().unwrap(), Duration::from_micros(bound_us).as_secs_f64());
        }
    }

    #[test]
    fn buckets_are_written_cumulatively() {
        let latency = LatencyHistogram::default();
        for took_us in [1, 100, 101, 60_000_000] {
            latency.record(Duration::from_micros(took_us));
        }
        let mut out = Exposition::default();
        latency.expose(&mut out, "x", ("y", "z"));
        let text = out.finish();
        for line in [
            r#"x_bucket{y="z",le="0.0001"} 2"#,
            r#"x_bucket{y="z",le="0.00025"} 3"#,
            r#"x_bucket{y="z",le="10"} 3"#,
            r#"x_bucket{y="z",le="+Inf"} 4"#,
            r#"x_sum{y="z"} 60.000202"#,
            r#"x_count{y="z"} 4"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
