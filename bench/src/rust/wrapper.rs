//! Whom the builds go through, and how each wants to be started, cleaned and stopped.
//!
//! Each gets its documented way of use, a cache directory of its own and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::build::{self, Cargo};

/// The configuration of all that have one, in their own directories.
const CONFIG: &str = "config.toml";

/// The rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapper {
    /// No wrapper.
    Plain,
    /// The one that knows the answer.
    Oracle,
    /// This repository's.
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
    /// How the table calls it.
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

    /// Whether it is somebody else's.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Wrapper::Sccache | Wrapper::Kache2 | Wrapper::Mbx)
    }

    /// The program, below the directory of peers or beside this one.
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
pub(crate) struct Wrapping {
    wrapper: Wrapper,
    program: PathBuf,
    /// Holds the cache, and whatever else it keeps.
    pub(crate) dir: PathBuf,
    /// Short, because a socket's path has a limit.
    sockets: PathBuf,
}

impl Wrapping {
    /// `dir` does not need to exist; `sockets` must be short and is the caller's to remove.
    pub(crate) fn new(
        wrapper: Wrapper,
        program: Option<PathBuf>,
        dir: PathBuf,
        sockets: PathBuf,
    ) -> Result<Wrapping> {
        if let Some(program) = &program {
            ensure!(program.exists(), "`{}` does not exist; `./x bench rust` provides it", program.display());
        }
        std::fs::create_dir_all(&dir)?;
        // A configuration that is named must exist; an empty one keeps everybody's own out.
        std::fs::write(dir.join(CONFIG), "")?;
        Ok(Wrapping { wrapper, program: program.unwrap_or_default(), dir, sockets })
    }

    /// Cargo, to be called in this checkout.
    pub(crate) fn cargo(&self, cargo: &Cargo, root: &Path) -> Command {
        let mut command = match self.wrapper {
            Wrapper::Mbx => self.own(cargo),
            _ => cargo.command(Path::new("cargo")),
        };
        match self.wrapper {
            // Set, so that no configuration file names another one.
            Wrapper::Plain => command.env("RUSTC_WRAPPER", ""),
            Wrapper::Mbx => &mut command,
            _ => command.env("RUSTC_WRAPPER", &self.program),
        };
        command.envs(self.env());
        match self.wrapper {
            Wrapper::Oracle => command.env("ORACLE_ROOT", root),
            // Without this it finds nothing of one checkout in another.
            Wrapper::Sccache => command.env("SCCACHE_BASEDIRS", root.parent().unwrap_or(root)),
            _ => &mut command,
        };
        command
    }

    /// The wrapper's own program.
    pub(crate) fn own(&self, cargo: &Cargo) -> Command {
        let mut command = cargo.command(&self.program);
        command.envs(self.env());
        command
    }

    /// What it is told about where its things are.
    pub(crate) fn env(&self) -> Vec<(&'static str, OsString)> {
        let cache: OsString = self.dir.join("cache").into();
        match self.wrapper {
            Wrapper::Plain => Vec::new(),
            Wrapper::Oracle => vec![("ORACLE_STORE", cache)],
            Wrapper::Kache => vec![
                ("KACHE_CACHE_DIR", cache),
                ("KACHE_CONFIG", self.dir.join(CONFIG).into()),
                // Should nobody be left to stop it, it does not stay long.
                ("KACHE_DAEMON_IDLE_TIMEOUT", "60".into()),
                ("KACHE_LOG_FILE_PATH", self.dir.join("kached.log").into()),
                ("KACHE_SOCKET_DIR", self.sockets.clone().into()),
            ],
            Wrapper::Sccache => vec![
                ("SCCACHE_DIR", cache),
                ("SCCACHE_CONF", self.dir.join(CONFIG).into()),
                ("SCCACHE_SERVER_UDS", self.sockets.join("sccache").into()),
                // What its documentation asks for: it caches no incremental compile.
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

    /// Takes away what it keeps of a checkout outside of that checkout's own target directory.
    pub(crate) fn clean(&self, cargo: &Cargo, root: &Path) -> Result<()> {
        if self.wrapper != Wrapper::Mbx {
            return Ok(());
        }
        build::run(self.own(cargo).arg("clean").current_dir(root), &self.dir.join("clean.log")).map(drop)
    }

    /// Ends the daemon that it may have started. It is asked, never signalled.
    pub(crate) fn stop(&self, cargo: &Cargo) {
        let arguments: &[&str] = match self.wrapper {
            Wrapper::Plain | Wrapper::Oracle | Wrapper::Mbx => return,
            Wrapper::Kache | Wrapper::Kache2 => &["daemon", "stop"],
            Wrapper::Sccache => &["--stop-server"],
        };
        let mut command = self.own(cargo);
        // One that does not run cannot be stopped, and that is no failure.
        let _ =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
