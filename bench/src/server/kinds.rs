//! The kinds of servers, and the commands that start each with a directory and an address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The size limit of each store, so large that nothing is evicted.
const STORE_GIB: u64 = 200;

/// A server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// The server of this repository.
    Kached,
    /// The server that it is compared with.
    BazelRemote,
}

impl ServerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Kached => "kached",
            ServerKind::BazelRemote => "bazel-remote",
        }
    }
}

/// The way in which bazel-remote stores blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// Uncompressed, as kached does.
    Uncompressed,
    /// Compressed, which is bazel-remote's default.
    Zstd,
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Storage::Uncompressed => "uncompressed",
            Storage::Zstd => "zstd",
        }
    }
}

/// The paths of the programs, and the directory for their stores.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) kached: PathBuf,
    pub(crate) bazel_remote: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// Fails if a program is missing, and says how to get it.
    pub(crate) fn check(&self, kinds: &[ServerKind]) -> Result<()> {
        for kind in kinds {
            let (path, remedy) = match kind {
                ServerKind::Kached => (&self.kached, "run `cargo build --release -p kache`"),
                ServerKind::BazelRemote => {
                    (&self.bazel_remote, "run `tests/support/install/bazel-remote.sh`")
                }
            };
            ensure!(path.exists(), "`{}` does not exist: {remedy}", path.display());
        }
        Ok(())
    }

    /// The command that starts this server.
    pub(crate) fn command(&self, kind: ServerKind, dir: &Path, address: SocketAddr) -> Command {
        match kind {
            ServerKind::Kached => self.kached(dir, address),
            ServerKind::BazelRemote => self.bazel_remote(dir, address),
        }
    }

    fn kached(&self, dir: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.kached);
        command.args(["daemon", "run"]).env_clear().current_dir(dir);
        command.env("HOME", dir).env("XDG_RUNTIME_DIR", dir).env("PATH", "/usr/bin:/bin");
        command.env("KACHE_CACHE_DIR", dir.join("cache"));
        command.env("KACHE_MAX_SIZE", format!("{STORE_GIB}GiB"));
        command.env("KACHE_SERVE_LISTEN", address.to_string());
        command.env("KACHE_DAEMON_IDLE_TIMEOUT", "0");
        command
    }

    fn bazel_remote(&self, dir: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.bazel_remote);
        command.env_clear().env("HOME", dir).current_dir(dir);
        command.arg("--dir").arg(dir.join("cache"));
        command.args(["--max_size", &STORE_GIB.to_string(), "--storage_mode", self.storage.name()]);
        command.args(["--grpc_address", &address.to_string()]);
        // bazel-remote requires an HTTP listener. Without `none` it would write a log line for each request, which
        // would be part of the measurement.
        command.args(["--http_address", &format!("unix://{}", dir.join("http.sock").display())]);
        command.args(["--access_log_level", "none"]);
        command
    }
}
