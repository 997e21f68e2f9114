//! The store's door for other programs: the Bazel remote cache protocol over gRPC and HTTP.

pub mod accept;
mod action_cache;
pub mod admission;
pub mod attentive;
pub mod auth;
mod authority;
mod bytestream;
mod bytestream_write;
mod capabilities;
mod cas;
pub mod coalesce;
pub mod context;
pub mod credentials;
pub mod door;
pub mod download;
pub mod encodings;
pub mod exposition;
mod health;
pub mod host_guard;
pub mod http;
pub mod http_path;
pub mod http_reply;
mod inline;
pub mod lanes;
pub mod latency;
pub mod limits;
pub mod listen;
mod message;
pub mod meters;
pub mod metrics;
mod offload;
pub mod pages;
pub mod range;
mod reply;
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
mod door_tests;
#[cfg(test)]
mod grpc_testing;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod listen_tests;
#[cfg(test)]
mod testing;

pub use context::{Backend, Context, Shared};
pub use limits::Limits;
