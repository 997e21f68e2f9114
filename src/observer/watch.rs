//! One compiler under observation: what is added to its environment, and what is read
//! afterwards.

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

/// The dynamic linker's list of libraries to load before all others.
const PRELOAD: &str = "LD_PRELOAD";

/// Names the record. It is none of kache's settings and does not look like one: a build that a
/// macro starts reads those.
const RECORD: &str = "__KACHE_RECORD";

/// The directory for all of it, in the cache's.
const DIRECTORY: &str = "observer";

/// Whether a variable is there because of the observation alone.
pub fn is_own_variable(name: &str) -> bool {
    matches!(name, PRELOAD | RECORD)
}

/// Whether compilers can be observed with this directory for the cache. Changes nothing.
pub fn check(cache_dir: &Path) -> Result<(), Unavailable> {
    library::check(&cache_dir.join(DIRECTORY))
}

/// Whether the kernel reports the system calls that a program makes past the C library. To find out, this
/// program is asked for its version. The observer's files lie in `dir` meanwhile, which the caller removes.
pub fn sees_raw_calls(dir: &Path, program: &Path) -> io::Result<bool> {
    library::is_loadable(dir).map_err(io::Error::other)?;
    let watch = Observer::new(dir).try_watch(None).map_err(io::Error::other)?;
    Ok(trial::try_out(program, &Environment::default(), &watch)?.is_dispatched)
}

/// What watches compilers.
#[derive(Debug)]
pub struct Observer {
    dir: PathBuf,
    swept: OnceLock<()>,
    is_said: AtomicBool,
    next: AtomicU64,
    trials: Trials,
}

impl Observer {
    /// With its files in a directory of their own in this one, which is made when it is needed.
    pub fn new(cache_dir: &Path) -> Self {
        Observer {
            dir: cache_dir.join(DIRECTORY),
            swept: OnceLock::new(),
            is_said: AtomicBool::new(false),
            next: AtomicU64::new(0),
            trials: Trials::default(),
        }
    }

    /// Where its files lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins to watch a compile that starts these programs, each of which has to bear it.
    pub fn watch(&self, programs: &[PathBuf], env: &Environment) -> Watching {
        // A trial has a record of its own: what it asks for is none of the compile's business.
        let watch = || self.try_watch(env.get(PRELOAD));
        let mut known = Vec::new();
        for program in programs {
            match self.trials.of(program, env, &watch) {
                Ok(Trial { bears: true, is_known, .. }) => known.extend(is_known.then(|| program.clone())),
                Ok(Trial { bears: false, .. }) => {
                    return Watching::Failed(format!("`{}` does not bear it", program.display()));
                }
                Err(trial::Trouble::Unavailable(why)) => return self.unavailable(&why),
                Err(why) => return Watching::Failed(why.to_string()),
            }
        }
        match watch() {
            Ok(mut watch) => {
                watch.known = known;
                Watching::With(watch)
            }
            Err(why) => self.unavailable(&why),
        }
    }

    /// Where nobody ever observes anything, that is logged once.
    fn unavailable(&self, why: &Unavailable) -> Watching {
        if !matches!(why, Unavailable::NoLibrary) {
            return Watching::Failed(why.to_string());
        }
        if !self.is_said.swap(true, Ordering::Relaxed) {
            tracing::info!("compilers are not observed: {why}");
        }
        Watching::Without
    }

    pub(super) fn try_watch(&self, preloaded: Option<&OsStr>) -> Result<Watch, Unavailable> {
        let failed = |path: &Path, source: io::Error| Unavailable::Io { path: path.to_owned(), source };
        fs::create_dir_all(&self.dir).map_err(|error| failed(&self.dir, error))?;
        // Looked at each time: one that is missing makes every program say so.
        let library = install(&self.dir)?;
        // The record lies beside the library: a path with a space or a colon in it is none that a
        // program can be told of.
        let dir = library.parent().unwrap_or(&self.dir);
        self.swept.get_or_init(|| {
            sweep(&self.dir);
            if dir != self.dir {
                sweep(dir);
            }
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let record = dir.join(format!("record-{}-{number}", std::process::id()));
        let watch = Watch { library, preloaded: preloaded.map(ToOwned::to_owned), record, known: Vec::new() };
        // Another process of this number may have died and left one.
        let _ = fs::remove_file(&watch.record);
        record::create(&watch.record).map_err(|error| failed(&watch.record, error))?;
        Ok(watch)
    }
}

/// Removes records whose makers have died. Several may work in one directory: a call that has no
/// daemon is its own.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if maker(&entry.file_name()).is_some_and(|maker| kill(maker, None) == Err(Errno::ESRCH)) {
            // Whatever cannot be removed takes room and does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whose record has this name.
fn maker(name: &OsStr) -> Option<Pid> {
    let (process, _number) = name.to_str()?.strip_prefix("record-")?.split_once('-')?;
    Some(Pid::from_raw(process.parse().ok()?))
}

/// How a compile goes, as far as observing it is concerned.
#[derive(Debug)]
pub enum Watching {
    /// It is observed.
    With(Watch),
    /// It need not be, or there is no observer for this system: what the compiler says has to do.
    Without,
    /// It should have been, and this went wrong. Less is known of it than of others like it, so that it is
    /// not stored (KEY-04).
    Failed(String),
}

/// A compiler under observation. Its record goes when this does.
#[derive(Debug)]
pub struct Watch {
    library: PathBuf,
    preloaded: Option<OsString>,
    record: PathBuf,
    known: Vec<PathBuf>,
}

impl Watching {
    /// Where the library lies that is loaded into the compiler.
    pub fn library(&self) -> Option<&Path> {
        match self {
            Watching::With(watch) => Some(&watch.library),
            Watching::Without | Watching::Failed(_) => None,
        }
    }

    /// The programs among those that were named which are known as compilers and linkers.
    pub fn known(&self) -> &[PathBuf] {
        match self {
            Watching::With(watch) => &watch.known,
            Watching::Without | Watching::Failed(_) => &[],
        }
    }
}

impl Watch {
    /// What is to be set for the compiler alone. Libraries of the user's own stay.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut libraries = self.library.clone().into_os_string();
        if let Some(preloaded) = self.preloaded.as_ref().filter(|list| !list.is_empty()) {
            libraries.push(":");
            libraries.push(preloaded);
        }
        vec![(PRELOAD.into(), libraries), (RECORD.into(), self.record.clone().into_os_string())]
    }

    /// What was noted, as bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        record::read(&self.record)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // As for the sweep.
        let _ = fs::remove_file(&self.record);
    }
}
