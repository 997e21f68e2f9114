//! The store on disk: RocksDB for what is small, files for what is not.
//!
//! One directory, one process. `layout` says where things lie and takes the lock, `format`
//! decides whether a store is read, refused or set aside, `database` knows RocksDB's
//! options, `record` the bytes of its values. `store` puts them together; `reader`,
//! `writer`, `actions`, `ingest` and `place` are what callers see of it; `catalog` is what
//! eviction sees. Nothing here knows what an action result names: completeness and
//! eviction are decided elsewhere.
//!
//! Invariants: nothing is visible before it is whole (STO-01), an error is never taken for
//! absence (STO-08), and what is on the disk is counted before it is written (STO-06).

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
