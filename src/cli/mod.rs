//! The command line: one file a command.

mod args;
mod config;
mod daemon;
mod exit_codes;
mod failure;
mod output;
mod run;
mod starter;

pub use args::command;
pub use exit_codes::{ALL as EXIT_CODES, ExitStatus};
pub use run::main;
