//! What the configuration means for one compiler call.
//!
//! It follows from the call alone: its environment, the project's file above its directory,
//! the user's file (DMN-01). The daemon's own environment and directory never enter. What
//! goes into keys stands apart from what does not, so that nobody keys on too much or too
//! little.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::glob::{PathGlob, Pattern};
use super::key::Key;
use super::load::Config;
use super::value::{FileSharing, Progress, Value};

/// What holds for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileSettings {
    /// kache stands aside: nothing is looked up, nothing is stored.
    pub disabled: bool,
    /// What enters the key.
    pub key: KeySettings,
    /// Which directories may lie anywhere.
    pub roots: RootSettings,
    /// What a linker makes is cached.
    pub cache_executables: bool,
    /// What is being edited is compiled incrementally, and not stored.
    pub incremental_edits: bool,
    /// Incremental directories that have become useless are removed.
    pub clean_incremental: bool,
    /// What cargo would ask for is laid down before it does.
    pub seed: bool,
    /// What a restored file and the store's may share at most.
    pub sharing: FileSharing,
    /// One in how many hits is compiled again and compared; `None`: none.
    pub verify_sample: Option<NonZeroU64>,
    /// Another wrapper, for what is passed by: a bare name, or an absolute path.
    pub fallback: Option<PathBuf>,
    /// Whether a line is written for each crate.
    pub progress: Progress,
    rules: Rules,
}

/// What enters the key, and nothing else does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// `cache.key_salt`; empty is none (KEY-20).
    pub salt: Vec<u8>,
    /// `cache.key_env_vars`, in order of their names, each once (KEY-21).
    pub env_vars: Vec<VariableName>,
}

/// What decides which paths count by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootSettings {
    /// Whether paths are remapped at all (KEY-18).
    pub normalize: bool,
    /// `paths.base_dirs`: absolute, in lexical normal form, in the order they were given.
    pub base_dirs: Vec<PathBuf>,
}

/// A variable's name, or how the names of several begin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

impl VariableName {
    pub(super) fn new(text: impl Into<String>) -> Self {
        VariableName(text.into())
    }

    /// Whether it means this variable.
    pub fn means(&self, name: &OsStr) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
            None => name.as_bytes() == self.0.as_bytes(),
        }
    }

    /// The one variable that it means, unless it means several.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(&self.0)
    }
}

impl KeySettings {
    /// The variables that enter the key, with their values, in order of their names. One that
    /// is named and not set is `None`: unset, empty and set are three things (KEY-06). Names
    /// that are no text are left out where only a `*` could mean them.
    pub fn variables<'a>(
        &self,
        environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        variables(&self.env_vars, environment)
    }
}

/// What these names mean in this environment.
pub(super) fn variables<'a>(
    names: &[VariableName],
    environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
) -> Vec<(String, Option<Vec<u8>>)> {
    if names.is_empty() {
        return Vec::new();
    }
    let unset = names.iter().filter_map(|name| Some((name.exact()?.to_owned(), None)));
    let mut found: std::collections::BTreeMap<String, Option<Vec<u8>>> = unset.collect();
    for (name, value) in environment {
        if let (Some(text), true) = (name.to_str(), names.iter().any(|pattern| pattern.means(name))) {
            found.insert(text.to_owned(), Some(value.as_bytes().to_vec()));
        }
    }
    found.into_iter().collect()
}

/// What rules judge a call by.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// `--crate-name`.
    pub crate_name: &'a str,
    /// The root source file, absolute and without `.` and `..`.
    pub source: Option<&'a Path>,
    /// Every argument.
    pub argv: &'a [OsString],
    /// What a variable says in the call's environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// `cache.exclude` and `cache.bypass_*`, each with its text for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    sources: Vec<(String, PathGlob)>,
    crates: Vec<(String, Pattern)>,
    argv: Vec<(String, Pattern)>,
    env: Vec<(String, Option<Pattern>)>,
}

impl CompileSettings {
    /// Reads them off a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let salt = match value(config, Key::CacheKeySalt) {
            Some(Value::Text(salt)) => salt.clone().into_bytes(),
            _ => Vec::new(),
        };
        let base_dirs = match value(config, Key::PathsBaseDirs) {
            Some(Value::Paths(paths)) => paths.clone(),
            _ => Vec::new(),
        };
        let fallback = match value(config, Key::CacheFallback) {
            Some(Value::Program(path)) => Some(path.clone()),
            _ => None,
        };
        let verify_sample = match value(config, Key::CacheVerifySample) {
            Some(Value::Count(number)) => NonZeroU64::new(*number),
            _ => None,
        };
        let progress = match value(config, Key::LogProgress) {
            Some(Value::Progress(progress)) => *progress,
            _ => Progress::default(),
        };
        let sharing = match value(config, Key::CacheSharing) {
            Some(Value::Sharing(sharing)) => *sharing,
            _ => FileSharing::default(),
        };
        let mut env_vars: Vec<VariableName> =
            names(config, Key::CacheKeyEnvVars).iter().map(VariableName::new).collect();
        env_vars.sort();
        env_vars.dedup();
        CompileSettings {
            disabled: flag(config, Key::CacheDisabled),
            key: KeySettings { salt, env_vars },
            roots: RootSettings { normalize: flag(config, Key::PathsNormalize), base_dirs },
            cache_executables: flag(config, Key::CacheExecutables),
            incremental_edits: flag(config, Key::CacheIncrementalEdits),
            clean_incremental: flag(config, Key::CacheCleanIncremental),
            seed: flag(config, Key::CacheSeed),
            sharing,
            verify_sample,
            fallback,
            progress,
            rules: Rules::new(config),
        }
    }

    /// The rule of the configuration that this call is passed by for, as it is to be shown.
    pub fn rule_against(&self, facts: &Facts<'_>) -> Option<String> {
        let Rules { sources, crates, argv, env } = &self.rules;
        let shown = |key: Key, rule: &str| format!("`{}` has \"{rule}\"", key.name());
        if let Some(path) = facts.source
            && let Some((rule, _)) = sources.iter().find(|(_, glob)| glob.matches(path))
        {
            return Some(shown(Key::CacheExclude, rule));
        }
        let crate_name = facts.crate_name.replace('-', "_");
        if let Some((rule, _)) = crates.iter().find(|(_, name)| name.matches(crate_name.as_bytes())) {
            return Some(shown(Key::CacheBypassCrates, rule));
        }
        let is_given = |word: &Pattern| facts.argv.iter().any(|argument| word.matches(argument.as_bytes()));
        if let Some((rule, _)) = argv.iter().find(|(_, word)| is_given(word)) {
            return Some(shown(Key::CacheBypassArgv, rule));
        }
        let is_set = |rule: &str, wanted: &Option<Pattern>| {
            let name = rule.split_once('=').map_or(rule, |(name, _)| name);
            (facts.variable)(name)
                .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted.matches(value.as_bytes())))
        };
        let (rule, _) = env.iter().find(|(rule, wanted)| is_set(rule, wanted))?;
        Some(shown(Key::CacheBypassEnv, rule))
    }
}

impl Rules {
    fn new(config: &Config) -> Self {
        let words = |key: Key, text: fn(&str) -> String| -> Vec<(String, Pattern)> {
            let read = |rule: &String| Some((rule.clone(), Pattern::new(&text(rule))?));
            names(config, key).iter().filter_map(read).collect()
        };
        let sources = names(config, Key::CacheExclude).iter();
        let env = names(config, Key::CacheBypassEnv).iter().map(|rule| {
            // `NAME=` stands for an empty one, for which there is no glob of its own.
            let wanted = rule.split_once('=').map(|(_, wanted)| Pattern::new(wanted).unwrap_or_default());
            (rule.clone(), wanted)
        });
        Rules {
            sources: sources.filter_map(|rule| Some((rule.clone(), PathGlob::new(rule)?))).collect(),
            // Cargo calls packages `a-b` whose crates the compiler calls `a_b`.
            crates: words(Key::CacheBypassCrates, |rule| rule.replace('-', "_")),
            argv: words(Key::CacheBypassArgv, str::to_owned),
            env: env.collect(),
        }
    }
}

fn value(config: &Config, key: Key) -> Option<&Value> {
    config.get(key).map(|resolved| &resolved.value)
}

fn flag(config: &Config, key: Key) -> bool {
    value(config, key) == Some(&Value::Bool(true))
}

fn names(config: &Config, key: Key) -> &[String] {
    if let Some(Value::Names(names)) = value(config, key) { names } else { &[] }
}
