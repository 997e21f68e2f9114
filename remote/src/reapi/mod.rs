//! Servers of the Remote Execution API, over gRPC.

mod batches;
mod capabilities;
mod connection;
mod connector;
mod liveness;
mod metadata;
mod missing;
mod names;
mod read_batch;
mod read_stream;
mod remote;
mod stall;
mod statuses;
mod write_batch;
mod write_stream;

pub use remote::ReapiRemote;
