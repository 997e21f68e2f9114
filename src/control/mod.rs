//! The async end of the control protocol, for the daemon. The messages, the frames and the blocking
//! end are in `kache_client::control`.

mod connection;

pub use connection::{FrameReader, Incoming, READ_BYTES, ReplyWriter, WRITE_WAIT_MAX, incoming, outgoing};
