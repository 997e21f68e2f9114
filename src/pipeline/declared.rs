//! What a package declares in its `kache.toml`, found on the disk (KEY-21).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config::{DECLARATION_FILE, Declared, PathGlob};
use crate::invocation::rustc::Rustc;
use crate::invocation::{Bypass, Call, Reason};

/// How many files a declaration may stand for. It is walked for every call of its package.
const FILES_MAX: usize = 20_000;

/// How deep its directories may be.
const DEPTH_MAX: usize = 32;

/// What is declared.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files, absolute, in order; the declaration itself first.
    pub(super) files: Vec<PathBuf>,
    /// Variables, by name.
    pub(super) variables: Vec<String>,
}

/// Reads the declaration of the call's package. Without a package there is none.
pub(super) fn read(_rustc: &Rustc, call: &Call) -> Result<Found, Bypass> {
    let Some(manifest_dir) = call.env.get("CARGO_MANIFEST_DIR") else { return Ok(Found::default()) };
    let dir = call.cwd.join(manifest_dir);
    let path = dir.join(DECLARATION_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(unknown(&path, &error.to_string())),
    };
    let declared = Declared::read(&text, &path).map_err(|errors| mistaken(&errors.to_string()))?;
    let mut found = Found { files: vec![path], variables: Vec::new() };
    for glob in &declared.extra_inputs {
        walk(&dir, Path::new(""), glob, 0, &mut found.files)?;
    }
    found.files.sort();
    found.files.dedup();
    found.variables = declared.variables(call.env.iter()).into_iter().map(|(name, _)| name).collect();
    Ok(found)
}

fn unknown(path: &Path, why: &str) -> Bypass {
    mistaken(&format!("{}: {why}", path.display()))
}

/// What is wrong, in words that name the place; hints follow on lines of their own.
fn mistaken(what: &str) -> Bypass {
    Bypass::new(Reason::UnknownInput, what.lines().next().unwrap_or_default())
}

/// Whatever cannot be looked at makes the package uncacheable (KEY-04).
fn walk(
    dir: &Path,
    below: &Path,
    glob: &PathGlob,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), Bypass> {
    let start = if depth == 0 {
        PathBuf::from(std::ffi::OsStr::from_bytes(&glob.literal_dir()))
    } else {
        below.to_owned()
    };
    let here = dir.join(&start);
    if depth > DEPTH_MAX {
        return Err(unknown(&here, "what is declared lies too deep"));
    }
    let entries = match fs::read_dir(&here) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(unknown(&here, &error.to_string())),
    };
    for entry in entries {
        let entry = entry.map_err(|error| unknown(&here, &error.to_string()))?;
        let name = start.join(entry.file_name());
        let is_dir = fs::metadata(entry.path()).is_ok_and(|found| found.is_dir());
        if is_dir && glob.reaches(&name) {
            walk(dir, &name, glob, depth + 1, files)?;
        } else if !is_dir && glob.matches(&name) {
            files.push(dir.join(&name));
        }
        if files.len() > FILES_MAX {
            return Err(unknown(&here, "too many files are declared"));
        }
    }
    Ok(())
}
