//! kache: a build cache for compilers, and a server of the Bazel remote cache protocol.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
