//! A running server: its address, processor time and memory, and how it is stopped.
//!
//! Invariants: no server process outlives its `Server`, and no other process is signalled.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kinds::{Programs, ServerKind};
use crate::content::Contents;
use crate::load::{Session, Until, Windows, Workload};
use crate::requests;

/// How long a server may take until its first response.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(60);

/// The file in the server's directory with its output.
const LOG: &str = "server.log";

/// The time between two looks at a server that starts or ends.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A server process that is measured.
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) address: SocketAddr,
    /// The time from its start to its first response.
    pub(crate) start: Duration,
    child: Child,
    dir: PathBuf,
    remove_dir: bool,
}

impl Server {
    /// Starts a server in a new directory, which is removed when the server ends.
    pub(crate) fn fresh(kind: ServerKind, programs: &Programs) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix(kind.name()).tempdir_in(&programs.dir)?.keep();
        let mut server = Server::on(kind, programs, &dir)?;
        server.remove_dir = true;
        Ok(server)
    }

    /// Starts a server in this directory, and waits for its first response.
    pub(crate) fn on(kind: ServerKind, programs: &Programs, dir: &Path) -> Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        drop(listener);
        let mut command: Command = programs.command(kind, dir, address);
        let log = std::fs::File::create(dir.join(LOG))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("failed to start `{}`", kind.name()))?;
        let start = Duration::ZERO;
        let mut server = Server { kind, address, start, child, dir: dir.to_owned(), remove_dir: false };
        server.await_response(started)?;
        server.start = started.elapsed();
        Ok(server)
    }

    fn await_response(&mut self, started: Instant) -> Result<()> {
        loop {
            let error = match self.send_request() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.join(LOG)).unwrap_or_default();
                bail!("`{}` ended at once ({status}):\n{log}", self.kind.name());
            }
            if started.elapsed() > START_MAX {
                return Err(error.context(format!("`{}` does not respond", self.kind.name())));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn send_request(&self) -> Result<()> {
        let contents = Contents::new(64);
        let ask = move |number| {
            crate::load::Request::new(vec![requests::find_missing(&contents, number..number + 1)])
        };
        let mut workload = crate::cells::Sequence::new(requests::FIND_MISSING, 1, ask);
        self.run(&mut workload, 1).map(drop)
    }

    /// Sends all requests of a workload.
    pub(crate) fn run(&self, workload: &mut dyn Workload, clients: usize) -> Result<crate::load::Run> {
        let mut session =
            Session::open(self.address, workload.method(), clients, clients, Windows::default())?;
        session.run(workload, Until::Exhausted, false)
    }

    /// The processor time that all its threads have used, in user and system mode.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let pid = libc::pid_t::try_from(self.child.id()).context("a process id that is none")?;
        let mut clock = 0;
        // SAFETY: `clock` is valid for writing.
        if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
            bail!("the server has no processor clock");
        }
        processor_time(clock)
    }

    /// The memory that it uses.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or_default() * 1024
        };
        Ok(Memory { resident_bytes: of("VmRSS:"), anonymous_bytes: of("RssAnon:") })
    }

    /// Sends SIGTERM, waits until the server has ended, and returns how long that took.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let started = Instant::now();
        let pid = libc::pid_t::try_from(self.child.id()).context("a process id that is none")?;
        // SAFETY: signalling touches no memory; the process is our child and not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > STOP_MAX {
                bail!("`{}` does not end", self.kind.name());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(started.elapsed())
    }
}

/// The time of a processor clock.
pub(crate) fn processor_time(clock: libc::clockid_t) -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        bail!("a processor clock cannot be read");
    }
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors cannot be handled in `drop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.remove_dir {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All pages in memory, including those of mapped files.
    pub(crate) resident_bytes: u64,
    /// Pages that belong to the process alone.
    pub(crate) anonymous_bytes: u64,
}
