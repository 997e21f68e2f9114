//! A daemon from its first instruction to its last: detached, alone, listening, gone.
//!
//! The order matters. Detaching comes first, while there is one thread. The lock comes before
//! the sockets, so whoever holds it may remove what a dead daemon left (DMN-04). The starter
//! is told once the sockets listen, or told why they never will.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kache_cas::{Store, StoreSettings};
use kache_client::os::{self, Announcer, DirError, Lock, LockError};
use kache_client::{PROTOCOL, Place, READY, VERSION};
use thiserror::Error;

use super::core::{Core, Identity};
use super::driver::{Driver, Ending};
use super::log::{self, Console};
use super::serve::listen::{self, Bound, ListenError};
use super::serving;
use super::status::Facts;
use super::turning_away::TurningAway;
use super::upkeep::{OpenStore, in_full};
use crate::config::Settings;

/// How long the tasks of one life may take to notice that it is over, before the next one.
const TASKS_END_MAX: Duration = Duration::from_secs(2);

/// How it runs.
#[derive(Debug)]
pub enum Mode {
    /// In the foreground, for whoever started it to watch and to stop.
    Foreground,
    /// On its own; the starter is told how it went.
    Detached(Announcer),
}

/// Why it does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is one already.
    #[error("a daemon is already running{}", pid_in_words(note.as_deref()))]
    AlreadyRunning {
        /// What it noted about itself.
        note: Option<String>,
    },
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// The sockets' directory is not ours alone.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A socket cannot be had.
    #[error("failed to listen on `{}`: {source}", path.display())]
    Listen {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An address of `serve.*` is refused or cannot be had.
    #[error("{}", in_full(.0))]
    Serve(#[from] ListenError),
    /// The runtime failed.
    #[error("failed to run: {0}")]
    Runtime(#[source] io::Error),
}

fn pid_in_words(note: Option<&str>) -> String {
    note.and_then(|note| note.lines().next()).map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Runs a daemon to its end.
pub fn run(settings: &Settings, mode: Mode) -> Result<(), RunError> {
    let (mut announcer, console) = match mode {
        Mode::Foreground => (Announcer::nobody(), Console::Attached),
        Mode::Detached(announcer) => (announcer, Console::Detached),
    };
    let outcome = run_announced(settings, console, &mut announcer);
    if let Err(error) = &outcome {
        tracing::error!("{error}");
        announcer.say(&error.to_string());
    }
    outcome
}

fn run_announced(settings: &Settings, console: Console, announcer: &mut Announcer) -> Result<(), RunError> {
    settings.place.prepare()?;
    let lock = be_alone(&settings.place)?;
    let log_trouble = log::begin(&settings.log, console);
    os::raise_open_files_limit();
    os::bound_heaps();
    // One that never listened lets its lock go before it says so: the next try may follow at once.
    let mut ending = run_once(settings, log_trouble.clone(), announcer)?;
    // From here on, whoever waits for the lock waits for threads that may still write, too: only
    // the end of the process lets it go.
    std::mem::forget(lock);
    while ending == Ending::ToBeginAgain {
        tracing::info!("beginning again");
        ending = run_once(settings, log_trouble.clone(), announcer)?;
    }
    tracing::info!("gone");
    Ok(())
}

/// One life between listening and leaving; nothing of it is left for the next one.
fn run_once(
    settings: &Settings,
    log_trouble: Option<String>,
    announcer: &mut Announcer,
) -> Result<Ending, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kached")
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(async {
        let tcp = listen::bind(&settings.serve).await?;
        let control = listen_at(&settings.place.control_socket())?;
        let reapi = listen_at(&settings.place.reapi_socket())?;
        let driver = assemble(settings, tcp, reapi, log_trouble);
        tracing::info!(
            pid = std::process::id(),
            version = VERSION,
            "listening: {}",
            driver.facts.listening.join(", ")
        );
        announcer.say(READY);
        // Among the tasks that bring it events, not on this thread: one thread that wakes another
        // for each of them costs a call more than what is done about them.
        let ended = tokio::spawn(driver.run(control)).await;
        ended.map_err(io::Error::from).flatten().map_err(RunError::Runtime)
    });
    match outcome {
        // The next life wants the same addresses, so their listeners must be gone.
        Ok(Ending::ToBeginAgain) => runtime.shutdown_timeout(TASKS_END_MAX),
        // What still runs is past its deadline, or hangs on a dead disk.
        _ => runtime.shutdown_background(),
    }
    outcome
}

/// Holds the lock that makes this the only daemon of its place.
fn be_alone(place: &Place) -> Result<Lock, RunError> {
    let path = place.daemon_lock();
    let mut lock = Lock::take(&path).map_err(|error| match error {
        LockError::Held { path } => RunError::AlreadyRunning { note: Lock::read_note(&path) },
        other => RunError::Lock(other),
    })?;
    let note = format!("{}\nkache {VERSION}\n{}\n", std::process::id(), place.cache_dir().display());
    lock.note(&note).map_err(|source| RunError::Lock(LockError::Io { path, source }))?;
    Ok(lock)
}

/// Listens where a dead daemon may have left its socket. Only the holder of the lock may
/// call it.
fn listen_at(path: &Path) -> Result<UnixListener, RunError> {
    let failed = |source| RunError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Ok(()) => tracing::info!("removed what a daemon before left at `{}`", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    os::listen(&os::reachable(path)?).map_err(failed)
}

fn assemble(
    settings: &Settings,
    tcp: Vec<Bound>,
    reapi: UnixListener,
    log_trouble: Option<String>,
) -> Driver {
    let identity = Identity { protocol: PROTOCOL, version: VERSION.to_owned(), pid: std::process::id() };
    let (core, first) = Core::new(identity.clone(), settings.idle_timeout);
    let (control_path, reapi_path) = (settings.place.control_socket(), settings.place.reapi_socket());
    let reapi_name = os::reachable(&reapi_path).unwrap_or_else(|_| reapi_path.clone());
    let addresses =
        tcp.iter().filter_map(|bound| bound.socket.local_addr().ok()).map(|address| address.to_string());
    let facts = Facts {
        identity,
        idle_timeout: settings.idle_timeout,
        cache_dir: settings.place.cache_dir().display().to_string(),
        listening: [format!("unix:{}", reapi_name.display())].into_iter().chain(addresses).collect(),
        log_file: settings.log.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        troubles: log_trouble.into_iter().collect(),
        limit_bytes: settings.max_size_bytes,
    };
    // Without it clients may wait while the store cannot be used; that is all.
    let turning_away = TurningAway::from(&tcp, &reapi).inspect_err(|error| tracing::warn!("{error}")).ok();
    Driver {
        core,
        first,
        facts,
        open_store: opener(settings),
        store_dir: settings.place.cache_dir().to_owned(),
        uploads: serving::uploads(settings),
        serve: Some(serving::on(tcp, reapi)),
        turning_away,
        sockets: vec![control_path, reapi_path],
    }
}

fn opener(settings: &Settings) -> OpenStore {
    let mut store = StoreSettings::new(settings.place.cache_dir());
    store.limit_bytes = settings.max_size_bytes;
    store.reserve_bytes = settings.reserve_bytes;
    Arc::new(move || Store::open(store.clone()))
}
