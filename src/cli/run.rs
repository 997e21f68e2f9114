//! From argv to an exit code.

use std::process::ExitCode;

use clap::Parser as _;

use super::args::{Cli, Command};
use super::exit_codes::{ExitStatus, OK, USAGE};
use super::failure::Failure;
use super::{config, daemon, doctor, init, output, report, stats};

/// The whole of the engine's command line.
pub fn main() -> ExitCode {
    let status = match Cli::try_parse() {
        Ok(cli) => dispatch(cli).unwrap_or_else(|failure| report(&failure)),
        Err(error) => explain(&error),
    };
    ExitCode::from(status.code)
}

fn dispatch(cli: Cli) -> Result<ExitStatus, Failure> {
    match cli.command {
        Command::Daemon(args) => daemon::run(args),
        Command::Config(args) => config::run(args),
        Command::Report(args) => report::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Help that was asked for is data; anything else is talk.
fn explain(error: &clap::Error) -> ExitStatus {
    // Nobody may be there to read it.
    let _ = error.print();
    if error.use_stderr() { USAGE } else { OK }
}

fn report(failure: &Failure) -> ExitStatus {
    output::talk(&format!("kache: {}", failure.message));
    for hint in &failure.hints {
        output::talk(&format!("hint: {hint}"));
    }
    failure.status
}
