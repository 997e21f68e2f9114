//! Counts HTTP requests and their durations, bytes, connections, and requests that were not
//! admitted. `grpc_metrics` counts gRPC requests.
//!
//! Counting costs a few relaxed atomic additions and never blocks a request. `exposition` writes
//! the text format. No label holds a name or digest that a client chose, so the number of time
//! series is fixed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::exposition::{Exposition, MetricKind};
use super::latency::LatencyHistogram;

/// The kinds of HTTP requests that are counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpOperation {
    /// An action result was looked up.
    GetAction,
    /// An action result was uploaded.
    PutAction,
    /// A blob was looked up.
    GetBlob,
    /// A blob was uploaded.
    PutBlob,
    /// A request for `/status` or `/metrics`.
    Page,
    /// A path that is not served.
    Other,
}

impl HttpOperation {
    const ALL: [HttpOperation; 6] = [
        HttpOperation::GetAction,
        HttpOperation::PutAction,
        HttpOperation::GetBlob,
        HttpOperation::PutBlob,
        HttpOperation::Page,
        HttpOperation::Other,
    ];

    const fn label(self) -> &'static str {
        match self {
            HttpOperation::GetAction => "get_action",
            HttpOperation::PutAction => "put_action",
            HttpOperation::GetBlob => "get_blob",
            HttpOperation::PutBlob => "put_blob",
            HttpOperation::Page => "page",
            HttpOperation::Other => "other",
        }
    }
}

/// How an HTTP request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpOutcome {
    /// The blob, result or page was sent, or the upload was stored.
    Ok,
    /// The blob or result is not in the store.
    Miss,
    /// The request is at fault: bad data, a bad path, missing access.
    Refused,
    /// The server or its disk is at fault.
    Failed,
    /// The client closed the connection before the response.
    Abandoned,
}

impl HttpOutcome {
    const ALL: [HttpOutcome; 5] = [
        HttpOutcome::Ok,
        HttpOutcome::Miss,
        HttpOutcome::Refused,
        HttpOutcome::Failed,
        HttpOutcome::Abandoned,
    ];

    const fn label(self) -> &'static str {
        match self {
            HttpOutcome::Ok => "ok",
            HttpOutcome::Miss => "miss",
            HttpOutcome::Refused => "refused",
            HttpOutcome::Failed => "failed",
            HttpOutcome::Abandoned => "abandoned",
        }
    }
}

/// Why a connection was closed before it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRejection {
    /// `CONNECTIONS_MAX` connections were already open.
    Limit,
    /// The TLS handshake failed or took too long.
    Handshake,
}

impl ConnectionRejection {
    const ALL: [ConnectionRejection; 2] = [ConnectionRejection::Limit, ConnectionRejection::Handshake];

    const fn label(self) -> &'static str {
        match self {
            ConnectionRejection::Limit => "connections_max",
            ConnectionRejection::Handshake => "handshake",
        }
    }
}

/// The numbers of one operation.
#[derive(Default)]
struct OperationCounts {
    outcomes: [AtomicU64; HttpOutcome::ALL.len()],
    latency: LatencyHistogram,
}

/// All counters of the server, except those of gRPC methods.
#[derive(Default)]
pub struct ServeMetrics {
    operations: [OperationCounts; HttpOperation::ALL.len()],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_rejected: [AtomicU64; ConnectionRejection::ALL.len()],
    /// Requests that were not admitted, in the order of `REFUSALS`.
    refusals: [AtomicU64; REFUSALS.len()],
}

/// The values of `AdmissionError::label`. New ones go at the end.
const REFUSALS: [&str; 7] =
    ["foreign", "anonymous", "wrong_credentials", "malformed_credentials", "read_only", "elsewhere", "busy"];

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Measures a request. If it is dropped before `finish`, the request counts as abandoned.
pub struct TimedRequest<'a> {
    counts: &'a OperationCounts,
    begun: Instant,
    outcome: HttpOutcome,
}

impl TimedRequest<'_> {
    /// Counts the request with this outcome.
    pub fn finish(mut self, outcome: HttpOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for TimedRequest<'_> {
    fn drop(&mut self) {
        self.counts.record(self.outcome, self.begun.elapsed());
    }
}

impl OperationCounts {
    fn record(&self, outcome: HttpOutcome, took: Duration) {
        add(&self.outcomes[outcome as usize], 1);
        self.latency.record(took);
    }
}

impl ServeMetrics {
    /// Begins to measure a request.
    pub fn begin(&self, operation: HttpOperation) -> TimedRequest<'_> {
        let counts = &self.operations[operation as usize];
        TimedRequest { counts, begun: Instant::now(), outcome: HttpOutcome::Abandoned }
    }

    /// Counts bytes of blobs and results that came over HTTP, compressed if they were.
    pub fn received(&self, bytes: u64) {
        add(&self.received_bytes, bytes);
    }

    /// Counts bytes of blobs and results that were sent over HTTP, compressed if they were.
    pub fn sent(&self, bytes: u64) {
        add(&self.sent_bytes, bytes);
    }

    /// Counts a request that was not admitted. `label` is `AdmissionError::label`.
    pub fn refused(&self, label: &str) {
        if let Some(index) = REFUSALS.iter().position(|known| *known == label) {
            add(&self.refusals[index], 1);
        }
    }

    /// Counts a connection as open.
    pub fn connection_opened(&self) {
        add(&self.connections_accepted, 1);
        add(&self.connections_open, 1);
    }

    /// Counts a connection as closed.
    pub fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection that was closed before it was served.
    pub fn connection_rejected(&self, why: ConnectionRejection) {
        add(&self.connections_rejected[why as usize], 1);
    }

    /// How many connections were closed before they were served.
    pub fn connections_rejected(&self, why: ConnectionRejection) -> u64 {
        read(&self.connections_rejected[why as usize])
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> u64 {
        read(&self.connections_open)
    }

    /// Writes all metrics in the Prometheus text format.
    pub fn expose(&self, out: &mut Exposition) {
        self.expose_requests(out);
        self.expose_latency(out);
        self.expose_bytes(out);
        self.expose_connections(out);
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.family(
            "kache_http_requests_total",
            MetricKind::Counter,
            "HTTP requests by operation and outcome.",
        );
        for operation in HttpOperation::ALL {
            let counts = &self.operations[operation as usize];
            for outcome in HttpOutcome::ALL {
                let labels = [("operation", operation.label()), ("outcome", outcome.label())];
                out.sample("kache_http_requests_total", &labels, read(&counts.outcomes[outcome as usize]));
            }
        }
        let name = "kache_requests_not_admitted_total";
        out.family(name, MetricKind::Counter, "Requests that were not admitted, over HTTP and gRPC.");
        for (reason, counter) in REFUSALS.iter().zip(&self.refusals) {
            out.sample(name, &[("reason", reason)], read(counter));
        }
    }

    fn expose_latency(&self, out: &mut Exposition) {
        let name = "kache_http_request_duration_seconds";
        out.family(
            name,
            MetricKind::Histogram,
            "Time from an HTTP request to the beginning of its response.",
        );
        for operation in HttpOperation::ALL {
            let latency = &self.operations[operation as usize].latency;
            latency.expose(out, name, ("operation", operation.label()));
        }
    }

    fn expose_bytes(&self, out: &mut Exposition) {
        let (received, sent) = (read(&self.received_bytes), read(&self.sent_bytes));
        out.single(
            "kache_http_received_bytes_total",
            MetricKind::Counter,
            "Bytes of HTTP uploads, as sent.",
            received,
        );
        out.single(
            "kache_http_sent_bytes_total",
            MetricKind::Counter,
            "Bytes of HTTP downloads, as sent.",
            sent,
        );
    }

    fn expose_connections(&self, out: &mut Exposition) {
        out.family("kache_connections", MetricKind::Gauge, "Connections that are open.");
        out.sample("kache_connections", &[], self.connections_open());
        out.family("kache_connections_total", MetricKind::Counter, "Connections that were served.");
        out.sample("kache_connections_total", &[], read(&self.connections_accepted));
        let name = "kache_connections_turned_away_total";
        out.family(name, MetricKind::Counter, "Connections that were closed before they were served.");
        for why in ConnectionRejection::ALL {
            out.sample(name, &[("reason", why.label())], self.connections_rejected(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &ServeMetrics) -> String {
        let mut out = Exposition::default();
        metrics.expose(&mut out);
        out.finish()
    }

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        for (index, operation) in HttpOperation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, index, "{operation:?}");
        }
        for (index, outcome) in HttpOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index, "{outcome:?}");
        }
    }

    #[test]
    fn requests_bytes_and_connections_are_counted() {
        let metrics = ServeMetrics::default();
        metrics.begin(HttpOperation::GetBlob).finish(HttpOutcome::Ok);
        metrics.begin(HttpOperation::GetBlob).finish(HttpOutcome::Miss);
        drop(metrics.begin(HttpOperation::PutBlob));
        let counts = &metrics.operations[HttpOperation::GetBlob as usize];
        counts.record(HttpOutcome::Ok, Duration::from_millis(2));
        counts.record(HttpOutcome::Ok, Duration::from_secs(60));
        metrics.received(7);
        metrics.refused("foreign");
        metrics.connection_opened();
        metrics.connection_opened();
        metrics.connection_closed();
        metrics.connection_rejected(ConnectionRejection::Limit);
        let text = text(&metrics);
        for line in [
            r#"kache_http_requests_total{operation="get_blob",outcome="ok"} 3"#,
            r#"kache_http_requests_total{operation="get_blob",outcome="miss"} 1"#,
            r#"kache_http_requests_total{operation="put_blob",outcome="abandoned"} 1"#,
            r#"kache_requests_not_admitted_total{reason="foreign"} 1"#,
            r#"kache_http_request_duration_seconds_bucket{operation="get_blob",le="0.0025"} 3"#,
            r#"kache_http_request_duration_seconds_bucket{operation="get_blob",le="10"} 3"#,
            r#"kache_http_request_duration_seconds_bucket{operation="get_blob",le="+Inf"} 4"#,
            r#"kache_http_request_duration_seconds_count{operation="get_blob"} 4"#,
            "kache_http_received_bytes_total 7",
            r#"kache_connections_turned_away_total{reason="connections_max"} 1"#,
            "kache_connections 1",
            "kache_connections_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_refusal_has_a_counter() {
        use crate::admission::AdmissionError;
        use crate::credentials::TooManyChecks;
        use crate::host_guard::ForeignRequest;
        for refusal in [
            AdmissionError::Foreign(ForeignRequest::NoHost { port: 1 }),
            AdmissionError::Anonymous { certificates: false },
            AdmissionError::Wrong,
            AdmissionError::Malformed(""),
            AdmissionError::ReadOnly,
            AdmissionError::Elsewhere { path: String::new() },
            AdmissionError::Busy(TooManyChecks),
        ] {
            assert!(REFUSALS.contains(&refusal.label()), "{refusal:?}");
        }
    }
}
