//! Configuration: what can be set, where it came from, and what it means.

pub mod serve;
