//! Caches on other machines, and how kache reads and writes them.
//!
//! [`Remote`] is the trait of all of them. The crate knows digests, bytes and the messages of the Remote
//! Execution API. It knows no compiler, no configuration file and no local store: the caller verifies what
//! a remote returns and stores it.

mod aws_credentials;
mod aws_metadata;
mod aws_profile;
mod aws_signature;
mod blob_reader;
mod decompression;
mod dir;
mod error;
mod failure;
mod http;
mod http_client;
mod http_connector;
mod http_headers;
mod known_blobs;
mod location;
pub mod memory;
mod objects;
mod open;
mod options;
mod pace;
mod reapi;
mod remote;
mod s3;
mod s3_error;
mod tls;
mod token_source;
mod upload_body;
mod uuid;

pub use dir::DirRemote;
pub use error::RemoteError;
pub use location::{HttpLocation, Location, LocationError, ReapiLocation, S3Location};
pub use objects::ObjectRemote;
pub use open::{check, open};
pub use options::{
    Authentication, Compression, OptionsError, RemoteLimits, RemoteOptions, S3Options, Secret, TlsIdentity,
    TlsOptions, TokenCommand,
};
pub use reapi::ReapiRemote;
pub use remote::{BlobStream, Capabilities, Remote, RequestContext};

pub use uuid::random as random_uuid;

#[cfg(test)]
mod tests;
