//! The settings of one compiler call.
//!
//! They depend on the call alone: its environment, the project's file in or above its directory,
//! and the user's file. The daemon's own environment and directory have no influence (DMN-01).
//! Settings that enter keys have a struct of their own, so that a key has all of them and no
//! others.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::glob::{PathGlob, WordGlob};
use super::key::Key;
use super::load::Config;
use super::remotes::{RemoteSettings, remotes};
use super::value::{FileSharing, ProgressMode, Value};

/// The settings of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileSettings {
    /// `cache.disabled`: kache looks nothing up and stores nothing.
    pub disabled: bool,
    /// The settings that enter the key.
    pub key: KeySettings,
    /// The settings for directories whose paths count by role.
    pub roots: RootSettings,
    /// `cache.cache_executables`: linked outputs are cached.
    pub cache_executables: bool,
    /// `cache.incremental_edits`: edited crates are compiled incrementally and not stored.
    pub incremental_edits: bool,
    /// `cache.clean_incremental`: kache removes incremental directories that are of no more use.
    pub clean_incremental: bool,
    /// `cache.seed`: kache restores units before cargo asks for them.
    pub seed: bool,
    /// `cache.sharing`: how a restored file and the store may share bytes at most.
    pub sharing: FileSharing,
    /// `cache.verify_sample`: one in this many hits is compiled again and compared; `None`: no
    /// hit is.
    pub verify_sample: Option<NonZeroU64>,
    /// `cache.fallback`, the wrapper for calls that kache bypasses: a bare name or an absolute
    /// path.
    pub fallback: Option<PathBuf>,
    /// `log.progress`: whether kache writes a line for each crate.
    pub progress: ProgressMode,
    /// The remotes, in the order in which they are asked; none with `KACHE_LOCAL_ONLY`.
    pub remotes: Arc<[RemoteSettings]>,
    /// Why remotes are not used, a sentence for each reason. None of them shows a secret.
    pub remote_problems: Vec<String>,
    rules: BypassRules,
}

/// The settings that enter the key. No other setting does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// `cache.key_salt`; an empty salt is no salt (KEY-20).
    pub salt: Vec<u8>,
    /// `cache.key_env_vars`, sorted and without duplicates (KEY-21).
    pub env_vars: Vec<VariableName>,
}

/// The settings that decide which paths count by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootSettings {
    /// `paths.normalize`: paths are remapped (KEY-18).
    pub normalize: bool,
    /// `paths.base_dirs`: absolute, in lexical normal form, in the order of the configuration.
    pub base_dirs: Vec<PathBuf>,
}

/// The name of a variable, or a prefix of names with a `*` at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

impl VariableName {
    pub(super) fn new(text: impl Into<String>) -> Self {
        VariableName(text.into())
    }

    /// Whether a variable has this name or prefix.
    pub fn matches(&self, name: &OsStr) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
            None => name.as_bytes() == self.0.as_bytes(),
        }
    }

    /// The name; `None` for a prefix.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(&self.0)
    }
}

impl KeySettings {
    /// Returns the variables that enter the key with their values, sorted by name. The value of
    /// a named variable that is not set is `None`: unset, empty and set are three different
    /// things (KEY-06). A variable whose name is not UTF-8 is left out, because only a prefix
    /// could match it.
    pub fn variables<'a>(
        &self,
        environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        variables(&self.env_vars, environment)
    }
}

/// Looks the names up in an environment, for [`KeySettings::variables`] and declarations.
pub(super) fn variables<'a>(
    names: &[VariableName],
    environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
) -> Vec<(String, Option<Vec<u8>>)> {
    if names.is_empty() {
        return Vec::new();
    }
    // A named variable that is not set enters the key as unset, so that setting it later changes
    // the key. For a prefix there is no such entry: any number of names could be unset.
    let unset = names.iter().filter_map(|name| Some((name.exact()?.to_owned(), None)));
    let mut found: std::collections::BTreeMap<String, Option<Vec<u8>>> = unset.collect();
    for (name, value) in environment {
        if let (Some(text), true) = (name.to_str(), names.iter().any(|pattern| pattern.matches(name))) {
            found.insert(text.to_owned(), Some(value.as_bytes().to_vec()));
        }
    }
    found.into_iter().collect()
}

/// The parts of a call that `cache.exclude` and `cache.bypass_*` are matched against.
#[derive(Clone, Copy)]
pub struct RuleInput<'a> {
    /// The value of `--crate-name`.
    pub crate_name: &'a str,
    /// The root source file, absolute and without `.` and `..`.
    pub source: Option<&'a Path>,
    /// The arguments of the compiler call.
    pub argv: &'a [OsString],
    /// Looks a variable up in the call's environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// `cache.exclude` and `cache.bypass_*`. Each rule has its text as configured, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct BypassRules {
    sources: Vec<(String, PathGlob)>,
    crates: Vec<(String, WordGlob)>,
    argv: Vec<(String, WordGlob)>,
    env: Vec<(String, Option<WordGlob>)>,
}

impl CompileSettings {
    /// Takes the settings of a call from a configuration.
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
            _ => ProgressMode::default(),
        };
        let sharing = match value(config, Key::CacheSharing) {
            Some(Value::Sharing(sharing)) => *sharing,
            _ => FileSharing::default(),
        };
        let mut env_vars: Vec<VariableName> =
            names(config, Key::CacheKeyEnvVars).iter().map(VariableName::new).collect();
        env_vars.sort();
        env_vars.dedup();
        let (remotes, remote_problems) = remotes(config);
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
            remotes,
            remote_problems,
            rules: BypassRules::new(config),
        }
    }

    /// Returns the first rule that makes kache bypass this call, as text for the report; `None`
    /// if no rule matches.
    pub fn rule_against(&self, call: &RuleInput<'_>) -> Option<String> {
        let BypassRules { sources, crates, argv, env } = &self.rules;
        let shown = |key: Key, rule: &str| format!("`{}` has \"{rule}\"", key.name());
        if let Some(path) = call.source
            && let Some((rule, _)) = sources.iter().find(|(_, glob)| glob.matches(path))
        {
            return Some(shown(Key::CacheExclude, rule));
        }
        // The rules are normalised in the same way, so that the name of a package matches its crate.
        let crate_name = call.crate_name.replace('-', "_");
        if let Some((rule, _)) = crates.iter().find(|(_, name)| name.matches(crate_name.as_bytes())) {
            return Some(shown(Key::CacheBypassCrates, rule));
        }
        let is_given = |word: &WordGlob| call.argv.iter().any(|argument| word.matches(argument.as_bytes()));
        if let Some((rule, _)) = argv.iter().find(|(_, word)| is_given(word)) {
            return Some(shown(Key::CacheBypassArgv, rule));
        }
        let is_set = |rule: &str, wanted: &Option<WordGlob>| {
            let name = rule.split_once('=').map_or(rule, |(name, _)| name);
            (call.variable)(name)
                .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted.matches(value.as_bytes())))
        };
        let (rule, _) = env.iter().find(|(rule, wanted)| is_set(rule, wanted))?;
        Some(shown(Key::CacheBypassEnv, rule))
    }
}

impl BypassRules {
    fn new(config: &Config) -> Self {
        let words = |key: Key, text: fn(&str) -> String| -> Vec<(String, WordGlob)> {
            let read = |rule: &String| Some((rule.clone(), WordGlob::new(&text(rule))?));
            names(config, key).iter().filter_map(read).collect()
        };
        let sources = names(config, Key::CacheExclude).iter();
        let env = names(config, Key::CacheBypassEnv).iter().map(|rule| {
            // `NAME=` matches an empty value. A glob cannot be read from an empty text, but the
            // default glob matches it.
            let wanted = rule.split_once('=').map(|(_, wanted)| WordGlob::new(wanted).unwrap_or_default());
            (rule.clone(), wanted)
        });
        BypassRules {
            sources: sources.filter_map(|rule| Some((rule.clone(), PathGlob::new(rule)?))).collect(),
            // The crate of a package `a-b` is `a_b`; both names are accepted.
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
