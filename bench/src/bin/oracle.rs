//! The oracle: a compiler wrapper that does the least work with which a cache could restore results.
//!
//! It is the bound that a cache of compiler calls can approach and not pass. Its key is a hash of the arguments
//! without the checkout's path. It reads no inputs and has no daemon, so it is wrong after any edit. It restores an
//! `.rlib` by a hard link with an old date, every other output by a copy, and then the messages. It only knows the
//! three arguments that say where the outputs go.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

/// Replaces the checkout's path in stored texts.
const ROOT: &[u8] = b"/oracle/root";

/// The date of all hard links. Cargo only compares dates with each other.
const OLD: Duration = Duration::from_secs(1_000_000_000);

/// The settings, which the benchmark passes in variables.
struct OracleSettings {
    /// The directory of stored results.
    store: PathBuf,
    /// The checkout's path, which is replaced in arguments and texts.
    root: Vec<u8>,
}

/// The directory of a call's outputs, and the beginning of their names.
struct Outputs {
    dir: PathBuf,
    stem: String,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(compiler) = arguments.next() else { return ExitCode::FAILURE };
    let arguments: Vec<OsString> = arguments.collect();
    let (Some(settings), Some(outputs)) = (settings(), outputs(&arguments)) else {
        return run_as_is(&compiler, &arguments);
    };
    let kept = settings.store.join(key(&settings, &arguments));
    let done = if kept.join("stderr").exists() {
        put_back(&settings, &kept, &outputs).map(|()| ExitCode::SUCCESS)
    } else {
        record(&settings, &kept, &outputs, &compiler, &arguments)
    };
    done.unwrap_or(ExitCode::FAILURE)
}

#[expect(clippy::disallowed_methods, reason = "a measuring tool with two variables of its own")]
fn settings() -> Option<OracleSettings> {
    let store = std::env::var_os("ORACLE_STORE")?.into();
    let root = std::env::var_os("ORACLE_ROOT")?.as_bytes().to_vec();
    Some(OracleSettings { store, root })
}

fn run_as_is(compiler: &OsString, arguments: &[OsString]) -> ExitCode {
    let _ = Command::new(compiler).args(arguments).exec();
    ExitCode::FAILURE
}

/// The outputs of a call. `None` for a probe, which lacks a crate name, an output directory or an extra file name.
fn outputs(arguments: &[OsString]) -> Option<Outputs> {
    let after = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        arguments.get(at + 1)?.to_str()
    };
    let extra = arguments.iter().find_map(|argument| argument.to_str()?.strip_prefix("extra-filename="))?;
    Some(Outputs { dir: after("--out-dir")?.into(), stem: format!("{}{extra}", after("--crate-name")?) })
}

impl Outputs {
    fn is_one(&self, name: &str) -> bool {
        let name =
            name.strip_prefix(&self.stem).or_else(|| name.strip_prefix("lib")?.strip_prefix(&self.stem));
        name.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

fn key(settings: &OracleSettings, arguments: &[OsString]) -> String {
    let mut hasher = DefaultHasher::new();
    for argument in arguments {
        replace(argument.as_bytes(), &settings.root, ROOT).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn ends_with(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Runs the compiler, and stores the outputs and messages if it succeeds.
fn record(
    settings: &OracleSettings,
    kept: &Path,
    outputs: &Outputs,
    compiler: &OsString,
    arguments: &[OsString],
) -> io::Result<ExitCode> {
    let said = Command::new(compiler).args(arguments).stdin(Stdio::null()).output()?;
    io::stdout().write_all(&said.stdout)?;
    io::stderr().write_all(&said.stderr)?;
    if !said.status.success() {
        return Ok(ExitCode::from(said.status.code().map_or(1, |code| code.clamp(1, 255) as u8)));
    }
    fs::create_dir_all(kept)?;
    for entry in fs::read_dir(&outputs.dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| outputs.is_one(name)) {
            keep(settings, &entry.path(), &kept.join(entry.file_name()))?;
        }
    }
    // Written last, because its presence means that the result is complete.
    fs::write(kept.join("stderr"), replace(&said.stderr, &settings.root, ROOT))?;
    Ok(ExitCode::SUCCESS)
}

fn keep(settings: &OracleSettings, made: &Path, kept: &Path) -> io::Result<()> {
    if ends_with(made, "rlib") {
        File::options()
            .write(true)
            .open(made)?
            .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + OLD))?;
        return fs::hard_link(made, kept);
    }
    if ends_with(made, "d") {
        return fs::write(kept, replace(&fs::read(made)?, &settings.root, ROOT));
    }
    fs::copy(made, kept).map(drop)
}

fn put_back(settings: &OracleSettings, kept: &Path, outputs: &Outputs) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(kept)? {
        files.push(entry?.path());
    }
    // Cargo starts dependent crates when the `.rmeta` is announced, so it is restored first.
    files.sort_by_key(|file| !ends_with(file, "rmeta"));
    for file in files.iter().filter(|file| !file.ends_with("stderr")) {
        let target = outputs.dir.join(file.file_name().unwrap_or_default());
        if ends_with(file, "rlib") {
            fs::hard_link(file, &target)?;
        } else if ends_with(file, "d") {
            fs::write(&target, replace(&fs::read(file)?, ROOT, &settings.root))?;
        } else {
            fs::copy(file, &target)?;
        }
    }
    io::stderr().write_all(&replace(&fs::read(kept.join("stderr"))?, ROOT, &settings.root))
}
