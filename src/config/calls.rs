//! Settings for calls, remembered for as long as nothing they come from has changed.
//!
//! A build makes hundreds of calls from a few directories with the same variables. A call
//! that was seen before costs one stat for each file that was read or might have been
//! there. A file that was young when it was read is read again: two writes within one tick
//! of the filesystem's clock look alike (KEY-05).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::compile::CompileSettings;
use super::diagnostic::ConfigErrors;
use super::env_vars::may_matter;
use super::environment::Environment;
use super::load::{PROJECT_FILE, Sources, load, user_file};

/// How many combinations of a directory and variables are remembered. A build of a large
/// workspace has one for each package from the registry.
const CALLS_MAX: usize = 4096;

/// The coarsest clock of a filesystem.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// What is known about calls.
#[derive(Debug, Default)]
pub struct CallConfigs {
    known: Mutex<HashMap<Origin, Entry>>,
}

/// What a call's settings follow from, besides files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    variables: Vec<(OsString, OsString)>,
    cwd: PathBuf,
}

#[derive(Clone, Debug)]
struct Entry {
    answer: Answer,
    /// Every file that counted, or would have if it had been there.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What holds for a call, or everything that is wrong with its configuration.
type Answer = Result<Arc<CompileSettings>, Arc<ConfigErrors>>;

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl CallConfigs {
    /// Nothing known yet.
    pub fn new() -> Self {
        CallConfigs::default()
    }

    /// What holds for a call with this environment in this directory.
    pub fn settings<'a>(
        &self,
        environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
        cwd: &Path,
    ) -> Answer {
        let ours = environment.into_iter().filter(|(name, _)| may_matter(name));
        let mut variables: Vec<_> = ours.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        variables.sort_unstable();
        let origin = Origin { variables, cwd: cwd.to_owned() };
        if let Some(answer) = self.remembered(&origin) {
            return answer;
        }
        let entry = read(&origin);
        let answer = entry.answer.clone();
        if entry.is_settled() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= CALLS_MAX {
                known.clear();
            }
            known.insert(origin, entry);
        }
        answer
    }

    fn remembered(&self, origin: &Origin) -> Option<Answer> {
        let entry = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(origin)?.clone();
        entry.files.iter().all(|(path, stamp)| Stamp::of(path) == *stamp).then_some(entry.answer)
    }
}

/// The stamps are taken before the files are read, so that a change in between is noticed at
/// the next call.
fn read(origin: &Origin) -> Entry {
    let environment = Environment::of_call(origin.variables.iter().cloned());
    let stamped = |path: PathBuf| {
        let stamp = Stamp::of(&path);
        (path, stamp)
    };
    let mut files = Vec::new();
    for dir in origin.cwd.ancestors() {
        files.push(stamped(dir.join(PROJECT_FILE)));
        // Above the nearest project's file nothing counts.
        if files.last().is_some_and(|(_, stamp)| stamp.is_some()) {
            break;
        }
    }
    files.extend(user_file(&environment, Some(&origin.cwd)).map(stamped));
    let sources = Sources { environment, current_dir: Some(origin.cwd.clone()) };
    let answer = load(&sources).map(|config| Arc::new(CompileSettings::new(&config))).map_err(Arc::new);
    Entry { answer, files }
}

impl Entry {
    /// Whether a later change to any file shows in its stamp.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = i64::try_from(now.saturating_sub(CLOCK_GRAIN).as_secs()).unwrap_or(i64::MAX);
        self.files.iter().filter_map(|(_, stamp)| *stamp).all(|stamp| {
            // A clock that was set back makes files of the future: they are read every time.
            stamp.mtime.0 < limit && stamp.ctime.0 < limit
        })
    }
}

impl Stamp {
    /// `None` where nothing can be seen. What cannot be examined now and cannot be read then
    /// is an error in the answer, and stays one until it can be seen.
    fn of(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        Some(Stamp {
            dev: found.dev(),
            ino: found.ino(),
            size: found.size(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
        })
    }
}
