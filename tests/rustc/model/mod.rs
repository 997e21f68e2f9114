//! Workspaces that are changed at random, built through kache and without it.
//!
//! Whatever was changed, moved, removed or swapped, in whichever worktree: what cargo says,
//! what programs print and what cargo takes for fresh is what it would be without kache. The
//! sequence follows from a seed, which a failure prints.

mod asks;
mod class;
mod files;
mod meddling;
mod moves;
mod order;
mod pair;
mod part;
mod plan;
mod random;
mod run;
mod shrink;
mod sources;
mod world;
