//! The command line as clap types. Parsing checks the form of the arguments and does nothing
//! else: it reads no file and no environment.
//!
//! The doc comments in here are what `--help` prints.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::{Value, ValueKind};

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
    /// Control the daemon, which owns the store and answers requests
    Daemon(DaemonArgs),
    /// Show the configuration and where each value comes from
    Config(ConfigArgs),
    /// Show what each compiler call did
    Report(ReportArgs),
    /// Show hit rate, time saved, the store's size and bypassed calls
    Stats(StatsArgs),
    /// Explain why a crate was compiled: what changed, before and after
    WhyMiss(WhyMissArgs),
    /// Print an action: its command, environment and inputs
    Explain(ExplainArgs),
    /// Show how two actions differ
    Diff(DiffArgs),
    /// Compile stored actions again and compare the outputs
    Verify(VerifyArgs),
    /// Copy results between the store and remotes
    Sync(SyncArgs),
    /// Make cargo call kache, by one line in cargo's configuration
    Init(InitArgs),
    /// Check the installation and name what is wrong
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
    /// Show the daemon's status (the default)
    Status(StatusArgs),
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Start the daemon in the background, unless it is running
    Start,
    /// Stop the daemon after the requests under way
    Stop,
    /// Stop the daemon and start it with the current configuration
    Restart,
    /// Show the end of the daemon's log
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
    /// Detach from the caller and read the settings from the environment only
    #[arg(long, hide = true)]
    pub(super) detach: bool,
}

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// Number of lines to show
    #[arg(short = 'n', long, default_value_t = 100, value_name = "COUNT")]
    pub(super) lines: usize,
    /// Print only the path of the log file
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
    /// List every key with its value and where the value comes from
    List,
    /// Print the value of one key
    Get(GetArgs),
    /// Print the commented defaults, a template for a configuration file
    Default,
    /// Print the reference page (docs/configuration.md)
    Docs,
}

#[derive(Args, Debug)]
pub(super) struct GetArgs {
    /// Name of a key, such as `cache.max_size`
    pub(super) key: String,
}

#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(super) format: ReportFormat,
    /// Only calls of this last period, such as `90s`, `15m`, `2h` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub(super) since: Option<Duration>,
}

/// The output formats of `kache report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For a terminal: the latest calls, then the totals
    Text,
    /// All data, as docs/report.schema.json describes it
    Json,
    /// For a pull request or a job summary
    Markdown,
}

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = StatsFormat::Text)]
    pub(super) format: StatsFormat,
    /// Only calls of this last period, such as `90s`, `15m`, `2h` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub(super) since: Option<Duration>,
}

/// The output formats of `kache stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatsFormat {
    /// For a terminal
    Text,
    /// For programs
    Json,
}

#[derive(Args, Debug)]
pub(super) struct WhyMissArgs {
    /// Name of the crate or of its package
    #[arg(value_name = "CRATE")]
    pub(super) name: String,
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// Digest of the action; for an action in the event log, its first digits
    #[arg(value_name = "DIGEST")]
    pub(super) digest: String,
}

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// Digest of the earlier action; for one in the event log, its first digits
    #[arg(value_name = "BEFORE")]
    pub(super) before: String,
    /// Digest of the later action
    #[arg(value_name = "NOW")]
    pub(super) now: String,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Verify N actions of the event log, chosen at random (the default, with N = 10)
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "all"])]
    pub(super) sample: Option<usize>,
    /// Verify the actions of one crate
    #[arg(long = "crate", value_name = "CRATE", conflicts_with = "all")]
    pub(super) name: Option<String>,
    /// Verify every action of the event log
    #[arg(long)]
    pub(super) all: bool,
    /// Choose the same sample as an earlier run, which printed this number
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["name", "all"])]
    pub(super) seed: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value_t = VerifyFormat::Text)]
    pub(super) format: VerifyFormat,
}

/// The output formats of `kache verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum VerifyFormat {
    /// For a terminal: each output that differs, then the totals
    Text,
    /// For programs
    Json,
}

fn since(text: &str) -> Result<Duration, String> {
    match ValueKind::Duration.read(text) {
        Some(Value::Duration(time)) => Ok(time),
        _ => Err(format!("expected {}", ValueKind::Duration.expected())),
    }
}

#[derive(Args, Debug)]
pub(super) struct SyncArgs {
    /// Fetch what the last builds of this workspace need, and upload nothing
    #[arg(long, conflicts_with_all = ["push", "all"])]
    pub(super) pull: bool,
    /// Finish the uploads that wait, and fetch nothing
    #[arg(long)]
    pub(super) push: bool,
    /// Upload every result of the store, also those that were uploaded before; fetch nothing
    #[arg(long, conflicts_with = "workspace")]
    pub(super) all: bool,
    /// Upload everything that the last builds of this workspace used
    #[arg(long, conflicts_with = "pull")]
    pub(super) workspace: bool,
    /// Only count what would be copied
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Path of the workspace's Cargo.toml; without it, the workspace of the current directory
    #[arg(long, value_name = "PATH")]
    pub(super) manifest_path: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Make the change without asking
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Only show the change; exit with 1 if there is one
    #[arg(long, conflicts_with = "yes")]
    pub(super) check: bool,
    /// Remove kache from cargo's configuration
    #[arg(long)]
    pub(super) remove: bool,
}

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// Fix what is safe to fix: create directories, start the daemon
    #[arg(long)]
    pub(super) fix: bool,
    /// Compile a small crate twice and check that the second compile is a hit
    #[arg(long)]
    pub(super) probe: bool,
}

/// Returns the command line as clap knows it, for help pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
