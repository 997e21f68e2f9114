//! `kache verify`: stored actions are compiled once more, and what comes out is compared.
//!
//! The daemon says what to run and compares, since the store is its own; the compiler is this
//! process's child, one at a time, and writes into a directory of its own. What is looked at
//! are actions on record, in checkouts that are still as they were.

mod choose;
mod command;
mod page;
mod verifier;

pub(super) use command::run;
