//! Finds the crates that a linked output contains although its command line does not name them (KEY-14).
//!
//! It walks from each crate to the crates that it uses, as their own compiles have named them. If one of the
//! crates was compiled without kache, all crates in the directories that the compiler searches become inputs:
//! too many inputs are sound, too few are not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::compiler::rustc::invocation::RustcInvocation;
use crate::inputs::{CrateUses, GatheredInputs, InputKind, OpenDir, linked_name};
use crate::invocation::{Bypass, Reason};

/// The extensions of crates that can be linked.
const CRATE_EXTENSIONS: &[&str] = &["rlib", "so", "dylib", "dll"];

/// The largest number of directories in which each name is looked up one by one. If there are more, they are
/// listed once, so that the work does not grow with names times directories.
const DIRS_PROBED_MAX: usize = 4;

/// Adds each crate that the externs reach. Returns the names of the native libraries that these crates need.
pub(super) fn add_reachable(
    gathered: &mut GatheredInputs<'_>,
    rustc: &RustcInvocation,
) -> Result<BTreeSet<String>, Bypass> {
    let mut dirs: Vec<PathBuf> = rustc.crate_dirs().map(|dir| gathered.call.cwd.join(dir)).collect();
    dirs.sort();
    dirs.dedup();
    let mut walk = CrateWalk::new(gathered, dirs)?;
    for path in rustc.externs.iter().filter_map(|one| one.path.as_deref()) {
        let path = gathered.call.cwd.join(path);
        walk.seen.extend(linked_name(&path));
        walk.pending.push(path);
    }
    if !walk.run(gathered)? {
        add_all_crates(gathered, &walk.dirs)?;
    }
    Ok(walk.natives)
}

/// The walk from crate to crate.
struct CrateWalk {
    /// The directories that the compiler searches for crates.
    dirs: Vec<PathBuf>,
    /// The same directories, opened, if they are few.
    open_dirs: Vec<Option<OpenDir>>,
    /// The paths of each name, if there are many directories.
    paths_by_name: Option<BTreeMap<Vec<u8>, Vec<PathBuf>>>,
    /// The names of all crates that were found so far.
    seen: BTreeSet<String>,
    /// The paths that are still to be visited.
    pending: Vec<PathBuf>,
    /// The native libraries that the visited crates need.
    natives: BTreeSet<String>,
}

impl CrateWalk {
    fn new(gathered: &GatheredInputs<'_>, dirs: Vec<PathBuf>) -> Result<CrateWalk, Bypass> {
        let mut paths_by_name = None;
        if dirs.len() > DIRS_PROBED_MAX {
            let mut paths: BTreeMap<Vec<u8>, Vec<PathBuf>> = BTreeMap::new();
            for dir in &dirs {
                for name in names(gathered, dir)? {
                    let path = dir.join(OsStr::from_bytes(&name));
                    paths.entry(name).or_default().push(path);
                }
            }
            paths_by_name = Some(paths);
        }
        let mut open_dirs = Vec::new();
        if paths_by_name.is_none() {
            for dir in &dirs {
                open_dirs.push(OpenDir::open(dir).map_err(|error| {
                    Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {error}", dir.display()))
                })?);
            }
        }
        Ok(CrateWalk {
            dirs,
            open_dirs,
            paths_by_name,
            seen: BTreeSet::new(),
            pending: Vec::new(),
            natives: BTreeSet::new(),
        })
    }

    /// Visits all crates. Returns false if kache did not see the compile of one of them.
    fn run(&mut self, gathered: &mut GatheredInputs<'_>) -> Result<bool, Bypass> {
        while let Some(path) = self.pending.pop() {
            // For an extern that was given as `.rmeta`, the linker reads the `.rlib` beside it. A crate that
            // was named and not used may have no file.
            let linked = linked_name(&path).map(|name| path.with_file_name(name));
            let linked = linked.as_deref().unwrap_or(&path);
            let index = self.dirs.iter().position(|dir| Some(&**dir) == linked.parent());
            let digest = match index.and_then(|index| self.open_dirs.get(index)?.as_ref()) {
                Some(dir) => gathered.add_entry_if_present(dir, linked, InputKind::Reachable)?,
                None => gathered.add_if_present(linked, InputKind::Reachable)?,
            };
            let Some(digest) = digest else { continue };
            let Some(uses) = gathered.world.uses(&path, &digest) else { return Ok(false) };
            let CrateUses { crates, natives } = &*uses;
            self.natives.extend(natives.iter().cloned());
            for name in crates {
                if self.seen.insert(name.clone()) {
                    self.visit(name);
                }
            }
        }
        Ok(true)
    }

    /// Schedules all files that may be the crate with this name.
    fn visit(&mut self, name: &str) {
        match &self.paths_by_name {
            Some(paths) => self.pending.extend(paths.get(name.as_bytes()).into_iter().flatten().cloned()),
            None => self.pending.extend(self.dirs.iter().map(|dir| dir.join(name))),
        }
    }
}

fn names(gathered: &GatheredInputs<'_>, dir: &Path) -> Result<Vec<Vec<u8>>, Bypass> {
    let names = gathered.world.names(dir);
    let names = names.map_err(|error| Bypass::new(Reason::UnknownLinkInput, error.to_string()))?;
    Ok(names.unwrap_or_default())
}

/// Adds each crate in these directories.
fn add_all_crates(gathered: &mut GatheredInputs<'_>, dirs: &[PathBuf]) -> Result<(), Bypass> {
    for dir in dirs {
        for name in names(gathered, dir)? {
            let name = Path::new(OsStr::from_bytes(&name));
            let extension = name.extension().and_then(OsStr::to_str);
            if extension.is_some_and(|extension| CRATE_EXTENSIONS.contains(&extension)) {
                gathered.add_if_present(&dir.join(name), InputKind::Reachable)?;
            }
        }
    }
    Ok(())
}
