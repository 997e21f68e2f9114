//! The command line, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::cells::CELLS;
use crate::rounds::Plan;
use crate::rust::{Filesystem, WRAPPERS};
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
    /// Whole builds with cargo, through kache, an oracle and other wrappers, in one table.
    Rust(RustOptions),
    /// A crate of one's own that is edited, without and with kache.
    Edit(EditOptions),
    /// What a hit costs as a workspace grows.
    Scale(ScaleOptions),
    /// What kache does for a real project, in minutes and for people.
    Demo(DemoOptions),
    /// Real crates with macros, changed at random, through kache and without it.
    FuzzBuilds(FuzzBuildsOptions),
}

/// What can be said about the benchmark of whole builds.
#[derive(Args, Debug)]
pub(crate) struct RustOptions {
    /// How many rounds, each with empty caches; figures are their medians.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// A single round: a look, not a measurement.
    #[arg(long)]
    pub(crate) once: bool,
    /// Only rows whose name is this or, if none is, contains it; may be given several times.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Build on a filesystem of this kind, in an image that is mounted for it as root. Bytes are
    /// then what that volume has less of, so that extents which files share count once.
    #[arg(long, value_enum)]
    pub(crate) volume: Option<Filesystem>,
    /// Only this project, `demo` or `large`.
    #[arg(long)]
    project: Option<String>,
    /// Where the builds and caches lie; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the other wrappers are; by default where `bench/install/wrappers.sh` puts them.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The checkout that holds the projects.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl RustOptions {
    /// Whether a row is asked for.
    pub(crate) fn wants_row(&self, name: &str) -> bool {
        let is_name = |part: &str| WRAPPERS.iter().any(|wrapper| wrapper.name() == part);
        let names = |part: &String| if is_name(part) { name == part } else { name.contains(part) };
        self.only.is_empty() || self.only.iter().any(names)
    }

    /// Whether a project is.
    pub(crate) fn wants_project(&self, name: &str) -> bool {
        self.project.as_deref().is_none_or(|wanted| wanted == name)
    }

    /// An existing directory for the builds.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-rust")
    }

    /// The directory of the other wrappers.
    pub(crate) fn peers(&self) -> PathBuf {
        self.peers.clone().unwrap_or_else(|| tools().join("peers"))
    }
}

/// What can be said about the benchmark of edits.
#[derive(Args, Debug)]
pub(crate) struct EditOptions {
    /// How many edits after the first one; the figure is their median.
    #[arg(long, default_value_t = 5)]
    pub(crate) edits: u32,
    /// Where the builds and caches lie; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The checkout that holds the demonstration, whose lock file names the crate.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
}

impl EditOptions {
    /// An existing directory for the builds.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-edit")
    }
}

/// What can be said about the benchmark of sizes.
#[derive(Args, Debug)]
pub(crate) struct ScaleOptions {
    /// Instead, compile so many small crates, one by one, and say what memory the daemon holds
    /// then.
    #[arg(long)]
    pub(crate) entries: Option<usize>,
    /// Where the builds and caches lie; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl ScaleOptions {
    /// An existing directory for the builds.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "bench-scale")
    }
}

/// What can be said about builds that are changed at random.
#[derive(Args, Debug)]
pub(crate) struct FuzzBuildsOptions {
    /// For so long, after everything was built for the first time.
    pub(crate) seconds: u64,
    /// Instead of seconds, so many rounds of each project.
    #[arg(long)]
    pub(crate) rounds: Option<u64>,
    /// The first round's seed; each following one has the next number.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only this project; may be given several times.
    #[arg(long, value_name = "NAME")]
    project: Vec<String>,
    /// Where the builds and the cache lie; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The checkout that holds the projects.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
}

impl FuzzBuildsOptions {
    /// Whether a project is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.project.is_empty() || self.project.iter().any(|wanted| wanted == name)
    }

    /// An existing directory for the builds.
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        existing(self.dir.as_ref(), "fuzz-builds")
    }
}

/// A directory that was named, or else one of this name beside this program.
fn existing(named: Option<&PathBuf>, name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?.parent().context("this program has no directory")?.to_owned();
    let dir = named.cloned().unwrap_or_else(|| here.join(name));
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    Ok(std::path::absolute(dir)?)
}

/// What can be said about the demonstration.
#[derive(Args, Debug)]
pub(crate) struct DemoOptions {
    /// An existing directory for the builds and the cache.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The checkout that holds the project.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
    /// Leave everything in the directory, and say how to look at it.
    #[arg(long)]
    pub(crate) keep: bool,
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
            bazel_remote: self.bazel_remote.clone().unwrap_or_else(|| tools().join("bin/bazel-remote")),
            storage: self.storage,
            dir,
        })
    }
}

/// Where recipes for other people's programs put them.
#[expect(clippy::disallowed_methods, reason = "the recipes obey this variable, and no compile depends on it")]
fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    cache.unwrap_or_else(home).join("kache-build/tools")
}
