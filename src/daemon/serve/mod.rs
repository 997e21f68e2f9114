//! The store's door for other programs: the Bazel remote cache protocol over gRPC and HTTP.

pub mod accept;
pub mod admission;
pub mod auth;
pub mod context;
pub mod credentials;
pub mod download;
pub mod encodings;
pub mod exposition;
pub mod host_guard;
pub mod http;
pub mod http_path;
pub mod http_reply;
pub mod limits;
pub mod listen;
pub mod meters;
pub mod metrics;
pub mod pages;
pub mod range;
pub mod status;
pub mod stream;
pub mod tls;
pub mod tokens;
pub mod upload;
pub mod validity;

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod listen_tests;
#[cfg(test)]
mod testing;

pub use context::{Backend, Context, Shared};
pub use limits::Limits;
