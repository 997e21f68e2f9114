//! Checks whether cargo and rustc are found, and whether cargo calls kache.

use std::path::Path;
use std::process::{Command, Stdio};

use kache_client::engine_path;

use super::finding::{DoctorFinding, Severity};
use crate::cli::cargo_config::{self as config, ConfiguredWrapper};
use crate::config::{Environment, env_vars};

pub(super) fn check(environment: &Environment, current_dir: Option<&Path>) -> Vec<DoctorFinding> {
    let mut findings = vec![programs(), toolchain(), wrapper(environment, current_dir)];
    if let Some(value) = environment.get(env_vars::CARGO_INCREMENTAL).filter(|value| *value != "0") {
        let what = format!(
            "CARGO_INCREMENTAL={} is set, but kache compiles only edited crates incrementally",
            value.display()
        );
        findings.push(DoctorFinding::new(Severity::Note, "incremental", what));
    }
    findings
}

/// Checks that `kache` and `kached` lie in one directory, where the client looks for the engine.
fn programs() -> DoctorFinding {
    const SUBJECT: &str = "programs";
    let engine = match engine_path() {
        Ok(engine) => engine,
        Err(error) => return DoctorFinding::new(Severity::Error, SUBJECT, error.to_string()),
    };
    let missing = [engine.with_file_name("kache"), engine.clone()].into_iter().find(|path| !path.is_file());
    match (missing, engine.parent()) {
        (Some(missing), _) => {
            DoctorFinding::new(Severity::Error, SUBJECT, format!("there is no `{}`", missing.display()))
                .hint("`kache` and `kached` must lie in the same directory; install kache again")
        }
        (None, dir) => {
            let dir = dir.unwrap_or(&engine).display();
            let what = format!("kache {} in `{dir}`", kache_client::VERSION);
            DoctorFinding::new(Severity::Good, SUBJECT, what)
        }
    }
}

fn toolchain() -> DoctorFinding {
    const SUBJECT: &str = "toolchain";
    match (version("rustc"), version("cargo")) {
        (Ok(rustc), Ok(cargo)) => DoctorFinding::new(Severity::Good, SUBJECT, format!("{rustc}; {cargo}")),
        (Err(error), _) | (_, Err(error)) => DoctorFinding::new(Severity::Warning, SUBJECT, error)
            .hint("install Rust from https://rustup.rs, or add its directory to PATH"),
    }
}

/// Runs `program --version` and returns what it prints.
fn version(program: &str) -> Result<String, String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(format!(
            "`{program} --version` failed: {}",
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it printed no error")
        )),
        Err(error) => Err(format!("failed to run `{program}`: {error}")),
    }
}

/// Checks which wrapper cargo calls in the current directory.
fn wrapper(environment: &Environment, current_dir: Option<&Path>) -> DoctorFinding {
    const SUBJECT: &str = "wrapper";
    if environment.is_emptied(env_vars::RUSTC_WRAPPER) {
        let what = "RUSTC_WRAPPER is set to an empty value, so cargo calls no wrapper";
        return DoctorFinding::new(Severity::Warning, SUBJECT, what).hint("unset RUSTC_WRAPPER");
    }
    let wrapper = config::wrappers(environment, current_dir).into_iter().next();
    let Some(ConfiguredWrapper { program, origin }) = wrapper else {
        return DoctorFinding::new(Severity::Warning, SUBJECT, "cargo is not configured to call kache")
            .hint("run `kache init`; or for one build: RUSTC_WRAPPER=kache cargo build");
    };
    let search = environment.get(env_vars::PATH);
    let client = engine_path().map(|engine| engine.with_file_name("kache"));
    let called = program.display();
    // The order matters: a wrapper is first compared by the file that it leads to, so a link to this
    // client is fine whatever its name; then by its name; and only a `kache` that is not this client
    // is searched for.
    match client {
        Ok(client) if config::is_client(&program, &client, search) => {
            DoctorFinding::new(Severity::Good, SUBJECT, format!("cargo calls `{called}` ({origin})"))
        }
        _ if !config::is_named_kache(&program) => {
            let what = format!("cargo calls `{called}` and not kache ({origin})");
            DoctorFinding::new(Severity::Warning, SUBJECT, what)
                .hint("remove that setting and run `kache init`")
                .hint(format!(
                    "with KACHE_FALLBACK kache calls `{called}` for compiles that it does not cache"
                ))
        }
        _ if crate::compile::find_program(&program, search).is_none() => {
            let what = format!("cargo calls `{called}` ({origin}), but there is no such program");
            DoctorFinding::new(Severity::Error, SUBJECT, what).hint("`kache init` corrects the setting")
        }
        _ => {
            let what = format!("cargo calls another kache, `{called}` ({origin})");
            DoctorFinding::new(Severity::Warning, SUBJECT, what)
                .hint("`kache init` makes cargo call this one")
        }
    }
}
