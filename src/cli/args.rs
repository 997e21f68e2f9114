//! The arguments as they are written. Parsing checks their form and does nothing else.

use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::{Kind, Value};

/// A build cache for rustc and C/C++ compilers, and a server of the Bazel remote cache protocol
#[derive(Debug, Parser)]
#[command(name = "kache", bin_name = "kache", version, max_term_width = 100, infer_subcommands = false)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look after the daemon, which owns the store and serves it
    Daemon(DaemonArgs),
    /// Show what kache is told, and by whom
    Config(ConfigArgs),
    /// Show what compiler calls did. Starts nothing and changes nothing
    Report(ReportArgs),
    /// Show what the cache is worth, what it occupies and what goes past it
    Stats(StatsArgs),
    /// Say why a crate was compiled: what changed, old and new
    WhyMiss(WhyMissArgs),
    /// Print an action: what it runs, and its tree of inputs
    Explain(ExplainArgs),
    /// Print how two actions differ
    Diff(DiffArgs),
    /// Compile stored actions once more, and see that they come out the same
    Verify(VerifyArgs),
    /// Have cargo call kache, by one line in cargo's own configuration
    Init(InitArgs),
    /// Find out what is wrong, if anything is
    Doctor(DoctorArgs),
}

#[derive(Args, Debug)]
#[command(disable_help_subcommand = true)]
pub(super) struct DaemonArgs {
    #[command(subcommand)]
    pub(super) command: Option<DaemonCommand>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DaemonCommand {
    /// Show how it is; the default. Starts nothing and changes nothing
    Status(StatusArgs),
    /// Run it here, until it is stopped
    Run(RunArgs),
    /// Start it in the background, unless it runs
    Start,
    /// Let it finish what is under way, and leave
    Stop,
    /// Stop it and start it again, with the configuration of now
    Restart,
    /// Show the end of its log
    Log(LogArgs),
}

#[derive(Args, Debug, Default)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Leave the caller behind; everything is read from the environment
    #[arg(long, hide = true)]
    pub(super) detach: bool,
}

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// How many lines
    #[arg(short = 'n', long, default_value_t = 100, value_name = "COUNT")]
    pub(super) lines: usize,
    /// Print where the log is, and nothing else
    #[arg(long)]
    pub(super) path: bool,
}

#[derive(Args, Debug)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key with its value and where that came from
    List,
    /// Print one value
    Get(GetArgs),
    /// Print the commented defaults, to start a file from
    Default,
    /// Print the reference page, `docs/configuration.md`
    Docs,
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    /// A key, such as `cache.max_size`
    pub(super) key: String,
}

#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(super) format: ReportFormat,
    /// Only calls of so long ago and later, such as `90s`, `15m`, `2h` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub(super) since: Option<Duration>,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For a terminal: the latest calls, then what all of them add up to
    Text,
    /// Everything, as docs/report.schema.json says
    Json,
    /// For a pull request or a job summary
    Markdown,
}

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = StatsFormat::Text)]
    pub(super) format: StatsFormat,
    /// Only calls of so long ago and later, such as `90s`, `15m`, `2h` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub(super) since: Option<Duration>,
}

/// How numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatsFormat {
    /// For a terminal
    Text,
    /// For programs
    Json,
}

#[derive(Args, Debug)]
pub(super) struct WhyMissArgs {
    /// The crate, as `--crate-name` or the package says it
    #[arg(value_name = "CRATE")]
    pub(super) name: String,
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The action's digest, or the beginning of one that is on record
    #[arg(value_name = "DIGEST")]
    pub(super) digest: String,
}

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The earlier action's digest, or the beginning of one that is on record
    #[arg(value_name = "BEFORE")]
    pub(super) before: String,
    /// The later one's
    #[arg(value_name = "NOW")]
    pub(super) now: String,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// So many of those that are on record, chosen at random; the default, with 10
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "all"])]
    pub(super) sample: Option<usize>,
    /// Those of one crate
    #[arg(long = "crate", value_name = "CRATE", conflicts_with = "all")]
    pub(super) name: Option<String>,
    /// Every one that is on record
    #[arg(long)]
    pub(super) all: bool,
    /// Choose as an earlier sample did, which printed this number
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["name", "all"])]
    pub(super) seed: Option<u64>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = VerifyFormat::Text)]
    pub(super) format: VerifyFormat,
}

/// How a verification is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum VerifyFormat {
    /// For a terminal: each disagreement, then what it comes to
    Text,
    /// For programs
    Json,
}

fn since(text: &str) -> Result<Duration, String> {
    match Kind::Duration.read(text) {
        Some(Value::Duration(time)) => Ok(time),
        _ => Err(format!("expected {}", Kind::Duration.expected())),
    }
}

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Change it without asking
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Only show what would change; exit with 1 if anything would
    #[arg(long, conflicts_with = "yes")]
    pub(super) check: bool,
    /// Undo it
    #[arg(long)]
    pub(super) remove: bool,
}

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// Put right what can do no harm: make directories, start the daemon
    #[arg(long)]
    pub(super) fix: bool,
    /// Compile a small crate twice, and see that the second time is a hit
    #[arg(long)]
    pub(super) probe: bool,
}

/// The whole command line, for help pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
