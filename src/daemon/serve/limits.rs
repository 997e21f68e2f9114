//! Every limit of the served protocols, by name and with its reason.
//!
//! Values only; whoever enforces one repeats its name in the message, so that the person at
//! the other end knows which number it was. `Limits::default()` is what a daemon uses; tests
//! use smaller ones.

use std::time::Duration;

use kache_cas::composed::BLOB_BYTES_MAX_DEFAULT;

/// What batch methods carry together, as the capabilities advertise it. Clients' gRPC
/// libraries refuse messages above 4,194,304 bytes; the rest is room for digests and frames.
pub const BATCH_BYTES_MAX: u64 = 4_000_000;

/// The limits of one daemon.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `max_batch_total_size_bytes`: the blobs of one batch together, in one direction.
    pub batch_bytes_max: u64,
    /// What a batch of compressed blobs may become when decompressed, together. Clients
    /// disagree about whether `max_batch_total_size_bytes` counts before or after
    /// compression; this admits both and still bounds memory.
    pub batch_decompressed_bytes_max: u64,
    /// How many blobs one batch may name. A full batch of digests fits `message_bytes_max`
    /// with room; what it bounds is how long one request may keep a worker busy.
    pub batch_blobs_max: usize,
    /// The largest message that is read at all. Above `batch_bytes_max`, so that a batch
    /// that is too large is told so by name and not cut off.
    pub message_bytes_max: usize,
    /// What messages above [`Limits::MESSAGE_BYTES_UNBUDGETED`], and all of an upload, may
    /// occupy together, over all connections, coming and going.
    pub messages_in_memory_bytes_max: usize,
    /// The largest blob that is taken in: what the store takes, which checks it once more.
    pub blob_bytes_max: u64,
    /// The largest action result that is taken in: it must fit one message going out.
    pub action_result_bytes_max: usize,
    /// How many directories `GetTree` walks for one request.
    pub tree_directories_max: usize,
    /// How many requests one connection may have open. Build tools open hundreds.
    pub streams_per_connection_max: u32,
    /// All headers of one HTTP/2 request, decoded. Tokens and request metadata fit many times.
    pub header_bytes_max: u32,
    /// How long a new connection may take to send its first request, and an HTTP/1.1
    /// connection to send the next head.
    pub header_wait_max: Duration,
    /// How long a client may send nothing in the middle of an upload, or take nothing in
    /// the middle of a download.
    pub stream_idle_max: Duration,
    /// How long a connection may stay open with nothing going on. Build daemons keep theirs
    /// between builds and reconnect without being noticed.
    pub connection_idle_max: Duration,
    /// How long open requests may take once the daemon wants to leave.
    pub drain_max: Duration,
}

impl Limits {
    /// Messages up to this are not counted against `messages_in_memory_bytes_max`.
    pub const MESSAGE_BYTES_UNBUDGETED: usize = 64 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
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

    /// What gRPC libraries accept unless told otherwise.
    const CLIENT_MESSAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

    #[test]
    fn what_is_advertised_fits_what_clients_accept_and_what_is_read() {
        let limits = Limits::default();
        assert!(limits.batch_bytes_max > 0 && limits.batch_bytes_max < CLIENT_MESSAGE_BYTES_MAX);
        assert!((limits.action_result_bytes_max as u64) < CLIENT_MESSAGE_BYTES_MAX);
        assert!(limits.message_bytes_max as u64 > limits.batch_bytes_max);
        assert!(limits.messages_in_memory_bytes_max > 8 * limits.message_bytes_max);
    }
}
