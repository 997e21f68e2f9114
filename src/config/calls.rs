//! A cache of the settings of calls, which holds them until a configuration file changes.
//!
//! A build makes hundreds of calls from a few directories with the same variables. For a call
//! like an earlier one, the cache only examines each configuration file, and each path where
//! one could appear, with one `stat`. Settings from a file that was changed just now are not
//! cached: two writes within one tick of the filesystem's clock leave the same dates (KEY-05).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::compile::CompileSettings;
use super::diagnostic::ConfigErrors;
use super::env_vars::may_matter;
use super::environment::Environment;
use super::load::{ConfigSources, PROJECT_FILE, load, user_file};
use super::remotes::RemoteEntry;

/// The most calls in the cache. A build of a large workspace has one for each package from the
/// registry, because each is compiled in its own directory.
const CALLS_MAX: usize = 4096;

/// The most variables that files may name.
const NAMES_MAX: usize = 64;

/// The coarsest resolution of dates on any filesystem.
const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// The settings of earlier calls.
#[derive(Default)]
pub struct CallConfigs {
    cache: Mutex<HashMap<CallIdentity, CachedSettings>>,
    /// The variables that the files of calls have named, sorted.
    named: Mutex<Arc<[String]>>,
}

/// Everything that decides a call's settings, besides the contents of files.
#[derive(Clone, PartialEq, Eq, Hash)]
struct CallIdentity {
    variables: Vec<(OsString, OsString)>,
    cwd: PathBuf,
}

#[derive(Clone)]
struct CachedSettings {
    settings: SettingsResult,
    /// The variables that the files name.
    variables: Vec<String>,
    /// Every file that was read, and every path where a file would have been read.
    files: Vec<(PathBuf, Option<FileVersion>)>,
}

/// The settings of a call, or all mistakes in its configuration.
type SettingsResult = Result<Arc<CompileSettings>, Arc<ConfigErrors>>;

/// The metadata by which a change of a configuration file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// Shows no variable, because some are secrets.
impl fmt::Debug for CallConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallConfigs").finish_non_exhaustive()
    }
}

impl CallIdentity {
    fn new<'a>(
        environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
        named: &[String],
        cwd: &Path,
    ) -> CallIdentity {
        let is_named = |name: &OsStr| named.iter().any(|other| name == other.as_str());
        let relevant = environment.filter(|(name, _)| may_matter(name) || is_named(name));
        let mut variables: Vec<_> =
            relevant.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // The order of variables in an environment has no meaning.
        variables.sort_unstable();
        CallIdentity { variables, cwd: cwd.to_owned() }
    }
}

impl CallConfigs {
    /// Returns a cache that holds no configuration yet.
    pub fn new() -> Self {
        CallConfigs::default()
    }

    /// Returns the settings of a call with this environment in this directory. Reads files, so
    /// it may block; the lock is not held meanwhile.
    pub fn settings<'a, V: Iterator<Item = (&'a OsStr, &'a OsStr)>>(
        &self,
        environment: impl Fn() -> V,
        cwd: &Path,
    ) -> SettingsResult {
        let mut named = Arc::clone(&self.named.lock());
        let mut call = CallIdentity::new(environment(), &named, cwd);
        if let Some(settings) = self.cached(&call) {
            return settings;
        }
        let mut entry = read(&call);
        if let Some(more) = self.add_names(&entry, &named) {
            // The file names a variable whose value was not looked at.
            named = more;
            call = CallIdentity::new(environment(), &named, cwd);
            entry = read(&call);
        }
        let settings = entry.settings.clone();
        if entry.is_cacheable() {
            let mut cache = self.cache.lock();
            // Emptying the whole cache is rare and simple: a build has few different environments.
            if cache.len() >= CALLS_MAX {
                cache.clear();
            }
            cache.insert(call, entry);
        }
        settings
    }

    /// Remembers the names of variables that these settings depend on. Returns all names if one of them was
    /// not known.
    fn add_names(&self, entry: &CachedSettings, known: &[String]) -> Option<Arc<[String]>> {
        if entry.variables.iter().all(|name| known.contains(name)) {
            return None;
        }
        let mut named = self.named.lock();
        let mut all = named.to_vec();
        all.extend(entry.variables.iter().cloned());
        all.sort_unstable();
        all.dedup();
        // Each name comes from a file of the user, who has few such files; still, nothing grows for ever.
        all.truncate(NAMES_MAX);
        *named = all.into();
        Some(Arc::clone(&named))
    }

    /// Returns the cached settings if no configuration file changed since they were read.
    fn cached(&self, call: &CallIdentity) -> Option<SettingsResult> {
        let entry = self.cache.lock().get(call)?.clone();
        let is_current = entry.files.iter().all(|(path, version)| FileVersion::of(path) == *version);
        is_current.then_some(entry.settings)
    }
}

/// Reads the configuration of a call. The metadata of each file is taken before the file is read,
/// so that a change in between is noticed at the next call.
fn read(call: &CallIdentity) -> CachedSettings {
    let environment = Environment::of_call(call.variables.iter().cloned());
    let with_version = |path: PathBuf| {
        let version = FileVersion::of(&path);
        (path, version)
    };
    let mut files = Vec::new();
    for dir in call.cwd.ancestors() {
        files.push(with_version(dir.join(PROJECT_FILE)));
        // Only the nearest project file counts, so the directories above it do not matter.
        if files.last().is_some_and(|(_, version)| version.is_some()) {
            break;
        }
    }
    files.extend(user_file(&environment, Some(&call.cwd)).map(with_version));
    let sources = ConfigSources { environment, current_dir: Some(call.cwd.clone()) };
    let config = load(&sources);
    let entries = config.iter().flat_map(|config| &config.remotes.entries);
    let variables = entries.clone().flat_map(RemoteEntry::variables).map(str::to_owned).collect();
    files.extend(entries.flat_map(RemoteEntry::files).cloned().map(with_version));
    let settings = config.map(|config| Arc::new(CompileSettings::new(&config))).map_err(Arc::new);
    CachedSettings { settings, variables, files }
}

impl CachedSettings {
    /// Whether every later change of a file will change its dates.
    fn is_cacheable(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = i64::try_from(now.saturating_sub(CLOCK_GRAIN).as_secs()).unwrap_or(i64::MAX);
        self.files.iter().filter_map(|(_, version)| *version).all(|version| {
            // This also excludes dates in the future, as left by a clock that was set back.
            version.mtime.0 < limit && version.ctime.0 < limit
        })
    }
}

impl FileVersion {
    /// Returns the metadata; `None` if the file does not exist or cannot be examined. If reading
    /// it then fails, that error is cached until the file can be examined.
    fn of(path: &Path) -> Option<FileVersion> {
        let metadata = fs::metadata(path).ok()?;
        Some(FileVersion {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
