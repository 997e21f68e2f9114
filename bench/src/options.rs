//! The command line, and the settings that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cells::CELLS;
use crate::rounds::Plan;
use crate::rust::{Filesystem, WRAPPERS};
use crate::server::{Programs, ServerKind, Storage};

/// Measures kache.
#[derive(Debug, Parser)]
#[command(name = "kache-bench", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare the store and its server with bazel-remote.
    Store(StoreOptions),
    /// Compare whole builds with plain cargo, kache, an oracle and other wrappers.
    Rust(RustOptions),
    /// Compare builds of an edited crate with plain cargo and with kache.
    Edit(EditOptions),
    /// Measure the cost of a hit in workspaces of several sizes.
    Scale(ScaleOptions),
    /// Build a real project with and without kache, and print times, hits and sizes.
    Demo(DemoOptions),
    /// Change real crates with macros at random, and compare builds with and without kache.
    FuzzBuilds(FuzzBuildsOptions),
}

/// The command line of `kache-bench rust`.
#[derive(Args, Debug)]
pub(crate) struct RustOptions {
    /// Number of rounds, each with empty caches; figures are medians of them.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Run a single round, for a quick look: its figures are not medians.
    #[arg(long)]
    pub(crate) once: bool,
    /// Measure only the row with this name or, if there is none, rows whose name contains it; can be repeated.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Build on a filesystem of this kind in an image that is mounted as root. Bytes are then the space that is
    /// used on that volume, where extents that files share count once.
    #[arg(long, value_enum)]
    pub(crate) volume: Option<Filesystem>,
    /// Build only this project: `demo` or `large`.
    #[arg(long)]
    project: Option<String>,
    /// Directory for the builds and caches; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Directory of the other wrappers; by default that of `bench/install/wrappers.sh`.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Checkout of this repository, which contains the projects.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl RustOptions {
    /// Whether the options select a row.
    pub(crate) fn wants_row(&self, name: &str) -> bool {
        let is_name = |part: &str| WRAPPERS.iter().any(|wrapper| wrapper.name() == part);
        let names = |part: &String| if is_name(part) { name == part } else { name.contains(part) };
        self.only.is_empty() || self.only.iter().any(names)
    }

    /// Whether the options select a project.
    pub(crate) fn wants_project(&self, name: &str) -> bool {
        self.project.as_deref().is_none_or(|wanted| wanted == name)
    }

    /// The directory for the builds. Creates it.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-rust")
    }

    /// The directory of the other wrappers.
    pub(crate) fn peers(&self) -> PathBuf {
        self.peers.clone().unwrap_or_else(|| tools().join("peers"))
    }
}

/// The command line of `kache-bench edit`.
#[derive(Args, Debug)]
pub(crate) struct EditOptions {
    /// Number of edits after the first one; the figure is their median.
    #[arg(long, default_value_t = 5)]
    pub(crate) edits: u32,
    /// Directory for the builds and caches; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Checkout of this repository, whose `demo/Cargo.lock` pins the crate.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
}

impl EditOptions {
    /// The directory for the builds. Creates it.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-edit")
    }
}

/// The command line of `kache-bench scale`.
#[derive(Args, Debug)]
pub(crate) struct ScaleOptions {
    /// Instead, compile this many small crates one by one, and print the daemon's memory afterwards.
    #[arg(long)]
    pub(crate) entries: Option<usize>,
    /// Directory for the builds and caches; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl ScaleOptions {
    /// The directory for the builds. Creates it.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-scale")
    }
}

/// The command line of `kache-bench fuzz-builds`.
#[derive(Args, Debug)]
pub(crate) struct FuzzBuildsOptions {
    /// Run for this long after the first builds.
    pub(crate) seconds: u64,
    /// Run this many rounds of each project instead.
    #[arg(long)]
    pub(crate) rounds: Option<u64>,
    /// Seed of the first round; each following round adds one.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Use only this project; can be repeated.
    #[arg(long, value_name = "NAME")]
    project: Vec<String>,
    /// Directory for the builds and the cache; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Checkout of this repository, which contains the projects.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
}

impl FuzzBuildsOptions {
    /// Whether the options select a project.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.project.is_empty() || self.project.iter().any(|wanted| wanted == name)
    }

    /// The directory for the builds. Creates it.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "fuzz-builds")
    }
}

/// The directory that the options name, or one with this name beside this program. Creates it.
fn existing(from_options: Option<&PathBuf>, name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?.parent().context("this program has no directory")?.to_owned();
    let dir = from_options.cloned().unwrap_or_else(|| here.join(name));
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    Ok(std::path::absolute(dir)?)
}

/// The command line of `kache-bench demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoOptions {
    /// Directory for the builds and the cache, which must exist.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Checkout of this repository, which contains the project.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
    /// Keep the directory, and print how to use its cache.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// The command line of `kache-bench store`.
#[derive(Args, Debug)]
pub(crate) struct StoreOptions {
    /// Run fewer and shorter rounds, for about a minute.
    #[arg(long)]
    quick: bool,
    /// Measure only cells whose name contains this; can be repeated.
    #[arg(long, value_name = "CELL")]
    only: Vec<String>,
    /// Numbers of concurrent clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) clients: Vec<usize>,
    /// Number of connections that the clients share; by default each client has its own.
    #[arg(long)]
    connections: Option<usize>,
    /// KiB of data in each message of a write.
    #[arg(long, default_value_t = 64)]
    chunk_kib: usize,
    /// Number of rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of a round in milliseconds.
    #[arg(long)]
    round_ms: Option<u64>,
    /// How bazel-remote stores blobs.
    #[arg(long, value_enum, default_value_t = Storage::Uncompressed)]
    storage: Storage,
    /// Measure only this server: `kached` or `bazel-remote`.
    #[arg(long, value_name = "SERVER")]
    alone: Option<String>,
    /// Directory for the stores; by default beside this program.
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
    /// Whether the options select a cell.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }

    /// Whether the options select any cell of the table.
    pub(crate) fn wants_cells(&self) -> bool {
        CELLS.iter().any(|cell| self.wants(cell.name))
    }

    /// The plan by which cells are measured.
    pub(crate) fn plan(&self) -> Plan {
        let (rounds, round_ms) = if self.quick { (3, 300) } else { (5, 1000) };
        let both = [ServerKind::Kached, ServerKind::BazelRemote];
        let wanted = |kind: &ServerKind| self.alone.as_deref().is_none_or(|name| name == kind.name());
        Plan {
            rounds: self.rounds.unwrap_or(rounds),
            round: Duration::from_millis(self.round_ms.unwrap_or(round_ms)),
            connections: self.connections,
            chunk: self.chunk_kib * 1024,
            kinds: both.into_iter().filter(wanted).collect(),
        }
    }

    /// The number of action results in the large store.
    pub(crate) fn many_results(&self) -> u64 {
        if self.quick { 100_000 } else { 1_000_000 }
    }

    /// The programs and the directory for their stores. Creates the directory.
    pub(crate) fn programs(&self) -> Result<Programs> {
        let here = std::env::current_exe()?.parent().context("this program has no directory")?.to_owned();
        let dir = self.dir.clone().unwrap_or_else(|| here.join("bench-store"));
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
        Ok(Programs {
            kached: self.kached.clone().unwrap_or_else(|| here.join("kached")),
            bazel_remote: self.bazel_remote.clone().unwrap_or_else(|| tools().join("bin/bazel-remote")),
            storage: self.storage,
            dir,
        })
    }
}

/// The directory into which the install scripts of this repository put other projects' programs.
#[expect(clippy::disallowed_methods, reason = "the recipes obey this variable, and no compile depends on it")]
fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    cache.unwrap_or_else(home).join("kache-build/tools")
}
