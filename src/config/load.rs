//! All layers, put together: environment, the project's file, the user's file, defaults.
//!
//! Each key takes its value from the first layer that sets it, and remembers which; a few
//! take what all of them say. It reads files and nothing else; variables are handed to it, and so is the directory it starts
//! from. What the values are good for is `settings`' business.

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
use super::show::DEFAULT_FILE;
use super::value::{Kind, Value};
use crate::roles::normalise;

/// A project's file, looked for in the current directory and its parents.
pub const PROJECT_FILE: &str = ".kache.toml";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Variable(&'static str),
    /// A file's line.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from one.
        line: usize,
    },
    /// What is compiled in.
    Default,
}

/// A key's value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
    /// Where more of it came from: some keys add up.
    pub more: Vec<Origin>,
}

/// What is read, and from where.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The documented variables.
    pub environment: Environment,
    /// Where to look for a project's file from, and what relative paths in variables count
    /// from. `None` for a daemon that was handed everything in variables.
    pub current_dir: Option<PathBuf>,
}

/// Every key that has a value.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: BTreeMap<Key, Resolved>,
    /// The user's directories, for what depends on other keys.
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
    /// A key's value, if it has one.
    pub fn get(&self, key: Key) -> Option<&Resolved> {
        self.values.get(&key)
    }

    fn set_if_open(&mut self, key: Key, value: Value, origin: Origin) {
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

/// Reads everything, or says everything that is wrong.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut loading = Loading {
        config: Config { dirs: sources.environment.xdg_dirs(), ..Config::default() },
        errors: Vec::new(),
    };
    loading.variables(&sources.environment, sources.current_dir.as_deref());
    if let Some(current_dir) = &sources.current_dir {
        loading.project(current_dir);
    }
    loading.user(&sources.environment, sources.current_dir.as_deref());
    loading.defaults();
    if loading.errors.is_empty() { Ok(loading.config) } else { Err(ConfigErrors(loading.errors)) }
}

/// Where the user's file is, or would be. A relative path counts from the directory that the
/// question is asked in.
pub fn user_file(environment: &Environment, current_dir: Option<&Path>) -> Option<PathBuf> {
    let named = environment.get(KACHE_CONFIG).map(|path| match current_dir {
        Some(dir) => dir.join(path),
        None => PathBuf::from(path),
    });
    named.or_else(|| Some(environment.xdg_dirs().config?.join("kache/config.toml")))
}

struct Loading {
    config: Config,
    errors: Vec<ConfigError>,
}

impl Loading {
    fn variables(&mut self, environment: &Environment, current_dir: Option<&Path>) {
        for key in Key::ALL {
            let variable = key.variable();
            let Some(text) = environment.get(variable) else { continue };
            let value = match (key.kind(), text.to_str()) {
                // A path need not be text.
                (Kind::Path, _) => Some(Value::Path(text.into())),
                (Kind::Program, _) => Some(Value::Program(text.into())),
                (kind, Some(text)) => kind.read(text),
                (_, None) => None,
            };
            let site = Site::Variable(variable.name);
            match value {
                Some(value) => {
                    let base = Base { dir: current_dir, is_project: false };
                    let value = self.anchored(value, key.kind(), &base, &site);
                    self.config.set_if_open(*key, value, Origin::Variable(variable.name));
                }
                None => self.errors.push(wrong_variable(*key, site, &text.to_string_lossy())),
            }
        }
    }

    /// The nearest project's file, and only that one: what lies above it is another project.
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
        if !is_trusted_owner(file.owner_uid) {
            let what = format!(
                "this file belongs to user {}, who could have your builds use another cache",
                file.owner_uid
            );
            let remedy = "remove it, or make it yours with `chown`".to_owned();
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
        self.layer(path, true, Layer { settings: allowed, errors: layer.errors });
    }

    fn user(&mut self, environment: &Environment, current_dir: Option<&Path>) {
        let is_named = environment.get(KACHE_CONFIG).is_some();
        let Some(path) = user_file(environment, current_dir) else { return };
        match file::read(&path, FileKind::Any) {
            Ok(Some(file)) => self.layer(&path, false, layer::read(&file.text, &path)),
            Ok(None) if is_named => self.errors.push(ConfigError {
                site: Site::Variable(KACHE_CONFIG.name),
                what: format!("there is no file `{}`", path.display()),
                remedy: "create it, for instance with `kache config default`, or unset the variable"
                    .to_owned(),
            }),
            Ok(None) => {}
            Err(error) => self.errors.push(error),
        }
    }

    fn layer(&mut self, path: &Path, is_project: bool, layer: Layer) {
        self.errors.extend(layer.errors);
        let base = Base { dir: path.parent(), is_project };
        for setting in layer.settings {
            let (line, column) = (setting.line, setting.column);
            let site = Site::File { path: path.to_owned(), line, column };
            let value = self.anchored(setting.value, setting.key.kind(), &base, &site);
            self.config.set_if_open(setting.key, value, Origin::File { path: path.to_owned(), line });
        }
    }

    fn defaults(&mut self) {
        let layer = layer::read(DEFAULT_FILE, Path::new("default.toml"));
        debug_assert!(layer.errors.is_empty(), "{:?}", layer.errors);
        for setting in layer.settings {
            self.config.set_if_open(setting.key, setting.value, Origin::Default);
        }
        if let Some(cache) = &self.config.dirs.cache {
            let dir = cache.join("kache");
            self.config.set_if_open(Key::CacheDir, Value::Path(dir), Origin::Default);
        }
        // What a linker makes is identified as KEY-15 asks on Linux only.
        let links = Value::Bool(cfg!(target_os = "linux"));
        self.config.set_if_open(Key::CacheExecutables, links, Origin::Default);
    }

    /// Makes everything that holds a path independent of where it was said.
    fn anchored(&mut self, value: Value, kind: Kind, base: &Base<'_>, site: &Site) -> Value {
        match value {
            Value::Path(path) => Value::Path(self.absolute(path, base.dir, site)),
            // A bare name is looked up in the `PATH` of whoever calls.
            Value::Program(path) if path.components().nth(1).is_some() || path.is_absolute() => {
                Value::Program(self.absolute(path, base.dir, site))
            }
            Value::Paths(paths) => {
                let paths = paths.into_iter().map(|path| self.absolute(path, base.dir, site));
                Value::Paths(paths.map(|path| normalise(&path)).collect())
            }
            Value::Names(globs) if kind == Kind::PathGlobs => {
                Value::Names(globs.into_iter().map(|glob| self.absolute_glob(glob, base, site)).collect())
            }
            other => other,
        }
    }

    /// `~` is the home directory, anything else counts from `base`.
    fn absolute(&mut self, path: PathBuf, base: Option<&Path>, site: &Site) -> PathBuf {
        let anchor =
            |rest: &Path, base: Option<&Path>| Some(base.filter(|base| base.is_absolute())?.join(rest));
        let absolute = match path.strip_prefix("~") {
            Ok(rest) => anchor(rest, self.config.dirs.home.as_deref()),
            Err(_) if path.is_absolute() => Some(path.clone()),
            Err(_) => anchor(&path, base),
        };
        absolute.unwrap_or_else(|| {
            let what = format!("it is not known what `{}` counts from", path.display());
            let remedy = "write a path that begins with `/`".to_owned();
            self.errors.push(ConfigError { site: site.clone(), what, remedy });
            path
        })
    }

    /// In a project's file a glob counts from the file. In a variable and in the user's file,
    /// which are for all projects, it counts from anywhere.
    fn absolute_glob(&mut self, text: String, base: &Base<'_>, site: &Site) -> String {
        let absolute = match (text.strip_prefix("~/"), base) {
            (Some(rest), _) => self.config.dirs.home.as_deref().and_then(|home| glob::anchor(rest, home)),
            (None, Base { is_project: true, dir: Some(dir) }) => glob::anchor(&text, dir),
            (None, _) if text.starts_with('/') || text.starts_with("..") => {
                glob::anchor(&text, Path::new("/"))
            }
            (None, _) => Some(format!("/**/{text}")),
        };
        match absolute {
            Some(absolute) if PathGlob::new(&absolute).is_some() => absolute,
            _ => {
                let what = format!("it is not known what `{}` counts from", shorten(&text));
                let remedy = "write a glob that begins with `/` or `**/`".to_owned();
                self.errors.push(ConfigError { site: site.clone(), what, remedy });
                text
            }
        }
    }
}

/// What relative paths count from.
struct Base<'a> {
    dir: Option<&'a Path>,
    is_project: bool,
}

fn wrong_variable(key: Key, site: Site, text: &str) -> ConfigError {
    let what = format!("`{}` cannot be \"{}\"", key.name(), shorten(text));
    let mut remedy = format!("expected {}", key.kind().expected());
    if key == Key::LogFileLevel && text.contains('/') {
        remedy =
            format!("it is how much is logged, `info` say; where to is {}", Key::LogFile.variable().name);
    }
    ConfigError { site, what, remedy }
}

fn refuse(path: &Path, setting: &layer::Setting) -> ConfigError {
    let (line, column) = (setting.line, setting.column);
    let (what, remedy) = match setting.key.scope() {
        Scope::ProjectWithDir => (
            "limits a store that other projects share",
            "set `cache.dir` here as well, or set this in your own configuration file",
        ),
        _ => ("is the user's to set, not a project's", "set it in your own configuration file"),
    };
    let what = format!("`{}` {what}", setting.key.name());
    ConfigError { site: Site::File { path: path.to_owned(), line, column }, what, remedy: remedy.to_owned() }
}
