//! The arguments as they are written. Parsing checks their form and does nothing else.

use clap::{Args, CommandFactory as _, Parser, Subcommand};

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

/// The whole command line, for help pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
