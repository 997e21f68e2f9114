//! A real `kached daemon run` in its own home, which the test may kill.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kache_client::DaemonAddress;
use kache_proto::reapi::GetCapabilitiesRequest;
use kache_proto::reapi::capabilities_client::CapabilitiesClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::Channel;

/// How long a single call may take. A daemon that hangs must not hang the test.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a daemon may take until its first response.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A home directory with a cache in it, for one test.
pub(crate) struct Home {
    /// `HOME` of the daemon.
    pub(crate) dir: PathBuf,
    /// `KACHE_CACHE_DIR` of the daemon.
    pub(crate) cache_dir: PathBuf,
    /// Additional environment, such as limits or a preloaded library.
    pub(crate) env: Vec<(String, String)>,
}

impl Home {
    /// Creates a home below `dir` with the cache at `cache_dir`.
    pub(crate) fn new(dir: &Path, cache_dir: &Path) -> Home {
        fs::create_dir_all(dir).expect("the test may write below its temporary directory");
        Home { dir: dir.to_owned(), cache_dir: cache_dir.to_owned(), env: Vec::new() }
    }

    /// The address at which clients find the daemon.
    pub(crate) fn address(&self) -> DaemonAddress {
        DaemonAddress::new(&self.cache_dir, Some(&self.socket_dir()))
    }

    fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    fn command(&self, program: &str, address: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", &self.dir)
            .env("KACHE_CACHE_DIR", &self.cache_dir)
            .env("KACHE_SOCKET_DIR", self.socket_dir())
            .env("KACHE_SERVE_LISTEN", address)
            .env("KACHE_DAEMON_IDLE_TIMEOUT", "0")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    fn spawn(&self, address: &str) -> Child {
        let output = File::options().create(true).append(true).open(self.dir.join("daemon.out"));
        let output = output.expect("the test may write into its home");
        self.command(env!("CARGO_BIN_EXE_kached"), address)
            .args(["daemon", "run"])
            .stdout(output.try_clone().expect("a descriptor can be duplicated"))
            .stderr(output)
            .spawn()
            .expect("kached was built with this test")
    }

    /// The end of the output of all daemons in this home.
    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        log.get(log.len().saturating_sub(LOG_END_BYTES)..).unwrap_or(&log).to_owned()
    }

    /// The output of all daemons in this home.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.out")).unwrap_or_default()
    }
}

/// How many bytes of a log are shown.
const LOG_END_BYTES: usize = 4_000;

/// A running daemon, which is killed on drop.
pub(crate) struct Daemon {
    child: Child,
    /// A connection to its TCP listener.
    pub(crate) channel: Channel,
}

impl Daemon {
    /// Starts a daemon, and waits for its first response.
    pub(crate) async fn start(home: &Home) -> Daemon {
        let address = free_address();
        let mut child = home.spawn(&address);
        match connect(&address, &mut child).await {
            Some(channel) => Daemon { child, channel },
            None => {
                let _ = child.kill();
                panic!("the daemon did not answer at {address}; it said:\n{}", home.log());
            }
        }
    }

    /// Kills the daemon with `kill -9`, and waits until it has ended.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the daemon is our child");
        self.child.wait().expect("the daemon is our child");
    }

    /// Stops the daemon by SIGTERM, and waits until it has closed its store.
    pub(crate) fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id fits"));
        kill(pid, Signal::SIGTERM).expect("the daemon is our child");
        self.child.wait().expect("the daemon is our child");
    }

    /// Returns the daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the daemon is our child").is_none()
    }
}

/// Runs a daemon whose store cannot be opened until `kache daemon status` reports the cause, and returns that
/// report.
pub(crate) fn status_of_daemon_without_store(home: &Home) -> String {
    let address = free_address();
    let mut child = home.spawn(&address);
    let deadline = Instant::now() + START_TIMEOUT;
    let status = loop {
        let status = home.command(env!("CARGO_BIN_EXE_kache"), &address).args(["daemon", "status"]).output();
        let status = status.expect("kache was built with this test");
        let gone = child.try_wait().expect("the daemon is our child");
        // The daemon responds while the store is still being opened, when it does not know the cause yet.
        let opening = String::from_utf8_lossy(&status.stdout).contains("(opening)");
        if (status.status.success() && !opening) || gone.is_some() || Instant::now() > deadline {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let gone = child.try_wait().expect("the daemon is our child");
    let _ = child.kill();
    let _ = child.wait();
    assert!(gone.is_none(), "the daemon left ({gone:?}) instead of saying why; it said:\n{}", home.log());
    String::from_utf8_lossy(&status.stdout).into_owned()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(address: &str, child: &mut Child) -> Option<Channel> {
    let deadline = Instant::now() + START_TIMEOUT;
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address is a valid URI");
    let endpoint = endpoint.connect_timeout(ANSWER_TIMEOUT).timeout(ANSWER_TIMEOUT);
    while Instant::now() < deadline && child.try_wait().ok()?.is_none() {
        if let Ok(channel) = endpoint.connect().await {
            let request = GetCapabilitiesRequest::default();
            if CapabilitiesClient::new(channel.clone()).get_capabilities(request).await.is_ok() {
                return Some(channel);
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    None
}

/// A free address. Another process may take it before the daemon does; the test then fails to connect.
fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").to_string()
}
