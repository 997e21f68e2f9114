//! Cargo and rustc: whether they are found, and whether cargo calls kache.

use std::path::Path;
use std::process::{Command, Stdio};

use kache_client::engine_path;

use super::finding::{Finding, State};
use crate::cli::cargo_config::{self as config, Wrapper};
use crate::config::{Environment, env_vars};

pub(super) fn look(environment: &Environment, current_dir: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![programs(), toolchain(), wrapper(environment, current_dir)];
    if let Some(value) = environment.get(env_vars::CARGO_INCREMENTAL).filter(|value| *value != "0") {
        let what = format!(
            "CARGO_INCREMENTAL={} is set; kache only has what is being edited compiled so",
            value.display()
        );
        findings.push(Finding::new(State::Note, "incremental", what));
    }
    findings
}

/// `kache` and `kached`, side by side.
fn programs() -> Finding {
    const SUBJECT: &str = "programs";
    let engine = match engine_path() {
        Ok(engine) => engine,
        Err(error) => return Finding::new(State::Wrong, SUBJECT, error.to_string()),
    };
    let missing = [engine.with_file_name("kache"), engine.clone()].into_iter().find(|path| !path.is_file());
    match (missing, engine.parent()) {
        (Some(missing), _) => {
            Finding::new(State::Wrong, SUBJECT, format!("there is no `{}`", missing.display()))
                .hint("`kache` and `kached` are installed side by side; install kache again")
        }
        (None, dir) => {
            let dir = dir.unwrap_or(&engine).display();
            let what = format!("kache {} in `{dir}`", kache_client::VERSION);
            Finding::new(State::Good, SUBJECT, what)
        }
    }
}

fn toolchain() -> Finding {
    const SUBJECT: &str = "toolchain";
    match (version("rustc"), version("cargo")) {
        (Ok(rustc), Ok(cargo)) => Finding::new(State::Good, SUBJECT, format!("{rustc}; {cargo}")),
        (Err(error), _) | (_, Err(error)) => Finding::new(State::Warning, SUBJECT, error)
            .hint("install Rust from https://rustup.rs, or put it on PATH"),
    }
}

/// What a program says of itself, on one line.
fn version(program: &str) -> Result<String, String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(format!(
            "`{program} --version` failed: {}",
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it says nothing")
        )),
        Err(error) => Err(format!("failed to run `{program}`: {error}")),
    }
}

/// The wrapper that cargo would call here.
fn wrapper(environment: &Environment, current_dir: Option<&Path>) -> Finding {
    const SUBJECT: &str = "wrapper";
    if environment.is_emptied(env_vars::RUSTC_WRAPPER) {
        return Finding::new(
            State::Warning,
            SUBJECT,
            "RUSTC_WRAPPER is set and empty: cargo calls no wrapper",
        )
        .hint("unset it");
    }
    let Some(Wrapper { program, said_in }) = config::wrappers(environment, current_dir).into_iter().next()
    else {
        return Finding::new(State::Warning, SUBJECT, "nothing has cargo call kache")
            .hint("`kache init`, or for one build: RUSTC_WRAPPER=kache cargo build");
    };
    let search = environment.get(env_vars::PATH);
    let client = engine_path().map(|engine| engine.with_file_name("kache"));
    let called = program.display();
    match client {
        Ok(client) if config::is_client(&program, &client, search) => {
            Finding::new(State::Good, SUBJECT, format!("cargo calls `{called}` ({said_in})"))
        }
        _ if !config::is_named_kache(&program) => {
            Finding::new(State::Warning, SUBJECT, format!("cargo calls `{called}` ({said_in})")).hint(
                "remove that and run `kache init`; KACHE_FALLBACK keeps the other for what kache passes by",
            )
        }
        _ if crate::compile::find_program(&program, search).is_none() => {
            let what = format!("cargo calls `{called}` ({said_in}), and there is no such program");
            Finding::new(State::Wrong, SUBJECT, what).hint("`kache init` puts it right")
        }
        _ => Finding::new(
            State::Warning,
            SUBJECT,
            format!("cargo calls another kache, `{called}` ({said_in})"),
        )
        .hint("`kache init` has it call this one"),
    }
}
