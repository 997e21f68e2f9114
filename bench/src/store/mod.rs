//! `kache-bench store`: the cells, the large store, and local files, in this order.

mod ingest;
mod many;
mod run;

pub(crate) use run::run;
