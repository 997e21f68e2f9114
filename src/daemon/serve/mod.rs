//! The store's door for other programs: the Bazel remote cache protocol over gRPC and HTTP.

pub mod admission;
pub mod auth;
pub mod context;
pub mod credentials;
pub mod host_guard;
pub mod http_path;
pub mod limits;
pub mod meters;
pub mod range;
pub mod status;
pub mod stream;
pub mod tls;
pub mod tokens;
pub mod validity;

pub use context::{Backend, Context, Shared};
pub use limits::Limits;
