//! The control protocol's async end. Messages, frames and the blocking end are the
//! client's; see `kache_client::control`.

mod connection;

pub use connection::{Incoming, Outgoing, READ_BYTES, Reader, WRITE_WAIT_MAX, incoming, outgoing};
