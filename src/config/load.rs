//! All layers, put together: environment, the project's file, the user's file, defaults.
//!
//! Each key takes its value from the first layer that sets it, and remembers which. It reads
//! files and nothing else; variables are handed to it, and so is the directory it starts
//! from. What the values are good for is `settings`' business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kache_client::os::is_trusted_owner;

use super::diagnostic::{ConfigError, ConfigErrors, Site};
use super::env_vars::KACHE_CONFIG;
use super::environment::{Environment, XdgDirs};
use super::file::{self, ConfigFile, FileKind};
use super::key::{Key, Scope};
use super::layer::{self, Layer, shorten};
use super::show::DEFAULT_FILE;
use super::value::{Kind, Value};

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
        self.values.entry(key).or_insert(Resolved { value, origin });
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
    loading.user(&sources.environment);
    loading.defaults();
    if loading.errors.is_empty() { Ok(loading.config) } else { Err(ConfigErrors(loading.errors)) }
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
                (kind, Some(text)) => kind.read(text),
                (_, None) => None,
            };
            let site = Site::Variable(variable.name);
            match value {
                Some(value) => {
                    let value = self.anchored(value, current_dir, &site);
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
        self.layer(path, Layer { settings: allowed, errors: layer.errors });
    }

    fn user(&mut self, environment: &Environment) {
        let named = environment.get(KACHE_CONFIG).map(PathBuf::from);
        let usual = || self.config.dirs.config.as_ref().map(|dir| dir.join("kache/config.toml"));
        let Some(path) = named.clone().or_else(usual) else { return };
        match file::read(&path, FileKind::Any) {
            Ok(Some(file)) => self.layer(&path, layer::read(&file.text, &path)),
            Ok(None) if named.is_some() => self.errors.push(ConfigError {
                site: Site::Variable(KACHE_CONFIG.name),
                what: format!("there is no file `{}`", path.display()),
                remedy: "create it, for instance with `kache config default`, or unset the variable"
                    .to_owned(),
            }),
            Ok(None) => {}
            Err(error) => self.errors.push(error),
        }
    }

    fn layer(&mut self, path: &Path, layer: Layer) {
        self.errors.extend(layer.errors);
        for setting in layer.settings {
            let (line, column) = (setting.line, setting.column);
            let site = Site::File { path: path.to_owned(), line, column };
            let value = self.anchored(setting.value, path.parent(), &site);
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
    }

    /// Makes a path absolute: `~` is the home directory, anything else counts from `base`.
    fn anchored(&mut self, value: Value, base: Option<&Path>, site: &Site) -> Value {
        let Value::Path(path) = value else { return value };
        let anchor =
            |rest: &Path, base: Option<&Path>| Some(base.filter(|base| base.is_absolute())?.join(rest));
        let absolute = match path.strip_prefix("~") {
            Ok(rest) => anchor(rest, self.config.dirs.home.as_deref()),
            Err(_) if path.is_absolute() => Some(path.clone()),
            Err(_) => anchor(&path, base),
        };
        match absolute {
            Some(absolute) => Value::Path(absolute),
            None => {
                let what = format!("it is not known what `{}` counts from", path.display());
                let remedy = "write a path that begins with `/`".to_owned();
                self.errors.push(ConfigError { site: site.clone(), what, remedy });
                Value::Path(path)
            }
        }
    }
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
