//! The life of a daemon's process: take the lock, open the log, listen, run the driver, end.
//!
//! The order matters. Detaching comes first, while the process has one thread. The lock is taken
//! before the sockets are created, so the daemon that holds it may remove the sockets of a dead one
//! (DMN-04). The starter gets its line once the sockets listen, or the reason why they do not.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kache_cas::{Store, StoreSettings, with_causes};
use kache_client::os::{self, DirError, Lock, LockError, StarterPipe};
use kache_client::{DaemonAddress, PROTOCOL, READY, VERSION};
use kache_serve::{Bound, ListenError};
use thiserror::Error;

use super::core::{Core, Identity};
use super::driver::{Driver, Ending};
use super::log::{self, Console};
use super::reject::RejectingListeners;
use super::serving;
use super::status::DaemonInfo;
use super::upkeep::OpenStore;
use crate::config::Settings;

/// The time that the tasks have to end before the daemon starts again in the same process.
const TASKS_END_MAX: Duration = Duration::from_secs(2);

/// The way in which the daemon's process runs.
#[derive(Debug)]
pub enum Mode {
    /// In the foreground, with the log on the terminal too.
    Foreground,
    /// Detached; the starter waits for a line on this pipe.
    Detached(StarterPipe),
}

/// The reason why a daemon does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// Another daemon of this cache directory runs already.
    #[error("a daemon is already running{}", pid_in_brackets(note.as_deref()))]
    AlreadyRunning {
        /// The note in the other daemon's lock file; its first line is the process id.
        note: Option<String>,
    },
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// Other users could write to the sockets' directory.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// One of the Unix sockets cannot be created.
    #[error("failed to listen on `{}`: {source}", path.display())]
    Listen {
        /// The path of the socket.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
    /// An address of `serve.*` is not allowed or cannot be bound.
    #[error("{}", with_causes(.0))]
    Serve(#[from] ListenError),
    /// The async runtime could not be created, or the driver failed.
    #[error("failed to run: {0}")]
    Runtime(#[source] io::Error),
}

fn pid_in_brackets(note: Option<&str>) -> String {
    note.and_then(|note| note.lines().next()).map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Runs a daemon until it leaves. It blocks for the whole life of the daemon.
pub fn run(settings: &Settings, mode: Mode) -> Result<(), RunError> {
    let (mut starter, console) = match mode {
        Mode::Foreground => (StarterPipe::none(), Console::Attached),
        Mode::Detached(starter) => (starter, Console::Detached),
    };
    let outcome = run_until_exit(settings, console, &mut starter);
    if let Err(error) = &outcome {
        tracing::error!("{error}");
        starter.write_line(&error.to_string());
    }
    outcome
}

fn run_until_exit(settings: &Settings, console: Console, starter: &mut StarterPipe) -> Result<(), RunError> {
    settings.address.prepare()?;
    let lock = take_daemon_lock(&settings.address)?;
    // The log is opened under the lock, because two daemons must not write to one file.
    let log_trouble = log::begin(&settings.log, console);
    os::raise_open_files_limit();
    os::limit_heaps();
    // If the daemon never listened, `lock` is dropped here, before the starter gets the error, so that
    // another attempt may follow at once.
    let mut ending = run_once(settings, log_trouble.clone(), starter)?;
    // Threads that hang on a disk may still write to the store. So from now on the lock is released
    // only by the end of the process, and no other daemon opens the store before.
    std::mem::forget(lock);
    while ending == Ending::Restart {
        tracing::info!("starting again");
        ending = run_once(settings, log_trouble.clone(), starter)?;
    }
    tracing::info!("gone");
    Ok(())
}

/// Runs the daemon from listening to leaving once. Everything that it creates is gone when it
/// returns, so that it can be called again.
fn run_once(
    settings: &Settings,
    log_trouble: Option<String>,
    starter: &mut StarterPipe,
) -> Result<Ending, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kached")
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(async {
        let tcp = kache_serve::bind(&settings.serve).await?;
        let control = listen_at(&settings.address.control_socket())?;
        let reapi = listen_at(&settings.address.reapi_socket())?;
        let driver = assemble(settings, tcp, reapi, log_trouble);
        tracing::info!(
            pid = std::process::id(),
            version = VERSION,
            "listening: {}",
            driver.info.listening.join(", ")
        );
        starter.write_line(READY);
        // The driver runs as a task on the threads of the tasks that send it events. On this thread,
        // waking it for each event would cost a call more than handling the event.
        let ended = tokio::spawn(driver.run(control)).await;
        ended.map_err(io::Error::from).flatten().map_err(RunError::Runtime)
    });
    match outcome {
        // The listeners must be dropped before the daemon can bind the same addresses again.
        Ok(Ending::Restart) => runtime.shutdown_timeout(TASKS_END_MAX),
        // A task that still runs is past its deadline, or hangs on a dead disk.
        _ => runtime.shutdown_background(),
    }
    outcome
}

/// Takes the lock that makes this the only daemon at its address, and notes this process in it.
fn take_daemon_lock(address: &DaemonAddress) -> Result<Lock, RunError> {
    let path = address.daemon_lock();
    let mut lock = Lock::take(&path).map_err(|error| match error {
        LockError::Held { path } => RunError::AlreadyRunning { note: Lock::read_note(&path) },
        other => RunError::Lock(other),
    })?;
    let note = format!("{}\nkache {VERSION}\n{}\n", std::process::id(), address.cache_dir().display());
    lock.note(&note).map_err(|source| RunError::Lock(LockError::Io { path, source }))?;
    Ok(lock)
}

/// Listens at a path, where a dead daemon may have left its socket. Only the holder of the daemon's
/// lock may call it.
fn listen_at(path: &Path) -> Result<UnixListener, RunError> {
    let failed = |source| RunError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Ok(()) => tracing::info!("removed the socket of an earlier daemon at `{}`", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    os::listen(&os::short_socket_path(path)?).map_err(failed)
}

fn assemble(
    settings: &Settings,
    tcp: Vec<Bound>,
    reapi: UnixListener,
    log_trouble: Option<String>,
) -> Driver {
    let identity = Identity { protocol: PROTOCOL, version: VERSION.to_owned(), pid: std::process::id() };
    let (core, first) = Core::new(identity.clone(), settings.idle_timeout);
    let (control_path, reapi_path) = (settings.address.control_socket(), settings.address.reapi_socket());
    let reapi_name = os::short_socket_path(&reapi_path).unwrap_or_else(|_| reapi_path.clone());
    let addresses =
        tcp.iter().filter_map(|bound| bound.socket.local_addr().ok()).map(|address| address.to_string());
    let info = DaemonInfo {
        identity,
        idle_timeout: settings.idle_timeout,
        cache_dir: settings.address.cache_dir().display().to_string(),
        listening: [format!("unix:{}", reapi_name.display())].into_iter().chain(addresses).collect(),
        log_file: settings.log.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        troubles: log_trouble.into_iter().collect(),
        limit_bytes: settings.max_size_bytes,
    };
    // If this fails, clients of the served protocols may wait while the store cannot be used.
    let rejecting =
        RejectingListeners::from(&tcp, &reapi).inspect_err(|error| tracing::warn!("{error}")).ok();
    Driver {
        core,
        first,
        info,
        open_store: opener(settings),
        store_dir: settings.address.cache_dir().to_owned(),
        uploads: serving::uploads(settings),
        serve: Some(serving::on(tcp, reapi)),
        rejecting,
        sockets: vec![control_path, reapi_path],
    }
}

fn opener(settings: &Settings) -> OpenStore {
    let mut store = StoreSettings::new(settings.address.cache_dir());
    store.limit_bytes = settings.max_size_bytes;
    store.reserve_bytes = settings.reserve_bytes;
    Arc::new(move || Store::open(store.clone()))
}
