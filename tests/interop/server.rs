//! The cache under test: `kached daemon run` on a loopback port, with its own home.
//!
//! It can be killed, and started again with the same port and store. bazel-remote can run in its place, which shows
//! whether a failure is the scenario's.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::process::{Background, command};
use crate::tools;

/// The settings that differ from the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The content of the credentials file.
    pub(crate) credentials: Option<String>,
    /// Whether the server is read-only.
    pub(crate) read_only: bool,
    /// The directory of `server.pem`, `server.key` and `ca.pem`, for TLS with client certificates.
    pub(crate) tls_dir: Option<PathBuf>,
    /// The value of `KACHE_MAX_SIZE`.
    pub(crate) size_max: Option<&'static str>,
}

/// A server, which runs or was killed and can be started again.
pub(crate) struct Server {
    dir: PathBuf,
    settings: Settings,
    grpc_port: u16,
    http_port: u16,
    running: Option<Background>,
}

impl Server {
    /// Starts a server with an empty store below `dir`.
    pub(crate) fn start(dir: &Path, settings: Settings) -> Self {
        let grpc_port = free_port();
        let http_port = if tools::server_is_peer() { free_port() } else { grpc_port };
        fs::create_dir_all(dir).expect("the test's directory is writable");
        let mut server = Server { dir: dir.to_owned(), settings, grpc_port, http_port, running: None };
        server.restart();
        server
    }

    /// Starts the server again after it was killed or stopped.
    pub(crate) fn restart(&mut self) {
        self.running = None;
        let is_peer = tools::server_is_peer();
        let mut command = if is_peer { self.peer() } else { self.kached() };
        let output = self.dir.join("output");
        let is_ready = || answers(self.http_port) && (is_peer || self.find_unix_socket().is_some());
        self.running = Some(Background::start(&mut command, &output, is_ready));
    }

    /// Starts the server again with other settings and the same store.
    pub(crate) fn restart_with(&mut self, settings: Settings) {
        self.stop();
        self.settings = settings;
        self.restart();
    }

    /// Stops the server by SIGTERM.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// A function that sends `kill -9` to the server, from any thread.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + 'static {
        let pid = self.running.as_ref().expect("the server runs").pid();
        move || kill(pid, Signal::SIGKILL).expect("our child can be signalled")
    }

    /// The port for gRPC.
    pub(crate) fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// The port for HTTP.
    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The daemon's socket for clients of this user.
    pub(crate) fn unix_socket(&self) -> PathBuf {
        self.find_unix_socket().expect("the daemon always has a socket")
    }

    fn find_unix_socket(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.dir.join("run")).ok()?;
        let mut sockets = entries.flatten().map(|entry| entry.path().join("reapi.sock"));
        sockets.find(|socket| socket.exists())
    }

    /// The address for gRPC clients.
    pub(crate) fn grpc(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.grpc_port)
    }

    /// The URL for HTTP clients. `path` begins with a slash or is empty.
    pub(crate) fn http(&self, path: &str) -> String {
        self.http_as("", path)
    }

    /// The URL for HTTP clients with `name:password@`.
    pub(crate) fn http_as(&self, who: &str, path: &str) -> String {
        format!("http://{who}127.0.0.1:{}{path}", self.http_port)
    }

    fn kached(&self) -> Command {
        let mut command = command(Path::new(env!("CARGO_BIN_EXE_kached")), &self.dir.join("home"));
        command
            .args(["daemon", "run"])
            .env("KACHE_CACHE_DIR", self.dir.join("cache"))
            .env("KACHE_SOCKET_DIR", self.dir.join("run"))
            .env("KACHE_SERVE_LISTEN", format!("127.0.0.1:{}", self.grpc_port))
            // A client behind a relay names the relay's port in `Host`, which is not the listener's.
            .env("KACHE_SERVE_HOSTS", "127.0.0.1")
            .env("KACHE_SERVE_READ_ONLY", self.settings.read_only.to_string())
            .env("KACHE_DAEMON_IDLE_TIMEOUT", "0")
            // Everything is logged to standard error, which a failing test prints.
            .env("KACHE_LOG", "debug")
            .env("KACHE_LOG_FILE", "off");
        if let Some(size) = self.settings.size_max {
            command.env("KACHE_MAX_SIZE", size);
        }
        if let Some(dir) = &self.settings.tls_dir {
            command
                .env("KACHE_SERVE_TLS_CERT", dir.join("server.pem"))
                .env("KACHE_SERVE_TLS_KEY", dir.join("server.key"))
                .env("KACHE_SERVE_TLS_CLIENT_CA", dir.join("ca.pem"));
        }
        if let Some(credentials) = &self.settings.credentials {
            command.env("KACHE_SERVE_TOKENS", self.write_private("credentials", credentials));
        }
        command
    }

    fn write_private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("the test's directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        path
    }

    fn peer(&self) -> Command {
        let mut command = command(&tools::tool("bazel-remote"), &self.dir.join("home"));
        command
            .arg("--dir")
            .arg(self.dir.join("cache"))
            .args(["--max_size", "2", "--enable_ac_key_instance_mangling"])
            .args(["--http_address".to_owned(), format!("127.0.0.1:{}", self.http_port)])
            .args(["--grpc_address".to_owned(), format!("127.0.0.1:{}", self.grpc_port)]);
        command
    }
}

/// A port on which no process listens. Another process may take it before the server does; the server then fails to
/// start with an error.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Whether a process listens on a port.
pub(crate) fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
