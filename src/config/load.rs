//! Combines the four layers of the configuration: environment variables, the project's file, the
//! user's file, and the defaults.
//!
//! Each key takes its value from the first layer that sets it; for additive keys the values of all
//! layers add up. Every value has its origin. This module reads the two files; the caller passes
//! the variables and the current directory. It does not know what the values are used for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kache_client::os::is_trusted_owner;

use super::diagnostic::{ConfigError, ConfigErrors, Site};
use super::env_vars::KACHE_CONFIG;
use super::environment::{Environment, XdgDirs};
use super::file::{self, ConfigFile, FileKind};
use super::glob::{self, PathGlob};
use super::key::{Key, Scope};
use super::layer::{self, Layer, shorten};
use super::remotes::{self, RemoteEntry, Remotes};
use super::show::DEFAULT_FILE;
use super::value::{Value, ValueKind};
use crate::roles::normalise;

/// The name of a project's file, which is searched in the current directory and upwards.
pub const PROJECT_FILE: &str = ".kache.toml";

/// The origin of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable, by its name.
    Variable(&'static str),
    /// A line of a file.
    File {
        /// The path of the file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A default that is compiled in.
    #[default]
    Default,
}

/// A key's value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The value; for an additive key the sum of all layers.
    pub value: Value,
    /// The first layer that sets the key.
    pub origin: Origin,
    /// The other layers that add to the value of an additive key.
    pub more: Vec<Origin>,
}

/// The inputs of [`load`].
#[derive(Clone, Debug)]
pub struct ConfigSources {
    /// The variables of the process, or of the call, that is configured.
    pub environment: Environment,
    /// The directory where the search for a project's file begins, and to which relative paths in
    /// variables are relative. `None` for a daemon, which has all its settings in variables.
    pub current_dir: Option<PathBuf>,
}

/// A loaded configuration: all keys that have a value.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: BTreeMap<Key, Resolved>,
    /// The remotes, which have keys of their own.
    pub(super) remotes: Remotes,
    /// The user's directories, for defaults that depend on other keys.
    pub(super) dirs: XdgDirs,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Variable(name) => f.write_str(name),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

impl Config {
    /// Returns a key's value and origin; `None` if no layer sets the key.
    pub fn get(&self, key: Key) -> Option<&Resolved> {
        self.values.get(&key)
    }

    /// Adds a value from the next layer. The layers are added in order, so a value that is there
    /// already stays, unless the key is additive.
    fn add(&mut self, key: Key, value: Value, origin: Origin) {
        match self.values.get_mut(&key) {
            None => {
                self.values.insert(key, Resolved { value, origin, more: Vec::new() });
            }
            Some(resolved) if key.is_additive() && origin != Origin::Default => {
                resolved.value.add(value);
                resolved.more.push(origin);
            }
            Some(_) => {}
        }
    }
}

/// Loads the configuration, or returns all mistakes in it.
pub fn load(sources: &ConfigSources) -> Result<Config, ConfigErrors> {
    let mut loader = ConfigLoader {
        config: Config { dirs: sources.environment.xdg_dirs(), ..Config::default() },
        remotes: Vec::new(),
        errors: Vec::new(),
    };
    // In the order of precedence: a value of an earlier layer stays.
    loader.variables(&sources.environment, sources.current_dir.as_deref());
    if let Some(current_dir) = &sources.current_dir {
        loader.project(current_dir);
    }
    loader.user(&sources.environment, sources.current_dir.as_deref());
    loader.defaults();
    loader.remotes(&sources.environment, sources.current_dir.as_deref());
    if loader.errors.is_empty() { Ok(loader.config) } else { Err(ConfigErrors(loader.errors)) }
}

/// Returns the path of the user's file, which need not exist. A relative path in `KACHE_CONFIG` is
/// relative to `current_dir`. `None` if the user's directories are not known.
pub fn user_file(environment: &Environment, current_dir: Option<&Path>) -> Option<PathBuf> {
    let named = environment.get(KACHE_CONFIG).map(|path| match current_dir {
        Some(dir) => dir.join(path),
        None => PathBuf::from(path),
    });
    named.or_else(|| Some(environment.xdg_dirs().config?.join("kache/config.toml")))
}

struct ConfigLoader {
    config: Config,
    /// The remotes of the user's file.
    remotes: Vec<RemoteEntry>,
    errors: Vec<ConfigError>,
}

impl ConfigLoader {
    fn variables(&mut self, environment: &Environment, current_dir: Option<&Path>) {
        for key in Key::ALL {
            let variable = key.variable();
            let Some(text) = environment.get(variable) else { continue };
            let value = match (key.kind(), text.to_str()) {
                // A path need not be UTF-8.
                (ValueKind::Path, _) => Some(Value::Path(text.into())),
                (ValueKind::Program, _) => Some(Value::Program(text.into())),
                (kind, Some(text)) => kind.read(text),
                (_, None) => None,
            };
            let site = Site::Variable(variable.name);
            match value {
                Some(value) => {
                    let base = PathBase { dir: current_dir, is_project: false };
                    let value = self.anchored(value, key.kind(), &base, &site);
                    self.config.add(*key, value, Origin::Variable(variable.name));
                }
                None => self.errors.push(wrong_variable(*key, site, &text.to_string_lossy())),
            }
        }
    }

    /// Reads the nearest project file. Files in directories above it belong to other projects.
    fn project(&mut self, current_dir: &Path) {
        for dir in current_dir.ancestors() {
            let path = dir.join(PROJECT_FILE);
            match file::read(&path, FileKind::Regular) {
                Ok(Some(file)) => return self.project_file(&path, &file),
                Ok(None) => {}
                Err(error) => return self.errors.push(error),
            }
        }
    }

    fn project_file(&mut self, path: &Path, file: &ConfigFile) {
        // Anyone can put a file into `/tmp`, above the checkouts that others have there.
        if !is_trusted_owner(file.owner_uid) {
            let what = format!(
                "this file belongs to user {}, who could make your builds use another cache",
                file.owner_uid
            );
            let remedy = "remove it, or change its owner with `chown`".to_owned();
            return self.errors.push(ConfigError { site: Site::WholeFile(path.to_owned()), what, remedy });
        }
        let layer = layer::read(&file.text, path);
        let has_dir = layer.settings.iter().any(|setting| setting.key == Key::CacheDir);
        let (allowed, refused): (Vec<_>, Vec<_>) =
            layer.settings.into_iter().partition(|setting| match setting.key.scope() {
                Scope::Project => true,
                Scope::ProjectWithDir => has_dir,
                Scope::User => false,
            });
        self.errors.extend(refused.iter().map(|setting| refuse(path, setting)));
        // A checkout must not decide where results come from or go to, nor what a server is sent.
        self.errors.extend(layer.remotes.iter().map(|(remote, column)| refuse_remote(remote, *column)));
        self.layer(path, true, Layer { settings: allowed, remotes: Vec::new(), errors: layer.errors });
    }

    fn user(&mut self, environment: &Environment, current_dir: Option<&Path>) {
        let is_named = environment.get(KACHE_CONFIG).is_some();
        let Some(path) = user_file(environment, current_dir) else { return };
        match file::read(&path, FileKind::Any) {
            Ok(Some(file)) => self.layer(&path, false, layer::read(&file.text, &path)),
            Ok(None) if is_named => self.errors.push(ConfigError {
                site: Site::Variable(KACHE_CONFIG.name),
                what: format!("there is no file `{}`", path.display()),
                remedy: "create it, for example with `kache config default`, or unset the variable"
                    .to_owned(),
            }),
            Ok(None) => {}
            Err(error) => self.errors.push(error),
        }
    }

    fn layer(&mut self, path: &Path, is_project: bool, layer: Layer) {
        self.errors.extend(layer.errors);
        let base = PathBase { dir: path.parent(), is_project };
        for setting in layer.settings {
            let (line, column) = (setting.line, setting.column);
            let site = Site::File { path: path.to_owned(), line, column };
            let value = self.anchored(setting.value, setting.key.kind(), &base, &site);
            self.config.add(setting.key, value, Origin::File { path: path.to_owned(), line });
        }
        for (mut remote, column) in layer.remotes {
            self.anchor_remote(&mut remote, base.dir, column);
            self.remotes.push(remote);
        }
    }

    /// Combines the remotes with the variables, whose paths are relative to the current directory.
    fn remotes(&mut self, environment: &Environment, current_dir: Option<&Path>) {
        let mut remotes = remotes::combine(std::mem::take(&mut self.remotes), environment);
        if let Some(first) = remotes.entries.first_mut() {
            self.anchor_remote(first, current_dir, 1);
        }
        self.config.remotes = remotes;
    }

    fn anchor_remote(&mut self, remote: &mut RemoteEntry, base: Option<&Path>, column: usize) {
        let site = site_of_remote(remote, column);
        for path in remote.paths_mut() {
            *path = self.absolute(std::mem::take(path), base, &site);
        }
    }

    fn defaults(&mut self) {
        // The default file has no paths. Defaults that depend on the machine follow below.
        let layer = layer::read(DEFAULT_FILE, Path::new("default.toml"));
        debug_assert!(layer.errors.is_empty(), "{:?}", layer.errors);
        for setting in layer.settings {
            self.config.add(setting.key, setting.value, Origin::Default);
        }
        if let Some(cache) = &self.config.dirs.cache {
            let dir = cache.join("kache");
            self.config.add(Key::CacheDir, Value::Path(dir), Origin::Default);
        }
        // Only on Linux can kache identify the link toolchain as KEY-15 requires.
        let links = Value::Bool(cfg!(target_os = "linux"));
        self.config.add(Key::CacheExecutables, links, Origin::Default);
    }

    /// Makes paths and globs absolute, so that they no longer depend on their file or directory.
    fn anchored(&mut self, value: Value, kind: ValueKind, base: &PathBase<'_>, site: &Site) -> Value {
        match value {
            Value::Path(path) => Value::Path(self.absolute(path, base.dir, site)),
            // A bare name stays as it is: it is looked up in the caller's `PATH`.
            Value::Program(path) if path.components().nth(1).is_some() || path.is_absolute() => {
                Value::Program(self.absolute(path, base.dir, site))
            }
            Value::Paths(paths) => {
                let paths = paths.into_iter().map(|path| self.absolute(path, base.dir, site));
                Value::Paths(paths.map(|path| normalise(&path)).collect())
            }
            Value::Names(globs) if kind == ValueKind::PathGlobs => {
                Value::Names(globs.into_iter().map(|glob| self.absolute_glob(glob, base, site)).collect())
            }
            other => other,
        }
    }

    /// Makes a path absolute: `~` is the home directory, other paths are relative to `base`.
    fn absolute(&mut self, path: PathBuf, base: Option<&Path>, site: &Site) -> PathBuf {
        let anchor =
            |rest: &Path, base: Option<&Path>| Some(base.filter(|base| base.is_absolute())?.join(rest));
        let absolute = match path.strip_prefix("~") {
            Ok(rest) => anchor(rest, self.config.dirs.home.as_deref()),
            Err(_) if path.is_absolute() => Some(path.clone()),
            Err(_) => anchor(&path, base),
        };
        absolute.unwrap_or_else(|| {
            let what = format!("the relative path `{}` cannot be resolved here", path.display());
            let remedy = "write a path that begins with `/`".to_owned();
            self.errors.push(ConfigError { site: site.clone(), what, remedy });
            path
        })
    }

    /// Makes a glob absolute. In a project's file it is relative to the file. In a variable and in
    /// the user's file, which apply to all projects, it may match in any directory.
    fn absolute_glob(&mut self, text: String, base: &PathBase<'_>, site: &Site) -> String {
        // In the user's file and in variables, `gen/*.rs` becomes `/**/gen/*.rs`. A glob that begins
        // with `..` has no meaning there; `anchor` makes it one that cannot be parsed, which is then
        // reported.
        let absolute = match (text.strip_prefix("~/"), base) {
            (Some(rest), _) => self.config.dirs.home.as_deref().and_then(|home| glob::anchor(rest, home)),
            (None, PathBase { is_project: true, dir: Some(dir) }) => glob::anchor(&text, dir),
            (None, _) if text.starts_with('/') || text.starts_with("..") => {
                glob::anchor(&text, Path::new("/"))
            }
            (None, _) => Some(format!("/**/{text}")),
        };
        match absolute {
            Some(absolute) if PathGlob::new(&absolute).is_some() => absolute,
            _ => {
                let what = format!("the relative glob `{}` cannot be resolved here", shorten(&text));
                let remedy = "write a glob that begins with `/` or `**/`".to_owned();
                self.errors.push(ConfigError { site: site.clone(), what, remedy });
                text
            }
        }
    }
}

/// The directory to which relative paths of a layer are relative.
struct PathBase<'a> {
    dir: Option<&'a Path>,
    is_project: bool,
}

fn wrong_variable(key: Key, site: Site, text: &str) -> ConfigError {
    let what = format!("invalid value for `{}`: \"{}\"", key.name(), shorten(text));
    let mut remedy = format!("expected {}", key.kind().expected());
    if key == Key::LogFileLevel && text.contains('/') {
        let path_variable = Key::LogFile.variable().name;
        remedy = format!("this is the level, such as `info`; {path_variable} is the path of the log file");
    }
    ConfigError { site, what, remedy }
}

fn site_of_remote(remote: &RemoteEntry, column: usize) -> Site {
    match &remote.origin {
        Origin::File { path, line } => Site::File { path: path.clone(), line: *line, column },
        Origin::Variable(name) => Site::Variable(name),
        Origin::Default => Site::Nowhere,
    }
}

fn refuse_remote(remote: &RemoteEntry, column: usize) -> ConfigError {
    let what = "a remote cannot be set in a project's file".to_owned();
    let remedy = "set it in your own configuration file".to_owned();
    ConfigError { site: site_of_remote(remote, column), what, remedy }
}

fn refuse(path: &Path, setting: &layer::Setting) -> ConfigError {
    let (line, column) = (setting.line, setting.column);
    let (what, remedy) = match setting.key.scope() {
        Scope::ProjectWithDir => (
            "limits a store that other projects share, so a project's file cannot set it alone",
            "set `cache.dir` in this file as well, or set the limit in your own configuration file",
        ),
        _ => ("cannot be set in a project's file", "set it in your own configuration file"),
    };
    let what = format!("`{}` {what}", setting.key.name());
    ConfigError { site: Site::File { path: path.to_owned(), line, column }, what, remedy: remedy.to_owned() }
}
