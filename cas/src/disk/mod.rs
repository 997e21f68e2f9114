//! The store on disk: the index and small blobs in RocksDB, larger blobs in files.
//!
//! One process has one directory open. `layout` knows the paths and takes the lock, `format`
//! decides whether a store is read, refused or set aside, `database` knows RocksDB's options,
//! `record` the bytes of its values. `store` puts them together. Callers use it through `reader`,
//! `writer`, `actions`, `ingest` and `place`; eviction uses it through `catalog`. Nothing here
//! knows which blobs an action result names, so completeness and eviction are decided elsewhere.
//!
//! Invariants: a blob is not visible before it is whole (STO-01), an error is never taken for
//! absence (STO-08), and space is counted before it is used (STO-06).

mod actions;
mod catalog;
mod commit;
mod compact;
mod database;
mod epochs;
mod format;
mod ingest;
mod layout;
mod ledger;
mod link;
mod locks;
mod place;
mod reader;
mod reap;
mod record;
mod store;
mod uses;
mod verify;
mod writer;

pub use store::{DiskCounters, DiskSettings, DiskStore};
