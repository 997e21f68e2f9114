//! Serves the store to other programs by the Bazel remote cache protocol, over gRPC and HTTP.
//!
//! `listen` binds the addresses, `accept` takes connections, `protocol_router` drives each of
//! them and hands its requests to the handlers. Compiles do not pass here.

pub mod accept;
mod action_cache;
pub mod admission;
pub mod auth;
mod authority;
pub mod batched_writes;
pub mod busy_poll;
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
mod message;
pub mod metrics;
mod offload;
pub mod pages;
pub mod protocol_router;
pub mod range;
mod request_metadata;
pub mod resource_name;
mod results;
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
mod action_cache_tests;
#[cfg(test)]
mod bytestream_tests;
#[cfg(test)]
mod cas_tests;
#[cfg(test)]
mod grpc_testing;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod listen_tests;
#[cfg(test)]
mod protocol_router_tests;
#[cfg(test)]
mod testing;

pub use context::{Backend, RequestContext, ServerState};
pub use limits::ServeLimits;
