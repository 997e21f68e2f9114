//! Tests of the layers with real files in a temporary directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_serve::MetricsAddress;

use super::*;

/// A home directory with a project in it, and variables.
struct Sandbox {
    dir: tempfile::TempDir,
    variables: Vec<(String, OsString)>,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home/.config/kache")).unwrap();
        fs::create_dir_all(dir.path().join("home/work/deep/er")).unwrap();
        let home = dir.path().join("home").into_os_string();
        Sandbox { dir, variables: vec![("HOME".to_owned(), home)] }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn user_file(self, text: &str) -> Self {
        fs::write(self.home().join(".config/kache/config.toml"), text).unwrap();
        self
    }

    fn project_file(self, text: &str) -> Self {
        fs::write(self.home().join("work/.kache.toml"), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let environment = Environment::new(self.variables.clone());
        load(&ConfigSources { environment, current_dir: Some(self.home().join("work/deep/er")) })
    }

    fn settings(&self) -> Settings {
        Settings::new(&self.load().unwrap()).unwrap()
    }

    fn error(&self) -> String {
        let text = match self.load() {
            Ok(config) => Settings::new(&config).unwrap_err().to_string(),
            Err(errors) => errors.to_string(),
        };
        text.replace(&*self.home().to_string_lossy(), "HOME")
    }
}

fn text_of(config: &Config, key: Key) -> (String, String) {
    let resolved = config.get(key).unwrap();
    (resolved.value.to_string(), resolved.origin.to_string())
}

#[test]
fn the_first_layer_that_sets_a_key_wins() {
    let own = Sandbox::new();
    let default = own.load().unwrap();
    assert_eq!(text_of(&default, Key::CacheMaxSize), ("20GiB".into(), "default".into()));

    let user = own.user_file("[cache]\nmax_size = \"3GiB\"\n");
    let (value, origin) = text_of(&user.load().unwrap(), Key::CacheMaxSize);
    assert_eq!(value, "3GiB");
    assert!(origin.ends_with(".config/kache/config.toml:2"), "{origin}");

    let project = user.project_file("cache.dir = \"here\"\ncache.max_size = \"2GiB\"\n");
    let config = project.load().unwrap();
    let (value, origin) = text_of(&config, Key::CacheMaxSize);
    assert_eq!(value, "2GiB");
    assert!(origin.ends_with("work/.kache.toml:2"), "{origin}");
    let here = project.home().join("work/here").display().to_string();
    assert_eq!(text_of(&config, Key::CacheDir).0, here, "a path is relative to its file");

    let variable = project.variable("KACHE_MAX_SIZE", "1GiB");
    let config = variable.load().unwrap();
    assert_eq!(text_of(&config, Key::CacheMaxSize), ("1GiB".into(), "KACHE_MAX_SIZE".into()));
}

#[test]
fn only_the_nearest_project_file_counts() {
    let sandbox = Sandbox::new().project_file("cache.dir = \"/far\"\n");
    fs::write(sandbox.home().join("work/deep/.kache.toml"), "cache.dir = \"/near\"\n").unwrap();
    assert_eq!(text_of(&sandbox.load().unwrap(), Key::CacheDir).0, "/near");
}

#[test]
fn paths_are_made_absolute() {
    let sandbox = Sandbox::new()
        .user_file("log.file = \"~/logs/k.log\"\nserve.tokens = \"tokens\"\n")
        .variable("KACHE_CACHE_DIR", "relative");
    let config = sandbox.load().unwrap();
    let path = |key| PathBuf::from(text_of(&config, key).0);
    assert_eq!(path(Key::LogFile), sandbox.home().join("logs/k.log"));
    assert_eq!(path(Key::ServeTokens), sandbox.home().join(".config/kache/tokens"));
    assert_eq!(path(Key::CacheDir), sandbox.home().join("work/deep/er/relative"));
}

#[test]
fn a_project_file_cannot_set_the_users_keys() {
    for (text, expected) in [
        (
            "[serve]\nlisten = \"0.0.0.0:1\"",
            "HOME/work/.kache.toml:2:10: `serve.listen` cannot be set in a project's file\nhint: set it in your own \
             configuration file",
        ),
        (
            "cache.max_size = \"2MiB\"",
            "HOME/work/.kache.toml:1:18: `cache.max_size` limits a store that other projects share, so a project's file \
             cannot set it alone\nhint: set `cache.dir` in this file as well, or set the limit in your own configuration \
             file",
        ),
    ] {
        assert_eq!(Sandbox::new().project_file(text).error(), expected);
    }
}

#[test]
fn a_project_file_of_another_user_is_not_read() {
    // Only root can change the owner of a file, and for root all owners are trusted (see
    // `is_trusted_owner`), so this test checks less for root.
    let sandbox = Sandbox::new().project_file("cache.dir = \"/evil\"\n");
    let path = sandbox.home().join("work/.kache.toml");
    match std::os::unix::fs::chown(&path, Some(12345), None) {
        Ok(()) => assert_eq!(text_of(&sandbox.load().unwrap(), Key::CacheDir).0, "/evil"),
        Err(_) => assert!(kache_client::os::is_trusted_owner(kache_client::os::own_uid())),
    }
}

#[test]
fn mistakes_in_variables_are_errors() {
    let sandbox = Sandbox::new()
        .variable("KACHE_MAX_SIZE", "lots")
        .variable("KACHE_LOG_FILE", "/var/log/kache.log")
        .variable("KACHE_SERVE_READ_ONLY", "maybe");
    insta::assert_snapshot!(sandbox.error(), @r#"
    KACHE_MAX_SIZE: invalid value for `cache.max_size`: "lots"
    hint: expected a number of bytes or a size with its unit, such as "20GiB" or "500MB"
    KACHE_LOG_FILE: invalid value for `log.file_level`: "/var/log/kache.log"
    hint: this is the level, such as `info`; KACHE_LOG_FILE_PATH is the path of the log file
    KACHE_SERVE_READ_ONLY: invalid value for `serve.read_only`: "maybe"
    hint: expected true or false
    "#);
}

#[test]
fn a_file_that_is_missing_or_unreadable_is_an_error() {
    let missing = Sandbox::new().variable("KACHE_CONFIG", "/nonexistent/kache.toml");
    assert!(missing.error().starts_with("KACHE_CONFIG: there is no file `/nonexistent/kache.toml`\nhint: "));

    let sandbox = Sandbox::new();
    let path = sandbox.home().join(".config/kache/config.toml");
    fs::write(&path, b"[cache]\n# \xff\n").unwrap();
    assert!(sandbox.error().starts_with("HOME/.config/kache/config.toml:2:3: this is not UTF-8\nhint: "));
    fs::write(&path, vec![b'#'; CONFIG_BYTES_MAX as usize + 1]).unwrap();
    assert!(sandbox.error().contains("larger than CONFIG_BYTES_MAX"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(sandbox.error().contains("cannot be read"));
}

#[test]
fn a_pipe_in_a_checkout_does_not_block() {
    let sandbox = Sandbox::new();
    let path = sandbox.home().join("work/.kache.toml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(sandbox.error(), "HOME/work/.kache.toml: this is not a file\nhint: move it away");
}

#[test]
fn settings_are_checked_against_each_other() {
    let halves = Sandbox::new().user_file("[serve.tls]\ncert = \"/c.pem\"\n");
    assert!(
        halves
            .error()
            .contains("config.toml:2:1: `serve.tls.cert` is set but `serve.tls.key` is not\nhint: ")
    );
    let small = Sandbox::new().variable("KACHE_MAX_SIZE", "1KiB");
    assert!(small.error().starts_with("KACHE_MAX_SIZE: `cache.max_size` is less than CACHE_BYTES_MIN"));
}

#[test]
fn without_a_home_there_must_be_a_cache_directory() {
    let homeless = load(&ConfigSources { environment: Environment::default(), current_dir: None }).unwrap();
    let error = Settings::new(&homeless).unwrap_err().to_string();
    assert!(
        error.contains("no cache directory is known") && error.contains("set KACHE_CACHE_DIR"),
        "{error}"
    );
}

#[test]
fn a_daemon_that_serves_tcp_has_no_idle_timeout_by_default() {
    let idle = |sandbox: Sandbox| sandbox.settings().idle_timeout.map(|time| time.as_secs());
    assert_eq!(idle(Sandbox::new()), Some(600));
    assert_eq!(idle(Sandbox::new().variable("KACHE_DAEMON_IDLE_TIMEOUT", "0")), None);
    assert_eq!(idle(Sandbox::new().variable("KACHE_SERVE_LISTEN", "127.0.0.1:0")), None);
    let told = Sandbox::new()
        .variable("KACHE_SERVE_LISTEN", "127.0.0.1:0")
        .variable("KACHE_DAEMON_IDLE_TIMEOUT", "60");
    assert_eq!(idle(told), Some(60));
}

#[test]
fn dmn_01_settings_survive_the_way_through_variables_to_the_daemon() {
    let sandbox = Sandbox::new().user_file(
        "[cache]\nmax_size = \"1500MB\"\nreserve = 0\n[log]\nlevel = \"trace\"\n[serve]\nlisten = \"[::1]:9092\"\n\
         metrics = \"off\"\nhosts = [\"a.example\", \"b\"]\nread_only = true\ntrust_uploads = true\ntokens = \"t\"\nanonymous_reads = true\n\
         allow_insecure = true\ninsecure_address = \"[::1]:9092\"\nhttp_listen = \"localhost:0\"\n[serve.tls]\n\
         cert = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n",
    );
    let before = sandbox.settings();
    assert_eq!(before.serve.metrics, MetricsAddress::Off);
    // The daemon has no home directory, no current directory and no file, only these variables.
    let sources = ConfigSources { environment: Environment::new(before.to_variables()), current_dir: None };
    let after = Settings::new(&load(&sources).unwrap()).unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(after.idle_timeout, None, "a default without a timeout stays without one");

    let plain = Sandbox::new().settings();
    let sources = ConfigSources { environment: Environment::new(plain.to_variables()), current_dir: None };
    let after = Settings::new(&load(&sources).unwrap()).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{after:?}"));
    assert_eq!(after.idle_timeout, Some(Duration::from_secs(600)));
}

#[test]
fn the_default_file_is_correct_and_complete() {
    let layer = layer::read(DEFAULT_FILE, Path::new("default.toml"));
    assert_eq!(layer.errors, []);
    let uncommented: String = DEFAULT_FILE
        .lines()
        .map(|line| {
            if line.starts_with('#') && !line.starts_with("# ") { line.trim_start_matches('#') } else { line }
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let all = layer::read(&uncommented, Path::new("default.toml"));
    assert_eq!(all.errors, [], "the examples are correct too");
    for key in Key::ALL {
        assert!(all.settings.iter().any(|setting| setting.key == *key), "{} is not described", key.name());
        let depends_on_system = *key == Key::CacheExecutables;
        let needs_default = !matches!(key.kind(), ValueKind::Path | ValueKind::Address | ValueKind::Program)
            && !depends_on_system;
        let has_default = layer.settings.iter().any(|setting| setting.key == *key);
        assert_eq!(has_default, needs_default, "{}", key.name());
    }
}

#[test]
fn the_list_is_toml_that_means_the_same() {
    let sandbox = Sandbox::new().user_file("serve.hosts = [\"a\"]\nlog.file = \"/a \\\"b\\\"\\\\c\"\n");
    let config = sandbox.load().unwrap();
    let again = layer::read(&list(&config), Path::new("list"));
    assert_eq!(again.errors, []);
    for setting in again.settings {
        assert_eq!(config.get(setting.key).unwrap().value, setting.value);
    }
}

#[test]
fn the_reference_page_is_current() {
    let committed = include_str!("../../docs/configuration.md");
    assert!(committed == reference_page(), "run `kache config docs > docs/configuration.md`");
}
