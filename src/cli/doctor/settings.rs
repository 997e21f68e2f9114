//! Checks the configuration: mistakes, and correct settings that keep kache from caching.

use std::path::{Path, PathBuf};

use super::finding::{DoctorFinding, Severity};
use crate::compile::find_program;
use crate::config::{
    self, Config, ConfigErrors, ConfigSources, DECLARATION_FILE, Declared, Environment, Key, RemoteSettings,
    Settings, Value, env_vars, load,
};

const SUBJECT: &str = "configuration";

const REMOTE: &str = "remote";

/// Returns the settings with the findings; `None` if the configuration has a mistake.
pub(super) fn check(
    environment: &Environment,
    current_dir: Option<&Path>,
) -> (Option<Settings>, Vec<DoctorFinding>) {
    let sources =
        ConfigSources { environment: environment.clone(), current_dir: current_dir.map(Path::to_owned) };
    let config = load(&sources);
    let settings = config.as_ref().map_err(Clone::clone).and_then(Settings::new);
    let mut findings = match &settings {
        Ok(_) => vec![DoctorFinding::new(Severity::Good, SUBJECT, "no mistakes found")],
        Err(errors) => mistakes(errors),
    };
    findings.extend(environment.unknown().iter().map(|name| {
        let what = format!("unknown variable `{name}`");
        DoctorFinding::new(Severity::Warning, SUBJECT, what).hint("docs/configuration.md lists all variables")
    }));
    findings.extend(config.iter().flat_map(caching_turned_off));
    findings.extend(config.iter().filter_map(|config| fallback(config, environment)));
    findings.extend(config.iter().flat_map(remotes));
    if !environment.may_have_daemon() {
        let what = "KACHE_DAEMON=never: every compile opens the store itself, which is slower";
        findings.push(DoctorFinding::new(Severity::Warning, SUBJECT, what));
    }
    findings.extend(current_dir.and_then(declarations));
    (settings.ok(), findings)
}

/// A mistake is an error: every call that reads it runs its compiler without the cache.
fn mistakes(errors: &ConfigErrors) -> Vec<DoctorFinding> {
    errors.0.iter().map(|error| DoctorFinding::new(Severity::Error, SUBJECT, error.to_string())).collect()
}

fn caching_turned_off(config: &Config) -> Vec<DoctorFinding> {
    let origin = |key: Key| config.get(key).map(|resolved| resolved.origin.to_string()).unwrap_or_default();
    let is =
        |key: Key, value: bool| config.get(key).is_some_and(|resolved| resolved.value == Value::Bool(value));
    let mut findings = Vec::new();
    if is(Key::CacheDisabled, true) {
        let what =
            format!("caching is turned off: `cache.disabled` is true ({})", origin(Key::CacheDisabled));
        findings.push(DoctorFinding::new(Severity::Warning, SUBJECT, what));
    }
    if is(Key::PathsNormalize, false) {
        let what = format!(
            "checkouts at different paths share no results: `paths.normalize` is false ({})",
            origin(Key::PathsNormalize)
        );
        findings.push(DoctorFinding::new(Severity::Note, SUBJECT, what));
    }
    findings
}

/// Names each remote with its use, and each problem. Nothing is sent.
fn remotes(config: &Config) -> Vec<DoctorFinding> {
    let (settings, problems) = config::remotes(config);
    let found = settings.iter().map(|remote| match kache_remote::open(&remote.location, &remote.options) {
        Ok(_) => {
            let what = format!("`{}`, {}", remote.location, usage(remote));
            DoctorFinding::new(Severity::Good, REMOTE, what)
        }
        Err(error) => {
            let what = format!("the remote `{}` is not used: {error}", remote.location);
            DoctorFinding::new(Severity::Warning, REMOTE, what)
        }
    });
    let problems = problems.into_iter().map(|what| DoctorFinding::new(Severity::Warning, REMOTE, what));
    found.chain(problems).chain(exposed_files(config)).collect()
}

/// Reports files of the configuration that hold a secret and that others can read.
fn exposed_files(config: &Config) -> Vec<DoctorFinding> {
    let finding = |path: PathBuf| {
        let path = path.display();
        let what =
            format!("other users can read `{path}`, which holds a token, a password or headers of a remote");
        DoctorFinding::new(Severity::Warning, REMOTE, what).hint(format!("run `chmod 600 {path}`"))
    };
    config::exposed_files(config).into_iter().map(finding).collect()
}

fn usage(remote: &RemoteSettings) -> &'static str {
    match (remote.reads, remote.writes) {
        (true, true) => "read and written",
        (true, false) => "read only",
        (false, true) => "written only",
        (false, false) => "not used by calls with these variables",
    }
}

/// Reports a `cache.fallback` that does not exist. Builds go on without it, and otherwise only
/// the daemon's log says so, because a wrapper must not write into the compiler's output.
fn fallback(config: &Config, environment: &Environment) -> Option<DoctorFinding> {
    let named = config.get(Key::CacheFallback)?;
    let Value::Program(program) = &named.value else { return None };
    if find_program(program, environment.get(env_vars::PATH)).is_some() {
        return None;
    }
    let what = format!(
        "`cache.fallback` names `{}` ({}), but there is no such program",
        program.display(),
        named.origin
    );
    let hint = "install it or unset `cache.fallback`; until then compilers are called without it";
    Some(DoctorFinding::new(Severity::Warning, SUBJECT, what).hint(hint))
}

/// Checks the `kache.toml` of the package in this directory. With a mistake in it the package
/// is not cached.
fn declarations(dir: &Path) -> Option<DoctorFinding> {
    let path = dir.join(DECLARATION_FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            let what = format!("`{}` cannot be read: {error}", path.display());
            return Some(DoctorFinding::new(Severity::Error, SUBJECT, what));
        }
        Ok(text) => text,
    };
    let errors = Declared::read(&text, &path).err()?;
    Some(
        DoctorFinding::new(Severity::Error, SUBJECT, errors.to_string())
            .hint("the package is not cached until the file is correct"),
    )
}
