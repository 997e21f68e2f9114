//! `kache-bench store`: measures the cells, a large store, and the ingest of local files, in this order.

mod ingest;
mod many;
mod run;

pub(crate) use run::run;
