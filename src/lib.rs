//! kache: a build cache for compilers, and a server of the Bazel remote cache protocol.
//!
//! A compiler call passes through `compiler` (parse, gather inputs), `action` (the key), `lookup`, and
//! then either `restore` or `compile` and `publish`. `pipeline` runs these stages, `builds` remembers what
//! one call of a build tells about the next, `daemon` runs both for many clients, and `cli` is the
//! command line. `ARCHITECTURE.md` has the map.

pub mod action;
pub mod builds;
pub mod cargo;
pub mod cli;
pub mod compile;
pub mod compiler;
pub mod config;
pub mod control;
pub mod daemon;
pub mod events;
pub mod explain;
pub mod inputs;
pub mod invocation;
pub mod lookup;
pub mod observer;
pub mod outputs;
pub mod pipeline;
pub mod progress;
pub mod publish;
pub mod remote;
pub mod restore;
pub mod roles;
pub mod seeds;
pub mod shared;
