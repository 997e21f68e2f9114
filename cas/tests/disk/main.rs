//! Tests of the store on disk through its public traits.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod files;
mod killed;
mod opening;
mod pressure;
mod store;
mod support;
