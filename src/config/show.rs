//! Prints the configuration as valid TOML, one key on each line, with its origin as a comment.
//!
//! Pure. No value of a key is a secret: private keys, passwords and tokens lie in files, and the
//! configuration has only their paths. Remotes can have secrets, which are not printed (NET-06).

use super::key::Key;
use super::load::Config;
use super::remotes;

/// The defaults as a commented configuration file.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Lists every key with its value and its origin, and then the remotes.
pub fn list(config: &Config) -> String {
    let lines: Vec<(String, String)> = Key::ALL.iter().map(|key| line(config, *key)).collect();
    let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    let keys: String = lines.iter().map(|(left, right)| format!("{left:width$}  # {right}\n")).collect();
    keys + &remotes::list(&config.remotes)
}

fn line(config: &Config, key: Key) -> (String, String) {
    match config.get(key) {
        Some(resolved) => {
            let origins = std::iter::once(&resolved.origin).chain(&resolved.more).map(ToString::to_string);
            let origins: Vec<String> = origins.collect();
            (format!("{} = {}", key.name(), resolved.value.to_toml()), origins.join(", "))
        }
        None => (format!("# {}", key.name()), "not set".to_owned()),
    }
}

/// Returns the values of a key of remotes, such as `remote.url`, one for each remote that sets it. Secrets are not
/// shown. `None` if there is no such key.
pub fn values_of_remotes(config: &Config, name: &str) -> Option<Vec<String>> {
    remotes::values_of(&config.remotes, name)
}

/// Returns one value without quotes, for scripts; `None` if the key has no value.
pub fn value_of(config: &Config, key: Key) -> Option<String> {
    config.get(key).map(|resolved| resolved.value.to_string())
}
