//! kache's server: serves a store to other programs by the Bazel remote cache protocol, over gRPC
//! and HTTP.
//!
//! [`bind`] binds the TCP addresses of [`ListenOptions`], or says why they may not be served.
//! [`serve`] then serves a store on them, and on a Unix socket. `accept` takes connections,
//! `protocol_router` drives each of them and hands its requests to the handlers.
//!
//! The crate knows the store's traits and the wire messages. It knows no configuration file, no
//! compile and nothing of the program that runs it but what `program` says.

pub mod accept;
mod action_cache;
pub mod admission;
pub mod auth;
mod authority;
pub mod batched_writes;
mod bytestream;
mod bytestream_write;
mod capabilities;
mod cas;
pub mod connection_threads;
pub mod context;
pub mod credentials;
pub mod download;
pub mod encodings;
pub mod exposition;
mod file_version;
pub mod grpc_metrics;
mod grpc_response;
mod health;
pub mod host_guard;
pub mod http;
pub mod http_path;
pub mod http_response;
mod inline;
pub mod latency;
pub mod limits;
pub mod listen;
mod listen_address;
mod message;
pub mod metrics;
mod offload;
pub mod options;
pub mod pages;
pub mod program;
pub mod protocol_router;
pub mod range;
mod request_metadata;
pub mod resource_name;
mod results;
pub mod server;
pub mod status;
pub mod stream;
pub mod tls;
pub mod tokens;
mod traffic;
mod tree;
pub mod upload;
pub mod validity;
mod wire_digest;
mod zstd_blob;

#[cfg(test)]
mod tests;

pub use context::Backend;
pub use listen::{Bound, ListenError, bind};
pub use listen_address::{AddressError, ListenAddress};
pub use options::{ListenOptions, MetricsAddress, TlsOptions};
pub use program::{ActivityCounter, DrainSignal};
pub use server::serve;
