//! `--probe`: compiles a crate of one function in two directories and checks that the second
//! compile is a hit. The crate has a new name every time, so that the first compile is a miss.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kache_client::engine_path;

use super::finding::{DoctorFinding, Severity};
use crate::config::Settings;
use crate::events::{self, Event, Outcome};

const SUBJECT: &str = "probe";

/// How long to wait for the first result. The daemon stores it after the call has returned.
const STORED_WAIT_MAX: Duration = Duration::from_secs(10);

/// The time between two reads of the event log while waiting.
const READ_EVERY: Duration = Duration::from_millis(50);

pub(super) fn probe(settings: &Settings, current_dir: Option<&Path>) -> Vec<DoctorFinding> {
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let name = format!("kache_doctor_{nonce:x}");
    // The target directory lies on the volume that builds here use, so files are shared with the
    // store in the same way. Without one, the temporary directory has to do.
    let target = current_dir.map(|dir| dir.join("target")).filter(|dir| dir.is_dir());
    let dir = target.unwrap_or_else(std::env::temp_dir).join(&name);
    let found = compile_twice(settings, &dir, &name);
    // If this fails, a few kilobytes stay in a directory for temporary files.
    let _ = fs::remove_dir_all(&dir);
    vec![found.unwrap_or_else(|what| {
        DoctorFinding::new(Severity::Error, SUBJECT, what).hint("`kache daemon log` may say more")
    })]
}

/// Compiles the crate in two directories below `dir`; an error says what went wrong.
fn compile_twice(settings: &Settings, dir: &Path, name: &str) -> Result<DoctorFinding, String> {
    let begun = SystemTime::now();
    let first = compile(&dir.join("first"), name)?;
    let calls = |count: usize| recorded(settings.address.cache_dir(), begun, name, count);
    let Some(event) = calls(1).pop() else {
        return Err("the compiler ran without kache: the event log has no call".to_owned());
    };
    if event.outcome != Outcome::Miss {
        return Err(format!("the result of the first compile was {}, not a miss", described(&event)));
    }
    wait_until_stored(|| calls(1).pop());
    let second = compile(&dir.join("second"), name)?;
    match calls(2).pop() {
        Some(event) if matches!(event.outcome, Outcome::LocalHit | Outcome::RemoteHit | Outcome::Dup) => {
            compare(dir, name)?;
            let what = format!(
                "a small crate was compiled in {} ms and restored in {} ms",
                first.as_millis(),
                second.as_millis()
            );
            Ok(DoctorFinding::new(Severity::Good, SUBJECT, what))
        }
        Some(event) => {
            let not_stored = calls(1).into_iter().next().and_then(|first| first.not_stored);
            let why = not_stored.map(|why| format!("; the first result was not stored: {why}"));
            let why = why.unwrap_or_default();
            Err(format!("the result of the second compile was {}, not a hit{why}", described(&event)))
        }
        None => Err("the event log does not have the second call".to_owned()),
    }
}

fn described(event: &Event) -> String {
    let parts = [event.outcome.name(), event.reason_name(), &event.detail];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Compiles the crate through kache, with cargo's arguments, and returns how long it took.
fn compile(dir: &Path, name: &str) -> Result<Duration, String> {
    let failed = |error: io::Error| format!("failed to prepare `{}`: {error}", dir.display());
    let deps = dir.join("target/debug/deps");
    fs::create_dir_all(&deps).map_err(failed)?;
    fs::create_dir_all(dir.join("src")).map_err(failed)?;
    // By this file, which cargo writes too, kache recognises the target directory.
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
        return Err(format!("a small crate cannot be compiled: {said}"));
    }
    Ok(begun.elapsed())
}

fn write(path: &PathBuf, text: &str) -> io::Result<()> {
    File::create(path)?.write_all(text.as_bytes())
}

/// Checks that both directories hold the same library.
fn compare(dir: &Path, name: &str) -> Result<(), String> {
    let read = |checkout: &str| {
        let path = dir.join(checkout).join(format!("target/debug/deps/lib{name}-d0c.rlib"));
        fs::read(&path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
    };
    if read("first")? == read("second")? {
        Ok(())
    } else {
        Err("the restored library differs from the compiled one".to_owned())
    }
}

/// The first `count` calls of this crate in the event log; none if there are fewer.
fn recorded(cache_dir: &Path, since: SystemTime, name: &str, count: usize) -> Vec<Event> {
    let history = events::read(cache_dir, Some(since)).unwrap_or_default();
    let mut calls: Vec<Event> = history.events.into_iter().filter(|event| event.name == name).collect();
    calls.truncate(count);
    if calls.len() < count { Vec::new() } else { calls }
}

/// Waits until the event says that the result is stored, or why it is not.
fn wait_until_stored(call: impl Fn() -> Option<Event>) {
    let give_up = Instant::now() + STORED_WAIT_MAX;
    let is_done = |event: &Event| event.stored_bytes > 0 || event.not_stored.is_some();
    while Instant::now() < give_up && !call().as_ref().is_some_and(is_done) {
        std::thread::sleep(READ_EVERY);
    }
}
