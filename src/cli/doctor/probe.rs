//! `--probe`: a crate of one function is compiled in two places, and the second must be a
//! hit. The crate is another one every time, so that the first is a miss.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kache_client::engine_path;

use super::finding::{Finding, State};
use crate::config::Settings;
use crate::events::{self, Event, Outcome};

const SUBJECT: &str = "probe";

/// How long to wait for the first result to be stored, which happens after the call.
const STORED_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) fn probe(settings: &Settings, current_dir: Option<&Path>) -> Vec<Finding> {
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let name = format!("kache_doctor_{nonce:x}");
    // Beside the work, where files can be shared as they are in a build; else where everything
    // temporary goes.
    let beside = current_dir.map(|dir| dir.join("target")).filter(|dir| dir.is_dir());
    let dir = beside.unwrap_or_else(std::env::temp_dir).join(&name);
    let found = try_it(settings, &dir, &name);
    // What is left is a few kilobytes in a place for such things.
    let _ = fs::remove_dir_all(&dir);
    vec![found.unwrap_or_else(|what| {
        Finding::new(State::Wrong, SUBJECT, what).hint("`kache daemon log` may say more")
    })]
}

fn try_it(settings: &Settings, dir: &Path, name: &str) -> Result<Finding, String> {
    let begun = SystemTime::now();
    let first = compile(&dir.join("first"), name)?;
    let calls = |wanted: usize| recorded(settings.address.cache_dir(), begun, name, wanted);
    let Some(event) = calls(1).pop() else {
        return Err("the compiler ran without kache: no call is on record".to_owned());
    };
    if event.outcome != Outcome::Miss {
        return Err(format!("the first compile was {}", described(&event)));
    }
    wait_until_stored(|| calls(1).pop());
    let second = compile(&dir.join("second"), name)?;
    match calls(2).pop() {
        Some(event) if matches!(event.outcome, Outcome::LocalHit | Outcome::RemoteHit | Outcome::Dup) => {
            same(dir, name)?;
            let what = format!(
                "compiled a crate in {} ms, and had it again in {} ms",
                first.as_millis(),
                second.as_millis()
            );
            Ok(Finding::new(State::Good, SUBJECT, what))
        }
        Some(event) => {
            let stored = calls(1).into_iter().next().map(|first| first.not_stored).unwrap_or_default();
            let why = if stored.is_empty() {
                String::new()
            } else {
                format!("; the first was not stored: {stored}")
            };
            Err(format!("compiling the same again was {}{why}", described(&event)))
        }
        None => Err("the second call is not on record".to_owned()),
    }
}

fn described(event: &Event) -> String {
    let parts = [event.outcome.name(), &event.reason, &event.detail];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Compiles as cargo would, and says how long that took.
fn compile(dir: &Path, name: &str) -> Result<Duration, String> {
    let failed = |error: io::Error| format!("failed to prepare `{}`: {error}", dir.display());
    let deps = dir.join("target/debug/deps");
    fs::create_dir_all(&deps).map_err(failed)?;
    fs::create_dir_all(dir.join("src")).map_err(failed)?;
    write(&dir.join("target/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").map_err(failed)?;
    write(&dir.join("src/lib.rs"), &format!("pub fn name() -> &'static str {{ \"{name}\" }}\n"))
        .map_err(failed)?;
    let client = engine_path().map_err(|error| error.to_string())?.with_file_name("kache");
    let begun = Instant::now();
    let output = Command::new(client)
        .args(["rustc", "--crate-name", name, "--edition=2021", "src/lib.rs", "--crate-type", "lib"])
        .args([
            "--emit=dep-info,metadata,link",
            "-C",
            "metadata=d0c",
            "-C",
            "extra-filename=-d0c",
            "--out-dir",
        ])
        .arg(&deps)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("failed to run kache: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("nothing").to_owned();
        return Err(format!("a small crate did not compile: {said}"));
    }
    Ok(begun.elapsed())
}

fn write(path: &PathBuf, text: &str) -> io::Result<()> {
    File::create(path)?.write_all(text.as_bytes())
}

/// Both places hold the same library.
fn same(dir: &Path, name: &str) -> Result<(), String> {
    let read = |place: &str| {
        let path = dir.join(place).join(format!("target/debug/deps/lib{name}-d0c.rlib"));
        fs::read(&path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
    };
    if read("first")? == read("second")? {
        Ok(())
    } else {
        Err("the second result is not the first".to_owned())
    }
}

/// The calls of this crate that are on record.
fn recorded(cache_dir: &Path, since: SystemTime, name: &str, wanted: usize) -> Vec<Event> {
    let history = events::read(cache_dir, Some(since)).unwrap_or_default();
    let mut calls: Vec<Event> = history.events.into_iter().filter(|event| event.crate_name == name).collect();
    calls.truncate(wanted);
    if calls.len() < wanted { Vec::new() } else { calls }
}

/// A result is stored after its call has returned; a miss that was not is said so.
fn wait_until_stored(call: impl Fn() -> Option<Event>) {
    let give_up = Instant::now() + STORED_WAIT_MAX;
    let is_done = |event: &Event| event.stored_bytes > 0 || !event.not_stored.is_empty();
    while Instant::now() < give_up && !call().as_ref().is_some_and(is_done) {
        std::thread::sleep(LOOK_EVERY);
    }
}
