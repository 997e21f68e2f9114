//! Every limit of the served protocols, with its name and its reason.
//!
//! This file holds values only. Code that enforces a limit repeats its name in the error message,
//! so that the user of the client knows which limit was exceeded. The daemon uses
//! `ServeLimits::default()`; tests use smaller limits.

use std::time::Duration;

use kache_cas::composed::BLOB_BYTES_MAX_DEFAULT;

/// The blobs of one batch together, in bytes, as the capabilities advertise it. The gRPC libraries
/// of clients refuse messages above 4,194,304 bytes; the difference is room for digests.
pub const BATCH_BYTES_MAX: u64 = 4_000_000;

/// The limits of the served protocols.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// `max_batch_total_size_bytes`: the blobs of one request or response together.
    pub batch_bytes_max: u64,
    /// The decompressed blobs of one batch together. Clients
    /// disagree about whether `max_batch_total_size_bytes` counts before or after
    /// compression; this admits both and still bounds memory.
    pub batch_decompressed_bytes_max: u64,
    /// How many blobs one batch may name. A full batch of digests fits `message_bytes_max`
    /// with room; this bounds how long one request may keep a thread busy.
    pub batch_blobs_max: usize,
    /// The largest message that is read at all. It is above `batch_bytes_max`, so that a batch
    /// that is too large is refused with the name of that limit.
    pub message_bytes_max: usize,
    /// The memory that messages above [`ServeLimits::MESSAGE_BYTES_UNBUDGETED`] and all messages of
    /// uploads occupy together, over all connections, in both directions.
    pub messages_in_memory_bytes_max: usize,
    /// The largest blob that is accepted: the limit of the store, which checks it again.
    pub blob_bytes_max: u64,
    /// The largest action result that is accepted: it must fit one message of a response.
    pub action_result_bytes_max: usize,
    /// How many directories `GetTree` reads for one request.
    pub tree_directories_max: usize,
    /// How many requests may be open on one connection. Build tools open hundreds.
    pub streams_per_connection_max: u32,
    /// All headers of one HTTP/2 request, decoded. Tokens and request metadata are much smaller.
    pub header_bytes_max: u32,
    /// How long a new connection may take to send its first request, and an HTTP/1.1
    /// connection to send the next head.
    pub header_wait_max: Duration,
    /// How long a client may send nothing during an upload, or read nothing during a download.
    pub stream_idle_max: Duration,
    /// How long a connection may stay open without a request. Daemons of build tools keep theirs
    /// between builds, and reconnect if it was closed.
    pub connection_idle_max: Duration,
    /// How long open requests may take once draining has begun.
    pub drain_max: Duration,
}

impl ServeLimits {
    /// Messages of up to this many bytes are not counted against `messages_in_memory_bytes_max`.
    pub const MESSAGE_BYTES_UNBUDGETED: usize = 64 * 1024;
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            batch_bytes_max: BATCH_BYTES_MAX,
            batch_decompressed_bytes_max: 32 * 1024 * 1024,
            batch_blobs_max: 65_536,
            message_bytes_max: 8 * 1024 * 1024,
            messages_in_memory_bytes_max: 512 * 1024 * 1024,
            blob_bytes_max: BLOB_BYTES_MAX_DEFAULT,
            action_result_bytes_max: 4_000_000,
            tree_directories_max: 1_000_000,
            streams_per_connection_max: 1_024,
            header_bytes_max: 32 * 1024,
            header_wait_max: Duration::from_secs(60),
            stream_idle_max: Duration::from_secs(120),
            connection_idle_max: Duration::from_secs(30 * 60),
            drain_max: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest message that gRPC libraries accept by default.
    const CLIENT_MESSAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

    #[test]
    fn advertised_limits_fit_what_clients_accept_and_what_is_read() {
        let limits = ServeLimits::default();
        assert!(limits.batch_bytes_max > 0 && limits.batch_bytes_max < CLIENT_MESSAGE_BYTES_MAX);
        assert!((limits.action_result_bytes_max as u64) < CLIENT_MESSAGE_BYTES_MAX);
        assert!(limits.message_bytes_max as u64 > limits.batch_bytes_max);
        assert!(limits.messages_in_memory_bytes_max > 8 * limits.message_bytes_max);
    }
}
