//! The command line of the engine, with one file for each command.
//!
//! Commands read the configuration, ask the daemon or read the event log, and print. They hold
//! no logic of the cache itself. Standard output carries data, standard error everything else.

mod args;
mod blobs;
mod cargo_config;
mod config;
mod daemon;
mod diff;
mod doctor;
mod embedded;
mod exit_codes;
mod explain;
mod failure;
mod init;
mod moment;
mod output;
mod report;
mod run;
mod starter;
mod stats;
mod sync;
mod verify;
mod why_miss;

pub use args::command;
pub use exit_codes::{ALL as EXIT_CODES, ExitStatus};
pub use run::main;
