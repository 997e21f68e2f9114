//! The command line, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cells::CELLS;
use crate::rounds::Plan;
use crate::server::{Kind, Programs, Storage};

/// Measures kache.
#[derive(Debug, Parser)]
#[command(name = "kache-bench", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The store and its server against bazel-remote, in one table.
    Store(StoreOptions),
}

/// What can be said about the store's benchmark.
#[derive(Args, Debug)]
pub(crate) struct StoreOptions {
    /// Fewer and shorter rounds: minutes become one.
    #[arg(long)]
    quick: bool,
    /// Only cells whose name contains this; may be given several times.
    #[arg(long, value_name = "CELL")]
    only: Vec<String>,
    /// Numbers of concurrent clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) clients: Vec<usize>,
    /// How many connections the clients share; by default each has its own.
    #[arg(long)]
    connections: Option<usize>,
    /// How many KiB of data one message of a write carries.
    #[arg(long, default_value_t = 64)]
    chunk_kib: usize,
    /// How many rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// How many milliseconds each round takes.
    #[arg(long)]
    round_ms: Option<u64>,
    /// How bazel-remote keeps blobs.
    #[arg(long, value_enum, default_value_t = Storage::Uncompressed)]
    storage: Storage,
    /// Measure one server alone.
    #[arg(long, value_name = "SERVER")]
    alone: Option<String>,
    /// Where the stores lie; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The program `kached`; by default the one beside this program.
    #[arg(long)]
    kached: Option<PathBuf>,
    /// The program `bazel-remote`; by default the one that `./x setup` installed.
    #[arg(long)]
    bazel_remote: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl StoreOptions {
    /// Whether a cell is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }

    /// Whether any cell of the table is.
    pub(crate) fn wants_cells(&self) -> bool {
        CELLS.iter().any(|cell| self.wants(cell.name))
    }

    /// How cells are measured.
    pub(crate) fn plan(&self) -> Plan {
        let (rounds, round_ms) = if self.quick { (3, 300) } else { (5, 1000) };
        let both = [Kind::Kached, Kind::BazelRemote];
        let wanted = |kind: &Kind| self.alone.as_deref().is_none_or(|name| name == kind.name());
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            round: Duration::from_millis(self.round_ms.unwrap_or(round_ms)),
            connections: self.connections,
            chunk: self.chunk_kib * 1024,
            kinds: both.into_iter().filter(wanted).collect(),
        }
    }

    /// How many action results the large store has.
    pub(crate) fn many_results(&self) -> u64 {
        if self.quick { 100_000 } else { 1_000_000 }
    }

    /// Where the programs are.
    pub(crate) fn programs(&self) -> Result<Programs> {
        let here = std::env::current_exe()?.parent().context("this program has no directory")?.to_owned();
        let dir = self.dir.clone().unwrap_or_else(|| here.join("bench-store"));
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
        Ok(Programs {
            kached: self.kached.clone().unwrap_or_else(|| here.join("kached")),
            bazel_remote: self.bazel_remote.clone().unwrap_or_else(installed),
            storage: self.storage,
            dir,
        })
    }
}

/// Where `tests/support/install` puts programs.
#[expect(clippy::disallowed_methods, reason = "the recipes obey this variable, and no compile depends on it")]
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    cache.unwrap_or_else(home).join("kache-build/tools/bin/bazel-remote")
}
