//! Finds the files and variables that a package declares in its `kache.toml` (KEY-21).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config::{DECLARATION_FILE, Declared, PathGlob};
use crate::invocation::{Bypass, Call, Reason};

/// How many files a package may declare. kache lists them for every call of the package.
const FILES_MAX: usize = 20_000;

/// How deep below the package's directory a declared file may lie.
const DEPTH_MAX: usize = 32;

/// The files and variables that a package declares.
#[derive(Debug, Default)]
pub(super) struct DeclaredInputs {
    /// Absolute paths in alphabetical order, with the `kache.toml` itself.
    pub(super) files: Vec<PathBuf>,
    /// The names of the variables that are set.
    pub(super) variables: Vec<String>,
}

/// Reads the declaration of the call's package. Returns nothing if the package has none, or if the
/// call belongs to no package. The error says why the package cannot be cached.
pub(super) fn read(call: &Call) -> Result<DeclaredInputs, Bypass> {
    let Some(manifest_dir) = call.env.get("CARGO_MANIFEST_DIR") else {
        return Ok(DeclaredInputs::default());
    };
    let dir = call.cwd.join(manifest_dir);
    let path = dir.join(DECLARATION_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DeclaredInputs::default()),
        Err(error) => return Err(bypass_at(&path, &error.to_string())),
    };
    let declared = Declared::read(&text, &path).map_err(|errors| bypass(&errors.to_string()))?;
    let mut inputs = DeclaredInputs { files: vec![path], variables: Vec::new() };
    for glob in &declared.extra_inputs {
        walk(&dir, Path::new(""), glob, 0, &mut inputs.files)?;
    }
    inputs.files.sort();
    inputs.files.dedup();
    inputs.variables = declared.variables(call.env.iter()).into_iter().map(|(name, _)| name).collect();
    Ok(inputs)
}

fn bypass_at(path: &Path, why: &str) -> Bypass {
    bypass(&format!("{}: {why}", path.display()))
}

/// A bypass with the first line of a message. The other lines are hints, for which the log has no
/// room.
fn bypass(message: &str) -> Bypass {
    Bypass::new(Reason::UnknownInput, message.lines().next().unwrap_or_default())
}

/// Adds the files that match a glob. Starts in the deepest directory that the glob names literally.
/// If a directory cannot be read, the package is not cached (KEY-04).
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
        return Err(bypass_at(&here, "declared files lie too deep"));
    }
    let entries = match fs::read_dir(&here) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(bypass_at(&here, &error.to_string())),
    };
    for entry in entries {
        let entry = entry.map_err(|error| bypass_at(&here, &error.to_string()))?;
        let name = start.join(entry.file_name());
        let is_dir = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
        if is_dir && glob.reaches(&name) {
            walk(dir, &name, glob, depth + 1, files)?;
        } else if !is_dir && glob.matches(&name) {
            files.push(dir.join(&name));
        }
        if files.len() > FILES_MAX {
            return Err(bypass_at(&here, "too many files are declared"));
        }
    }
    Ok(())
}
