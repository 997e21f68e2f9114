//! Which servers there are, and how each is told where to live and where to listen.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// Larger than anything that is stored here: eviction is not what is compared.
const STORE_GIB: u64 = 200;

/// A server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Kached,
    /// The one it is compared with.
    BazelRemote,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kached => "kached",
            Kind::BazelRemote => "bazel-remote",
        }
    }
}

/// How bazel-remote keeps blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// As they are, which is also what kached does.
    Uncompressed,
    /// Compressed, which is its default.
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

/// Where the programs are, and where they may write.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) kached: PathBuf,
    pub(crate) bazel_remote: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// Fails with the remedy where a program is missing.
    pub(crate) fn check(&self, kinds: &[Kind]) -> Result<()> {
        for kind in kinds {
            let (path, remedy) = match kind {
                Kind::Kached => (&self.kached, "run `cargo build --release -p kache`"),
                Kind::BazelRemote => (&self.bazel_remote, "run `tests/support/install/bazel-remote.sh`"),
            };
            ensure!(path.exists(), "`{}` is not there: {remedy}", path.display());
        }
        Ok(())
    }

    /// The command that starts this server.
    pub(crate) fn command(&self, kind: Kind, dir: &Path, address: SocketAddr) -> Command {
        match kind {
            Kind::Kached => self.kached(dir, address),
            Kind::BazelRemote => self.bazel_remote(dir, address),
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
        // It insists on an HTTP listener. A log line a request would be measured too.
        command.args(["--http_address", &format!("unix://{}", dir.join("http.sock").display())]);
        command.args(["--access_log_level", "none"]);
        command
    }
}
