//! The compiler wrappers, and how each is started, cleaned and stopped.
//!
//! Each is used as its documentation says, with a cache directory of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::build::{self, Cargo};

/// The name of a wrapper's configuration file in its own directory.
const CONFIG: &str = "config.toml";

/// The rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapper {
    /// No wrapper.
    Plain,
    /// `kache-oracle`, which already has every result.
    Oracle,
    /// The wrapper of this repository.
    Kache,
    /// The published crate `sccache`.
    Sccache,
    /// The published crate `kache`, which is another program of the same name.
    Kache2,
    /// The published crate `mbx`.
    Mbx,
}

/// All rows, in the order of the table.
pub(crate) const WRAPPERS: [Wrapper; 6] =
    [Wrapper::Plain, Wrapper::Oracle, Wrapper::Kache, Wrapper::Sccache, Wrapper::Kache2, Wrapper::Mbx];

impl Wrapper {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Wrapper::Plain => "plain cargo",
            Wrapper::Oracle => "oracle",
            Wrapper::Kache => "kache",
            Wrapper::Sccache => "sccache 0.19.0",
            Wrapper::Kache2 => "kache 2.0.0",
            Wrapper::Mbx => "mbx 1.29.1",
        }
    }

    /// Whether it is another project's.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Wrapper::Sccache | Wrapper::Kache2 | Wrapper::Mbx)
    }

    /// The path of its program: in `peers` if it is another project's, otherwise beside this program.
    pub(crate) fn program(self, ours: &Path, peers: &Path) -> Option<PathBuf> {
        match self {
            Wrapper::Plain => None,
            Wrapper::Oracle => Some(ours.join("kache-bench-oracle")),
            Wrapper::Kache => Some(ours.join("kache")),
            Wrapper::Sccache => Some(peers.join("sccache-0.19.0/bin/sccache")),
            Wrapper::Kache2 => Some(peers.join("kache-2.0.0/bin/kache")),
            Wrapper::Mbx => Some(peers.join("mbx-1.29.1/bin/mbx")),
        }
    }
}

/// A wrapper with a cache of its own.
#[derive(Clone, Debug)]
pub(crate) struct WrapperSetup {
    wrapper: Wrapper,
    program: PathBuf,
    /// The directory for its cache and all of its other files.
    pub(crate) dir: PathBuf,
    /// The directory for its socket. Short, because the path of a socket has a limit.
    sockets: PathBuf,
}

impl WrapperSetup {
    /// Creates `dir`. `sockets` must be short, and the caller removes it.
    pub(crate) fn new(
        wrapper: Wrapper,
        program: Option<PathBuf>,
        dir: PathBuf,
        sockets: PathBuf,
    ) -> Result<WrapperSetup> {
        if let Some(program) = &program {
            ensure!(program.exists(), "`{}` does not exist; `./x bench rust` provides it", program.display());
        }
        std::fs::create_dir_all(&dir)?;
        // A configuration file that a variable names must exist. An empty one replaces the user's.
        std::fs::write(dir.join(CONFIG), "")?;
        Ok(WrapperSetup { wrapper, program: program.unwrap_or_default(), dir, sockets })
    }

    /// The command that runs cargo with this wrapper in a checkout.
    pub(crate) fn cargo(&self, cargo: &Cargo, root: &Path) -> Command {
        let mut command = match self.wrapper {
            Wrapper::Mbx => self.own(cargo),
            _ => cargo.command(Path::new("cargo")),
        };
        match self.wrapper {
            // An empty variable overrides a wrapper in a configuration file.
            Wrapper::Plain => command.env("RUSTC_WRAPPER", ""),
            Wrapper::Mbx => &mut command,
            _ => command.env("RUSTC_WRAPPER", &self.program),
        };
        command.envs(self.env());
        match self.wrapper {
            Wrapper::Oracle => command.env("ORACLE_ROOT", root),
            // Without this it has no hits between checkouts.
            Wrapper::Sccache => command.env("SCCACHE_BASEDIRS", root.parent().unwrap_or(root)),
            _ => &mut command,
        };
        command
    }

    /// The command that runs the wrapper's program.
    pub(crate) fn own(&self, cargo: &Cargo) -> Command {
        let mut command = cargo.command(&self.program);
        command.envs(self.env());
        command
    }

    /// Runs `kache report` as cargo would, and returns what it prints.
    pub(crate) fn report(&self, cargo: &Cargo) -> Result<Value> {
        self.ask(cargo, &["report", "--format", "json"])
    }

    /// Runs a command of kache that prints JSON.
    pub(crate) fn ask(&self, cargo: &Cargo, args: &[&str]) -> Result<Value> {
        let command = format!("kache {}", args.join(" "));
        let said = self.own(cargo).args(args).stdin(Stdio::null()).output()?;
        let error = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "`{command}` failed: {}, {error}", said.status);
        serde_json::from_slice(&said.stdout).with_context(|| format!("`{command}` printed no JSON"))
    }

    /// The variables that tell the wrapper where its files are.
    pub(crate) fn env(&self) -> Vec<(&'static str, OsString)> {
        let cache: OsString = self.dir.join("cache").into();
        match self.wrapper {
            Wrapper::Plain => Vec::new(),
            Wrapper::Oracle => vec![("ORACLE_STORE", cache)],
            Wrapper::Kache => vec![
                ("KACHE_CACHE_DIR", cache),
                ("KACHE_CONFIG", self.dir.join(CONFIG).into()),
                // Ends the daemon if this program is killed before it can stop it.
                ("KACHE_DAEMON_IDLE_TIMEOUT", "60".into()),
                ("KACHE_LOG_FILE_PATH", self.dir.join("kached.log").into()),
                ("KACHE_SOCKET_DIR", self.sockets.clone().into()),
            ],
            Wrapper::Sccache => vec![
                ("SCCACHE_DIR", cache),
                ("SCCACHE_CONF", self.dir.join(CONFIG).into()),
                ("SCCACHE_SERVER_UDS", self.sockets.join("sccache").into()),
                // Its documentation asks for this, because it does not cache incremental compiles.
                ("CARGO_INCREMENTAL", "0".into()),
            ],
            Wrapper::Kache2 => vec![
                ("KACHE_CACHE_DIR", cache),
                ("KACHE_CONFIG", self.dir.join(CONFIG).into()),
                ("KACHE_RUNTIME_DIR", self.sockets.clone().into()),
            ],
            Wrapper::Mbx => vec![("MBX_CACHE_DIR", cache)],
        }
    }

    /// Removes the wrapper's files of a checkout that are outside of the checkout's target directory.
    pub(crate) fn clean(&self, cargo: &Cargo, root: &Path) -> Result<()> {
        if self.wrapper != Wrapper::Mbx {
            return Ok(());
        }
        build::run(self.own(cargo).arg("clean").current_dir(root), &self.dir.join("clean.log")).map(drop)
    }

    /// Stops the wrapper's daemon by its own command, never by a signal.
    pub(crate) fn stop(&self, cargo: &Cargo) {
        let arguments: &[&str] = match self.wrapper {
            Wrapper::Plain | Wrapper::Oracle | Wrapper::Mbx => return,
            Wrapper::Kache | Wrapper::Kache2 => &["daemon", "stop"],
            Wrapper::Sccache => &["--stop-server"],
        };
        let mut command = self.own(cargo);
        // The command fails if no daemon runs, which is fine.
        let _ =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
