//! The entry point of the engine's command line: from argv to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use kache_client::EMBEDDED_COMMAND;

use super::args::{Cli, Command};
use super::exit_codes::{ExitStatus, OK, USAGE};
use super::failure::Failure;
use super::{
    config, daemon, diff, doctor, embedded, explain, init, output, report, stats, sync, verify, why_miss,
};

/// Parses the arguments of this process, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    // The client starts the engine with this word for one compile without a daemon. What
    // follows are the compiler's arguments, which clap must not see.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == EMBEDDED_COMMAND) {
        return embedded::run(&words.collect::<Vec<_>>());
    }
    let status = match Cli::try_parse() {
        Ok(cli) => dispatch(cli).unwrap_or_else(|failure| print_failure(&failure)),
        Err(error) => print_help(&error),
    };
    ExitCode::from(status.code)
}

fn dispatch(cli: Cli) -> Result<ExitStatus, Failure> {
    match cli.command {
        Command::Daemon(args) => daemon::run(args),
        Command::Config(args) => config::run(args),
        Command::Report(args) => report::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::WhyMiss(args) => why_miss::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Prints help and version to standard output, and errors of usage to standard error.
fn print_help(error: &clap::Error) -> ExitStatus {
    // The reader may have closed the pipe.
    let _ = error.print();
    if error.use_stderr() { USAGE } else { OK }
}

fn print_failure(failure: &Failure) -> ExitStatus {
    output::message(&format!("kache: {}", failure.message));
    for hint in &failure.hints {
        output::message(&format!("hint: {hint}"));
    }
    failure.status
}
