//! The two pages: `/status`, as JSON for people and scripts, and `/metrics`, for Prometheus.
//!
//! They show numbers of the store and of the metrics. Texts that name files of this machine are
//! shown to the user of the daemon only, and not over the network.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use kache_cas::{Counters, StoreStatus};
use serde::Serialize;

use super::context::RequestContext;
use super::exposition::{self, Exposition, MetricKind};
use super::http_response::{self as response, HttpResponse};

/// The JSON of `/status`. Fields are added and never renamed, because scripts read it.
#[derive(Debug, Serialize)]
struct StatusPage {
    version: &'static str,
    server_time_unix_seconds: u64,
    physical_bytes: u64,
    logical_bytes: u64,
    limit_bytes: u64,
    blobs: u64,
    action_results: u64,
    draining: bool,
    /// The problems of the store; absent over the network, where only the count is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    troubles: Option<Vec<String>>,
    trouble_count: usize,
}

/// Responds with the `/status` page.
pub fn status(context: &RequestContext, status: StoreStatus) -> HttpResponse {
    let StoreStatus { physical_bytes, logical_bytes, limit_bytes, blobs, action_results, troubles } = status;
    let server_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        server_time_unix_seconds: server_time.as_secs(),
        physical_bytes,
        logical_bytes,
        limit_bytes,
        blobs,
        action_results,
        draining: context.draining.has_begun(),
        trouble_count: troubles.len(),
        troubles: context.peer.is_this_user().then_some(troubles),
    };
    let mut json = serde_json::to_string_pretty(&page).expect("numbers and strings have a JSON form");
    json.push('\n');
    response::whole(StatusCode::OK, "application/json", json)
}

/// Responds with the `/metrics` page.
pub fn metrics(context: &RequestContext, status: &StoreStatus, counters: &Counters) -> HttpResponse {
    let mut out = Exposition::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("kache_build_info", MetricKind::Gauge, "The version that is running.");
    out.sample("kache_build_info", &version, 1);
    store_status(&mut out, status);
    store_counters(&mut out, counters);
    grpc_requests(&mut out, context);
    context.shared.metrics.expose(&mut out);
    response::whole(StatusCode::OK, exposition::CONTENT_TYPE, out.finish())
}

fn store_status(out: &mut Exposition, status: &StoreStatus) {
    let StoreStatus { physical_bytes, logical_bytes, limit_bytes, blobs, action_results, troubles } = status;
    for (name, help, value) in [
        ("kache_store_physical_bytes", "What the store occupies on its volume.", *physical_bytes),
        ("kache_store_logical_bytes", "The sum of the blobs' sizes.", *logical_bytes),
        ("kache_store_limit_bytes", "What the store may occupy.", *limit_bytes),
        ("kache_store_blobs", "Blobs in the store.", *blobs),
        ("kache_store_action_results", "Action results in the store, by estimate.", *action_results),
        ("kache_store_troubles", "Things that are wrong with the store.", troubles.len() as u64),
    ] {
        out.single(name, MetricKind::Gauge, help, value);
    }
}

fn store_counters(out: &mut Exposition, counters: &Counters) {
    for (name, help, value) in [
        ("kache_action_hits_total", "Action results asked for and served.", counters.action_hits),
        ("kache_action_misses_total", "Action results asked for and not there.", counters.action_misses),
        ("kache_actions_incomplete_total", "Results that named a missing blob.", counters.actions_incomplete),
        ("kache_action_puts_total", "Action results stored.", counters.action_puts),
        ("kache_blob_hits_total", "Blobs opened for reading.", counters.blob_hits),
        ("kache_blob_misses_total", "Blobs asked for and not there.", counters.blob_misses),
        ("kache_blob_out_bytes_total", "The sizes of the blobs opened for reading.", counters.blob_bytes_out),
        ("kache_blob_puts_total", "Blobs stored.", counters.blob_puts),
        ("kache_blob_in_bytes_total", "The sizes of the blobs stored.", counters.blob_bytes_in),
        ("kache_presence_checks_total", "Digests whose presence was asked for.", counters.presence_checks),
        ("kache_presence_missing_total", "Digests said to be missing.", counters.presence_missing),
        ("kache_store_refused_total", "Blobs and results refused as bad data.", counters.refused),
        ("kache_store_no_space_total", "Writes that found no room.", counters.no_space),
        ("kache_store_damaged_total", "Blobs found damaged.", counters.damaged),
        ("kache_store_failures_total", "Store operations that failed otherwise.", counters.failures),
        ("kache_actions_evicted_total", "Action results evicted.", counters.actions_evicted),
        ("kache_blobs_evicted_total", "Blobs evicted.", counters.blobs_evicted),
        ("kache_evicted_bytes_total", "Physical bytes freed by eviction.", counters.bytes_evicted),
    ] {
        out.single(name, MetricKind::Counter, help, value);
    }
}

fn grpc_requests(out: &mut Exposition, context: &RequestContext) {
    let name = "kache_grpc_requests_total";
    out.family(name, MetricKind::Counter, "gRPC requests by method and code.");
    for (method, code, count) in context.shared.grpc_metrics.snapshot() {
        let code = format!("{code:?}");
        out.sample(name, &[("method", method.name()), ("code", &code)], count);
    }
    let name = "kache_grpc_request_duration_seconds";
    out.family(name, MetricKind::Histogram, "Time from a gRPC request to the beginning of its response.");
    for (method, latency) in context.shared.grpc_metrics.latencies() {
        latency.expose(out, name, ("method", method.name()));
    }
}
