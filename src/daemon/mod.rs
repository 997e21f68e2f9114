//! The daemon: one process that owns the store and answers for it.

pub mod serve;
