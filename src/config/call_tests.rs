//! Tests of the settings of a call with real files: scopes, lists that add up, and the cache.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;

/// A home directory with a project in it.
pub(in crate::config) struct Home {
    pub(in crate::config) dir: tempfile::TempDir,
    pub(in crate::config) variables: Vec<(OsString, OsString)>,
    pub(in crate::config) configs: CallConfigs,
}

impl Home {
    pub(in crate::config) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".config/kache")).unwrap();
        fs::create_dir_all(dir.path().join("work/member")).unwrap();
        let home = dir.path().as_os_str().to_owned();
        Home { dir, variables: vec![("HOME".into(), home)], configs: CallConfigs::new() }
    }

    pub(in crate::config) fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    pub(in crate::config) fn user(self, text: &str) -> Self {
        fs::write(self.path(".config/kache/config.toml"), text).unwrap();
        self
    }

    pub(in crate::config) fn project(self, text: &str) -> Self {
        fs::write(self.path("work/.kache.toml"), text).unwrap();
        self
    }

    pub(in crate::config) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(in crate::config) fn try_settings(&self) -> Result<Arc<CompileSettings>, String> {
        let environment = || self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        self.configs.settings(environment, &self.path("work/member")).map_err(|errors| errors.to_string())
    }

    pub(in crate::config) fn settings(&self) -> Arc<CompileSettings> {
        self.try_settings().unwrap()
    }

    fn rule(&self, crate_name: &str, source: &str, argv: &[&str]) -> Option<String> {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let find = |name: &str| {
            let found = self.variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone())
        };
        let source = self.path(source);
        let call = RuleInput { crate_name, source: Some(&source), argv: &argv, variable: &find };
        self.settings().rule_against(&call)
    }
}

/// Dates a file back, so that only its `ctime` is recent.
fn age(path: &Path) {
    let past = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
}

#[test]
fn without_configuration_everything_is_cached() {
    let settings = Home::new().settings();
    assert!(!settings.disabled && settings.clean_incremental && settings.roots.normalize);
    assert!(settings.incremental_edits);
    assert_eq!(settings.cache_executables, cfg!(target_os = "linux"));
    assert_eq!(settings.key, KeySettings::default());
    assert_eq!((settings.verify_sample, &settings.fallback), (None, &None));
    assert_eq!((settings.progress, settings.sharing), (ProgressMode::Auto, FileSharing::Hardlink));
}

#[test]
fn a_variable_of_the_call_overrides_the_files_for_sharing() {
    let home = Home::new().user("cache.sharing = \"reflink\"").project("cache.sharing = \"copy\"");
    assert_eq!(home.settings().sharing, FileSharing::Copy);
    assert_eq!(home.variable("KACHE_SHARING", "hardlink").settings().sharing, FileSharing::Hardlink);
}

#[test]
fn key_20_an_empty_salt_is_no_salt_and_the_salts_of_all_layers_count() {
    assert_eq!(Home::new().variable("KACHE_KEY_SALT", "").settings().key, KeySettings::default());
    assert_eq!(Home::new().user("cache.key_salt = \"\"").settings().key, KeySettings::default());
    let both = Home::new().user("cache.key_salt = \"mine\"").project("cache.key_salt = \"ours\"");
    assert_eq!(both.settings().key.salt, b"ours\nmine");
    assert_eq!(both.variable("KACHE_KEY_SALT", "now").settings().key.salt, b"now\nours\nmine");
}

#[test]
fn key_21_a_project_cannot_remove_key_variables_of_the_user() {
    let home = Home::new()
        .user("cache.key_env_vars = [\"MINE\", \"BOTH\"]\n")
        .project("cache.key_env_vars = [\"BOTH\", \"OURS_*\"]\n");
    let environment = [("OURS_1", "x"), ("BOTH", ""), ("OTHER", "y")];
    let found = home
        .settings()
        .key
        .variables(environment.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))));
    let expected = [
        ("BOTH".to_owned(), Some(Vec::new())),
        ("MINE".to_owned(), None),
        ("OURS_1".to_owned(), Some(b"x".to_vec())),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_rules_of_all_layers_apply() {
    let home = Home::new()
        .user("cache.exclude = [\"vendor/**\"]\ncache.bypass_crates = [\"my-*\"]\n")
        .project("cache.exclude = [\"gen/*.rs\"]\ncache.bypass_argv = [\"--cfg=slow\"]\ncache.bypass_env = [\"A=1*\", \"B\"]\n");
    for (source, is_excluded) in [
        ("work/gen/a.rs", true),
        ("work/member/gen/a.rs", false),
        ("anywhere/vendor/x/lib.rs", true),
        ("work/src/lib.rs", false),
    ] {
        assert_eq!(home.rule("x", source, &[]).is_some(), is_excluded, "{source}");
    }
    let crates = home.rule("my_lib", "work/src/lib.rs", &[]);
    assert_eq!(crates.as_deref(), Some("`cache.bypass_crates` has \"my-*\""));
    assert!(home.rule("x", "work/src/lib.rs", &["--cfg=slow"]).is_some());
    assert!(home.rule("x", "work/src/lib.rs", &["--cfg=slower"]).is_none());
    let home = home.variable("A", "2");
    assert!(home.rule("x", "work/src/lib.rs", &[]).is_none());
    let home = home.variable("B", "");
    assert_eq!(home.rule("x", "work/src/lib.rs", &[]).as_deref(), Some("`cache.bypass_env` has \"B\""));
}

#[test]
fn a_project_file_cannot_run_programs_remove_files_or_write_to_the_terminal() {
    for text in [
        "cache.fallback = \"/evil\"",
        "cache.clean_incremental = true",
        "cache.verify_sample = 1",
        "log.progress = \"always\"",
    ] {
        let error = Home::new().project(text).try_settings().unwrap_err();
        assert!(error.contains("cannot be set in a project's file"), "{text}: {error}");
    }
}

#[test]
fn relative_paths_and_programs_are_relative_to_their_file() {
    let home = Home::new()
        .project("paths.base_dirs = [\"../shared\", \"/abs/x/..\"]\n")
        .user("cache.fallback = \"bin/other\"\n");
    let settings = home.settings();
    assert_eq!(settings.roots.base_dirs, [home.path("shared"), PathBuf::from("/abs")]);
    assert_eq!(settings.fallback, Some(home.path(".config/kache/bin/other")));
    let settings = Home::new().variable("KACHE_FALLBACK", "sccache").settings();
    assert_eq!(settings.fallback, Some(PathBuf::from("sccache")), "the caller looks a bare name up");
}

#[test]
fn dmn_01_the_daemons_own_environment_and_directory_do_not_matter() {
    // The daemon has neither these variables nor this directory.
    let home = Home::new().variable("KACHE_DISABLED", "1").variable("KACHE_CONFIG", "mine.toml");
    fs::write(home.path("work/member/mine.toml"), "paths.normalize = false\n").unwrap();
    let settings = home.settings();
    assert!(settings.disabled && !settings.roots.normalize);
}

#[test]
fn a_corrected_mistake_is_noticed() {
    let home = Home::new().project("cache.exlude = []\n");
    assert!(home.try_settings().unwrap_err().contains("did you mean `cache.exclude`?"));
    let home = home.project("cache.exclude = []\n");
    home.settings();
}

#[test]
fn key_05_cached_settings_follow_the_files() {
    let home = Home::new().user("cache.key_salt = \"1\"\n");
    let file = home.path(".config/kache/config.toml");
    assert_eq!(home.settings().key.salt, b"1");
    // The `ctime` cannot be set, so the settings of a file that was just written are not cached.
    age(&file);
    let home = home.user("cache.key_salt = \"2\"\n");
    age(&file);
    assert_eq!(home.settings().key.salt, b"2");
    // A new file counts at once.
    let plain = Home::new();
    let first = plain.settings();
    assert!(Arc::ptr_eq(&first, &plain.settings()), "unchanged settings come from the cache");
    fs::write(plain.path("work/member/.kache.toml"), "cache.disabled = true\n").unwrap();
    assert!(plain.settings().disabled);
    fs::remove_file(plain.path("work/member/.kache.toml")).unwrap();
    assert!(!plain.settings().disabled);
}
