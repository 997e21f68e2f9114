//! What the door counts: HTTP requests and how long they took, bytes, connections, refusals.
//! What gRPC methods did is `meters`' business.
//!
//! Counting is a few relaxed atomic additions and never blocks a request. How the numbers
//! are written for Prometheus is `exposition`'s business; what the store counts is the
//! store's. Nothing here holds a name, a digest or anything else that a stranger chose, so
//! the number of time series is fixed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::exposition::{Exposition, Kind};
use super::latency::Latency;

/// What was asked for over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An action result was looked up.
    GetAction,
    /// One was uploaded.
    PutAction,
    /// A blob was looked up.
    GetBlob,
    /// One was uploaded.
    PutBlob,
    /// `/status` or `/metrics`.
    Page,
    /// Something that is not served.
    Other,
}

impl Operation {
    const ALL: [Operation; 6] = [
        Operation::GetAction,
        Operation::PutAction,
        Operation::GetBlob,
        Operation::PutBlob,
        Operation::Page,
        Operation::Other,
    ];

    const fn label(self) -> &'static str {
        match self {
            Operation::GetAction => "get_action",
            Operation::PutAction => "put_action",
            Operation::GetBlob => "get_blob",
            Operation::PutBlob => "put_blob",
            Operation::Page => "page",
            Operation::Other => "other",
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was found, stored or answered.
    Ok,
    /// It is not there, which is an answer.
    Miss,
    /// The caller is at fault: bad data, a bad name, missing rights.
    Refused,
    /// We are at fault, or the disk is.
    Failed,
    /// The caller went away before the answer.
    Abandoned,
}

impl Outcome {
    const ALL: [Outcome; 5] =
        [Outcome::Ok, Outcome::Miss, Outcome::Refused, Outcome::Failed, Outcome::Abandoned];

    const fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Miss => "miss",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Abandoned => "abandoned",
        }
    }
}

/// Why a connection was closed before it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// `CONNECTIONS_MAX` were open.
    Limit,
    /// The TLS handshake failed or took too long.
    Handshake,
}

impl Turned {
    const ALL: [Turned; 2] = [Turned::Limit, Turned::Handshake];

    const fn label(self) -> &'static str {
        match self {
            Turned::Limit => "connections_max",
            Turned::Handshake => "handshake",
        }
    }
}

/// One operation's numbers.
#[derive(Default)]
struct OperationCounts {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    latency: Latency,
}

/// All numbers of the door.
#[derive(Default)]
pub struct ServeMetrics {
    operations: [OperationCounts; Operation::ALL.len()],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_turned: [AtomicU64; Turned::ALL.len()],
    /// By the label of the `Refusal`; new labels go at the end.
    refusals: [AtomicU64; REFUSALS.len()],
}

/// The labels of `admission::Refusal`.
const REFUSALS: [&str; 7] =
    ["foreign", "anonymous", "wrong_credentials", "malformed_credentials", "read_only", "elsewhere", "busy"];

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A request that is being served. Dropped unfinished, it was abandoned.
pub struct Timed<'a> {
    counts: &'a OperationCounts,
    begun: Instant,
    outcome: Outcome,
}

impl Timed<'_> {
    /// It is answered, with this.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.counts.record(self.outcome, self.begun.elapsed());
    }
}

impl OperationCounts {
    fn record(&self, outcome: Outcome, took: Duration) {
        add(&self.outcomes[outcome as usize], 1);
        self.latency.record(took);
    }
}

impl ServeMetrics {
    /// Begins to time a request.
    pub fn begin(&self, operation: Operation) -> Timed<'_> {
        let counts = &self.operations[operation as usize];
        Timed { counts, begun: Instant::now(), outcome: Outcome::Abandoned }
    }

    /// Bytes of blobs and results came in over HTTP, as they were sent.
    pub fn received(&self, bytes: u64) {
        add(&self.received_bytes, bytes);
    }

    /// Bytes of blobs and results went out over HTTP, as they were sent.
    pub fn sent(&self, bytes: u64) {
        add(&self.sent_bytes, bytes);
    }

    /// A request was not admitted. The label is `Refusal::label`.
    pub fn refused(&self, label: &str) {
        if let Some(index) = REFUSALS.iter().position(|known| *known == label) {
            add(&self.refusals[index], 1);
        }
    }

    /// A connection is served from now on.
    pub fn connection_opened(&self) {
        add(&self.connections_accepted, 1);
        add(&self.connections_open, 1);
    }

    /// It is over.
    pub fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was closed before it was served.
    pub fn connection_turned(&self, why: Turned) {
        add(&self.connections_turned[why as usize], 1);
    }

    /// How many connections were closed before they were served.
    pub fn connections_turned(&self, why: Turned) -> u64 {
        read(&self.connections_turned[why as usize])
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> u64 {
        read(&self.connections_open)
    }

    /// Writes all of it.
    pub fn expose(&self, out: &mut Exposition) {
        self.expose_requests(out);
        self.expose_latency(out);
        self.expose_bytes(out);
        self.expose_connections(out);
    }

    fn expose_requests(&self, out: &mut Exposition) {
        out.family("kache_http_requests_total", Kind::Counter, "HTTP requests by operation and outcome.");
        for operation in Operation::ALL {
            let counts = &self.operations[operation as usize];
            for outcome in Outcome::ALL {
                let labels = [("operation", operation.label()), ("outcome", outcome.label())];
                out.sample("kache_http_requests_total", &labels, read(&counts.outcomes[outcome as usize]));
            }
        }
        let name = "kache_requests_not_admitted_total";
        out.family(name, Kind::Counter, "Requests refused at the door, over HTTP and gRPC.");
        for (reason, counter) in REFUSALS.iter().zip(&self.refusals) {
            out.sample(name, &[("reason", reason)], read(counter));
        }
    }

    fn expose_latency(&self, out: &mut Exposition) {
        let name = "kache_http_request_duration_seconds";
        out.family(name, Kind::Histogram, "Time from an HTTP request to the beginning of its answer.");
        for operation in Operation::ALL {
            let latency = &self.operations[operation as usize].latency;
            latency.expose(out, name, ("operation", operation.label()));
        }
    }

    fn expose_bytes(&self, out: &mut Exposition) {
        let (received, sent) = (read(&self.received_bytes), read(&self.sent_bytes));
        out.single(
            "kache_http_received_bytes_total",
            Kind::Counter,
            "Bytes of HTTP uploads, as sent.",
            received,
        );
        out.single("kache_http_sent_bytes_total", Kind::Counter, "Bytes of HTTP downloads, as sent.", sent);
    }

    fn expose_connections(&self, out: &mut Exposition) {
        out.family("kache_connections", Kind::Gauge, "Connections that are open.");
        out.sample("kache_connections", &[], self.connections_open());
        out.family("kache_connections_total", Kind::Counter, "Connections that were served.");
        out.sample("kache_connections_total", &[], read(&self.connections_accepted));
        let name = "kache_connections_turned_away_total";
        out.family(name, Kind::Counter, "Connections that were closed unserved.");
        for why in Turned::ALL {
            out.sample(name, &[("reason", why.label())], self.connections_turned(why));
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
        for (index, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, index, "{operation:?}");
        }
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index, "{outcome:?}");
        }
    }

    #[test]
    fn what_happened_is_counted() {
        let metrics = ServeMetrics::default();
        metrics.begin(Operation::GetBlob).finish(Outcome::Ok);
        metrics.begin(Operation::GetBlob).finish(Outcome::Miss);
        drop(metrics.begin(Operation::PutBlob));
        let counts = &metrics.operations[Operation::GetBlob as usize];
        counts.record(Outcome::Ok, Duration::from_millis(2));
        counts.record(Outcome::Ok, Duration::from_secs(60));
        metrics.received(7);
        metrics.refused("foreign");
        metrics.connection_opened();
        metrics.connection_opened();
        metrics.connection_closed();
        metrics.connection_turned(Turned::Limit);
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
        use crate::daemon::serve::admission::Refusal;
        use crate::daemon::serve::credentials::Busy;
        use crate::daemon::serve::host_guard::Foreign;
        for refusal in [
            Refusal::Foreign(Foreign::NoHost { port: 1 }),
            Refusal::Anonymous { certificates: false },
            Refusal::Wrong,
            Refusal::Malformed(""),
            Refusal::ReadOnly,
            Refusal::Elsewhere { path: String::new() },
            Refusal::Busy(Busy),
        ] {
            assert!(REFUSALS.contains(&refusal.label()), "{refusal:?}");
        }
    }
}
