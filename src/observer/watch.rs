//! Prepares the observation of one compile: the variables that load the observer into the compiler, and the
//! record that is read afterwards.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::library::{self, Unavailable, install};
use super::record;
use super::trial::{self, Trial, Trials};
use crate::invocation::Environment;

/// The variable with the libraries that the dynamic linker loads before all others.
const PRELOAD: &str = "LD_PRELOAD";

/// The variable with the path of the record. Its name does not look like a setting of kache, because a build
/// that a macro starts reads those.
const RECORD: &str = "__KACHE_RECORD";

/// The subdirectory of the cache for the library and the records.
const DIRECTORY: &str = "observer";

/// Whether a variable is set for the observation only.
pub fn is_own_variable(name: &str) -> bool {
    matches!(name, PRELOAD | RECORD)
}

/// Checks whether compilers can be observed with this cache directory. Changes nothing.
pub fn check(cache_dir: &Path) -> Result<(), Unavailable> {
    library::check(&cache_dir.join(DIRECTORY))
}

/// Whether the kernel reports the system calls that a program makes without the C library. To find out, this
/// program is asked for its version. The observer's files are in `dir` meanwhile; the caller removes them.
pub fn sees_raw_calls(dir: &Path, program: &Path) -> io::Result<bool> {
    library::is_loadable(dir).map_err(io::Error::other)?;
    let watch = Observer::new(dir).try_watch(None).map_err(io::Error::other)?;
    Ok(trial::try_out(program, &Environment::default(), &watch)?.is_dispatched)
}

/// Observes compiles. It remembers which programs can be observed, and keeps its files in one directory.
#[derive(Debug)]
pub struct Observer {
    dir: PathBuf,
    /// Set when the records of processes that have died were removed.
    swept: OnceLock<()>,
    /// Whether the log says already that there is no observer for this system.
    is_logged: AtomicBool,
    /// The number in the name of the next record.
    next: AtomicU64,
    trials: Trials,
}

impl Observer {
    /// An observer that keeps its files in a subdirectory of the cache. The directory is created by the first
    /// observation.
    pub fn new(cache_dir: &Path) -> Self {
        Observer {
            dir: cache_dir.join(DIRECTORY),
            swept: OnceLock::new(),
            is_logged: AtomicBool::new(false),
            next: AtomicU64::new(0),
            trials: Trials::default(),
        }
    }

    /// The directory of the library and the records.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins to observe a compile that starts these programs. May block for a trial of each program that was
    /// not tried before.
    pub fn watch(&self, programs: &[PathBuf], env: &Environment) -> Watching {
        // A trial has a record of its own, because its accesses are not those of the compile.
        let watch = || self.try_watch(env.get(PRELOAD));
        let mut recognised = Vec::new();
        for program in programs {
            match self.trials.of(program, env, &watch) {
                Ok(Trial { is_unaffected: true, is_recognised, .. }) => {
                    recognised.extend(is_recognised.then(|| program.clone()));
                }
                Ok(Trial { is_unaffected: false, .. }) => {
                    return Watching::Failed(format!(
                        "`{}` behaves differently with the observer",
                        program.display()
                    ));
                }
                Err(trial::TrialError::Unavailable(why)) => return self.unavailable(&why),
                Err(why) => return Watching::Failed(why.to_string()),
            }
        }
        match watch() {
            Ok(mut watch) => {
                watch.recognised = recognised;
                Watching::With(watch)
            }
            Err(why) => self.unavailable(&why),
        }
    }

    /// Logs once that this system has no observer; any other reason is a failure of this compile.
    fn unavailable(&self, why: &Unavailable) -> Watching {
        if !matches!(why, Unavailable::NoLibrary) {
            return Watching::Failed(why.to_string());
        }
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            tracing::info!("compilers are not observed: {why}");
        }
        Watching::Without
    }

    /// Creates an empty record. `preloaded` is the value that the call itself has for `LD_PRELOAD`.
    pub(super) fn try_watch(&self, preloaded: Option<&OsStr>) -> Result<Watch, Unavailable> {
        let failed = |path: &Path, source: io::Error| Unavailable::Io { path: path.to_owned(), source };
        fs::create_dir_all(&self.dir).map_err(|error| failed(&self.dir, error))?;
        // The library is looked for each time, because every program prints a warning if it is missing.
        let library = install(&self.dir)?;
        // The record lies beside the library, whose directory has a path without spaces and colons.
        let dir = library.parent().unwrap_or(&self.dir);
        self.swept.get_or_init(|| {
            sweep(&self.dir);
            if dir != self.dir {
                sweep(dir);
            }
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let record = dir.join(format!("record-{}-{number}", std::process::id()));
        let watch =
            Watch { library, preloaded: preloaded.map(ToOwned::to_owned), record, recognised: Vec::new() };
        // An earlier process with this number may have left a record.
        let _ = fs::remove_file(&watch.record);
        record::create(&watch.record).map_err(|error| failed(&watch.record, error))?;
        Ok(watch)
    }
}

/// Removes records of processes that have died. Several processes may use one directory, because a call
/// without a daemon creates its own records.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if creator(&entry.file_name()).is_some_and(|creator| kill(creator, None) == Err(Errno::ESRCH)) {
            // A record that cannot be removed only takes up space.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that created the record of this name; `None` if the name is not that of a record.
fn creator(name: &OsStr) -> Option<Pid> {
    let (process, _number) = name.to_str()?.strip_prefix("record-")?.split_once('-')?;
    Some(Pid::from_raw(process.parse().ok()?))
}

/// Whether a compile is observed.
#[derive(Debug)]
pub enum Watching {
    /// The compile is observed.
    With(Watch),
    /// The compile need not be observed, or this system has no observer. The dep-info alone says what it
    /// read.
    Without,
    /// The compile should be observed, and this is the reason why it cannot be. It is not stored, because
    /// less is known of it than of other compiles with the same key (KEY-04).
    Failed(String),
}

/// The observation of one compile. Dropping it removes the record.
#[derive(Debug)]
pub struct Watch {
    library: PathBuf,
    preloaded: Option<OsString>,
    record: PathBuf,
    /// The programs that were recognised as compilers and linkers.
    recognised: Vec<PathBuf>,
}

impl Watching {
    /// The path of the library that is loaded into the compiler; `None` if it is not observed.
    pub fn library(&self) -> Option<&Path> {
        match self {
            Watching::With(watch) => Some(&watch.library),
            Watching::Without | Watching::Failed(_) => None,
        }
    }

    /// The programs among those of [`Observer::watch`] that were recognised as compilers and linkers.
    pub fn recognised(&self) -> &[PathBuf] {
        match self {
            Watching::With(watch) => &watch.recognised,
            Watching::Without | Watching::Failed(_) => &[],
        }
    }
}

impl Watch {
    /// The variables to be set for the compiler only. The user's own libraries in `LD_PRELOAD` stay there.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut libraries = self.library.clone().into_os_string();
        if let Some(preloaded) = self.preloaded.as_ref().filter(|list| !list.is_empty()) {
            libraries.push(":");
            libraries.push(preloaded);
        }
        vec![(PRELOAD.into(), libraries), (RECORD.into(), self.record.clone().into_os_string())]
    }

    /// Reads the record; `record::parse` takes its bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        record::read(&self.record)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // If the record cannot be removed, the next `sweep` removes it.
        let _ = fs::remove_file(&self.record);
    }
}
