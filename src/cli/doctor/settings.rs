//! The configuration: mistakes, and what in it keeps kache from working.

use std::path::Path;

use super::finding::{Finding, State};
use crate::compile::find_program;
use crate::config::{
    Config, ConfigErrors, DECLARATION_FILE, Declared, Environment, Key, Settings, Sources, Value, env_vars,
    load,
};

const SUBJECT: &str = "configuration";

/// What is found, and the settings if there are any.
pub(super) fn look(
    environment: &Environment,
    current_dir: Option<&Path>,
) -> (Option<Settings>, Vec<Finding>) {
    let sources = Sources { environment: environment.clone(), current_dir: current_dir.map(Path::to_owned) };
    let config = load(&sources);
    let settings = config.as_ref().map_err(Clone::clone).and_then(Settings::new);
    let mut findings = match &settings {
        Ok(_) => vec![Finding::new(State::Good, SUBJECT, "there are no mistakes in it")],
        Err(errors) => mistakes(errors),
    };
    findings.extend(environment.unknown().iter().map(|name| {
        let what = format!("there is no variable `{name}`");
        Finding::new(State::Warning, SUBJECT, what).hint("docs/configuration.md lists them all")
    }));
    findings.extend(config.iter().flat_map(standing_aside));
    findings.extend(config.iter().filter_map(|config| fallback(config, environment)));
    if !environment.may_have_daemon() {
        let what = "KACHE_DAEMON=never: every compile opens the store for itself, which takes longer";
        findings.push(Finding::new(State::Warning, SUBJECT, what));
    }
    findings.extend(current_dir.and_then(declarations));
    (settings.ok(), findings)
}

/// A call that meets any of them runs its compiler uncached.
fn mistakes(errors: &ConfigErrors) -> Vec<Finding> {
    errors.0.iter().map(|error| Finding::new(State::Wrong, SUBJECT, error.to_string())).collect()
}

fn standing_aside(config: &Config) -> Vec<Finding> {
    let origin = |key: Key| config.get(key).map(|resolved| resolved.origin.to_string()).unwrap_or_default();
    let is =
        |key: Key, value: bool| config.get(key).is_some_and(|resolved| resolved.value == Value::Bool(value));
    let mut findings = Vec::new();
    if is(Key::CacheDisabled, true) {
        let what = format!("kache stands aside: `cache.disabled` is set by {}", origin(Key::CacheDisabled));
        findings.push(Finding::new(State::Warning, SUBJECT, what));
    }
    if is(Key::PathsNormalize, false) {
        let what = format!(
            "results are found again at the same place only: `paths.normalize` is off by {}",
            origin(Key::PathsNormalize)
        );
        findings.push(Finding::new(State::Note, SUBJECT, what));
    }
    findings
}

/// Another wrapper that cannot be called. Builds go on without it and only the log says so, since
/// a wrapper adds nothing to what its compiler says.
fn fallback(config: &Config, environment: &Environment) -> Option<Finding> {
    let named = config.get(Key::CacheFallback)?;
    let Value::Program(program) = &named.value else { return None };
    if find_program(program, environment.get(env_vars::PATH)).is_some() {
        return None;
    }
    let what = format!(
        "there is no program `{}`, and `cache.fallback` names it ({})",
        program.display(),
        named.origin
    );
    let hint = "install it, or unset `cache.fallback`: compilers are called without it";
    Some(Finding::new(State::Warning, SUBJECT, what).hint(hint))
}

/// The declarations of the package here. A mistake in them makes it uncacheable.
fn declarations(dir: &Path) -> Option<Finding> {
    let path = dir.join(DECLARATION_FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(Finding::new(State::Wrong, SUBJECT, format!("{}: {error}", path.display())));
        }
        Ok(text) => text,
    };
    let errors = Declared::read(&text, &path).err()?;
    Some(Finding::new(State::Wrong, SUBJECT, errors.to_string()).hint("the package is not cached until then"))
}
