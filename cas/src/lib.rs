//! The store of one cache directory: blobs by digest and action results by action.
//!
//! Start at [`composed::Store`], which is what a daemon opens; it is made of the traits in
//! `store`, their implementation in `disk`, and decorators with one duty each. `evict` keeps
//! the store below its limit.
//!
//! The crate knows no compiler, no network and no configuration file: limits, clocks and paths
//! are passed in. Of the other crates it depends only on the wire messages (`kache-proto`).

mod cached;
pub mod clock;
pub mod completeness;
pub mod composed;
pub mod digest;
pub mod disk;
pub mod encoding;
mod error;
pub mod evict;
pub mod leases;
pub mod memory;
pub mod metering;
pub mod presence;
pub mod references;
pub mod room;
pub mod shared_computation;
mod store;
pub mod verify;

pub use cached::read_if_cached;
pub use composed::{Maintenance, Store, StoreSettings};
pub use digest::{BlobNames, Digest, DigestError, DigestFunction, Hash, Hasher};
pub use error::{StoreError, with_causes};
pub use metering::Counters;
pub use store::{
    AccessKind, ActionCache, ActionKey, BlobStore, BlobWriter, Content, FETCHED, FileStamp, Link, LinkedFile,
    LocalFiles, MADE_HERE, PROMISE_LEASE, PULLED, PlaceOptions, Sharing, StoreStatus, StoredResult,
};
