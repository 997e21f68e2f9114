//! `kache verify`: compiles stored actions again and compares the outputs with the stored ones.
//!
//! The daemon owns the store, so it derives the compiler call from the action and compares the
//! outputs. This process runs the compilers, one at a time, into a directory of its own. Only
//! actions of the event log are verified, in checkouts that are still as they were.

mod choose;
mod command;
mod page;
mod verifier;

pub(super) use command::run;
