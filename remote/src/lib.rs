//! Caches on other machines, and how kache reads and writes them.
//!
//! [`Remote`] is the trait of all of them. The crate knows digests, bytes and the messages of the Remote
//! Execution API. It knows no compiler, no configuration file and no local store: the caller verifies what
//! a remote returns and stores it.

mod dir;
mod error;
pub mod memory;
mod options;
mod reapi;
mod remote;
mod tls;
mod uuid;
mod zstd_blob;

pub use dir::DirRemote;
pub use error::RemoteError;
pub use options::{
    Authentication, Compression, OptionsError, RemoteLimits, RemoteOptions, S3Options, Secret, TlsIdentity,
    TlsOptions,
};
pub use reapi::{ReapiLocation, ReapiRemote};
pub use remote::{BlobStream, Capabilities, Remote, RequestContext};
