//! The oracle: a wrapper that already knows the answer.
//!
//! It is the bound that a cache of compiler calls can come near to and not pass. Its key is
//! a hash of the arguments with the checkout's place taken out; it reads no input, knows no
//! daemon and would be wrong after any edit. What it saved of a call it puts back: an
//! `.rlib` by a hard link with one old date, everything else by a copy, then the words. It
//! refuses to know what any argument means but the three that say where the outputs go.

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

/// What stands for the checkout's place in what is kept.
const ROOT: &[u8] = b"/oracle/root";

/// The one date that linked files bear: cargo compares them with each other only.
const OLD: Duration = Duration::from_secs(1_000_000_000);

/// What the wrapper is told by whoever measures.
struct Place {
    /// Where answers are kept.
    store: PathBuf,
    /// The checkout, which is taken out of arguments and texts.
    root: Vec<u8>,
}

/// Where a call puts its outputs, and how their names begin.
struct Outputs {
    dir: PathBuf,
    stem: String,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(compiler) = arguments.next() else { return ExitCode::FAILURE };
    let arguments: Vec<OsString> = arguments.collect();
    let (Some(place), Some(outputs)) = (place(), outputs(&arguments)) else {
        return run_as_is(&compiler, &arguments);
    };
    let kept = place.store.join(key(&place, &arguments));
    let done = if kept.join("stderr").exists() {
        put_back(&place, &kept, &outputs).map(|()| ExitCode::SUCCESS)
    } else {
        record(&place, &kept, &outputs, &compiler, &arguments)
    };
    done.unwrap_or(ExitCode::FAILURE)
}

#[expect(clippy::disallowed_methods, reason = "a measuring tool with two variables of its own")]
fn place() -> Option<Place> {
    let store = std::env::var_os("ORACLE_STORE")?.into();
    let root = std::env::var_os("ORACLE_ROOT")?.as_bytes().to_vec();
    Some(Place { store, root })
}

fn run_as_is(compiler: &OsString, arguments: &[OsString]) -> ExitCode {
    let _ = Command::new(compiler).args(arguments).exec();
    ExitCode::FAILURE
}

/// None for a probe: whatever has no crate name, no directory or no name of its own.
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

fn key(place: &Place, arguments: &[OsString]) -> String {
    let mut hasher = DefaultHasher::new();
    for argument in arguments {
        replace(argument.as_bytes(), &place.root, ROOT).hash(&mut hasher);
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

/// Compiles, and keeps what came of it where that is a success.
fn record(
    place: &Place,
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
            keep(place, &entry.path(), &kept.join(entry.file_name()))?;
        }
    }
    // Last: whoever finds it finds the rest.
    fs::write(kept.join("stderr"), replace(&said.stderr, &place.root, ROOT))?;
    Ok(ExitCode::SUCCESS)
}

fn keep(place: &Place, made: &Path, kept: &Path) -> io::Result<()> {
    if ends_with(made, "rlib") {
        File::options()
            .write(true)
            .open(made)?
            .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + OLD))?;
        return fs::hard_link(made, kept);
    }
    if ends_with(made, "d") {
        return fs::write(kept, replace(&fs::read(made)?, &place.root, ROOT));
    }
    fs::copy(made, kept).map(drop)
}

fn put_back(place: &Place, kept: &Path, outputs: &Outputs) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(kept)? {
        files.push(entry?.path());
    }
    // Cargo starts the next crate at the notice of the `.rmeta`, so that comes first.
    files.sort_by_key(|file| !ends_with(file, "rmeta"));
    for file in files.iter().filter(|file| !file.ends_with("stderr")) {
        let target = outputs.dir.join(file.file_name().unwrap_or_default());
        if ends_with(file, "rlib") {
            fs::hard_link(file, &target)?;
        } else if ends_with(file, "d") {
            fs::write(&target, replace(&fs::read(file)?, ROOT, &place.root))?;
        } else {
            fs::copy(file, &target)?;
        }
    }
    io::stderr().write_all(&replace(&fs::read(kept.join("stderr"))?, ROOT, &place.root))
}
