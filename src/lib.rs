//! kache: a build cache for compilers, and a server of the Bazel remote cache protocol.

pub mod config;
pub mod daemon;
