//! The crates that end up in a linked output without being named for it (KEY-14).
//!
//! From each crate to those that it uses, by the records of their own compiles. Where one of
//! them was compiled without kache's knowledge, everything that lies in the directories that
//! the compiler searches is taken: too much is sound, too little is not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::crates::{Uses, linked_name};
use super::gather::Gathered;
use super::stamp::OpenDir;
use super::types::InputKind;
use crate::invocation::rustc::{RustcInvocation, SearchKind};
use crate::invocation::{Bypass, Reason};

/// How crates that are linked are called.
const CRATE_EXTENSIONS: &[&str] = &["rlib", "so", "dylib", "dll"];

/// Up to so many directories are asked for each name; of more, the contents are listed once,
/// so that the work does not grow with names times directories.
const DIRS_ASKED_MAX: usize = 4;

/// Takes every crate that the externs reach. What it returns are the native libraries that
/// they ask for, as `-l` names them.
pub(super) fn take_reachable(
    gathered: &mut Gathered<'_>,
    rustc: &RustcInvocation,
) -> Result<BTreeSet<String>, Bypass> {
    let of_crates = |kind| matches!(kind, SearchKind::Dependency | SearchKind::All | SearchKind::Crate);
    let searches = rustc.searches.iter().filter(|search| of_crates(search.kind));
    let mut dirs: Vec<PathBuf> = searches.map(|search| gathered.call.cwd.join(&search.path)).collect();
    dirs.sort();
    dirs.dedup();
    let mut walk = Walk::new(gathered, dirs)?;
    for path in rustc.externs.iter().filter_map(|one| one.path.as_deref()) {
        let path = gathered.call.cwd.join(path);
        walk.seen.extend(linked_name(&path));
        walk.open.push(path);
    }
    if !walk.run(gathered)? {
        take_everything(gathered, &walk.dirs)?;
    }
    Ok(walk.natives)
}

struct Walk {
    dirs: Vec<PathBuf>,
    /// The same, open, as long as they are few.
    open_dirs: Vec<Option<OpenDir>>,
    /// Where each name is, if there are many directories.
    listed: Option<BTreeMap<Vec<u8>, Vec<PathBuf>>>,
    seen: BTreeSet<String>,
    open: Vec<PathBuf>,
    natives: BTreeSet<String>,
}

impl Walk {
    fn new(gathered: &Gathered<'_>, dirs: Vec<PathBuf>) -> Result<Walk, Bypass> {
        let mut listed = None;
        if dirs.len() > DIRS_ASKED_MAX {
            let mut places: BTreeMap<Vec<u8>, Vec<PathBuf>> = BTreeMap::new();
            for dir in &dirs {
                for name in names(gathered, dir)? {
                    let path = dir.join(OsStr::from_bytes(&name));
                    places.entry(name).or_default().push(path);
                }
            }
            listed = Some(places);
        }
        let mut open_dirs = Vec::new();
        if listed.is_none() {
            for dir in &dirs {
                open_dirs.push(OpenDir::open(dir).map_err(|error| {
                    Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {error}", dir.display()))
                })?);
            }
        }
        Ok(Walk {
            dirs,
            open_dirs,
            listed,
            seen: BTreeSet::new(),
            open: Vec::new(),
            natives: BTreeSet::new(),
        })
    }

    /// Whether every crate on the way was known.
    fn run(&mut self, gathered: &mut Gathered<'_>) -> Result<bool, Bypass> {
        while let Some(path) = self.open.pop() {
            // An extern that was given as metadata is linked as the library beside it. A name
            // that a crate was given and did not use may have no file.
            let linked = linked_name(&path).map(|name| path.with_file_name(name));
            let linked = linked.as_deref().unwrap_or(&path);
            let place = self.dirs.iter().position(|dir| Some(&**dir) == linked.parent());
            let digest = match place.and_then(|place| self.open_dirs.get(place)?.as_ref()) {
                Some(dir) => gathered.take_from(dir, linked, InputKind::Reachable)?,
                None => gathered.take(linked, InputKind::Reachable)?,
            };
            let Some(digest) = digest else { continue };
            let Some(uses) = gathered.world.uses(&path, &digest) else { return Ok(false) };
            let Uses { crates, natives } = &*uses;
            self.natives.extend(natives.iter().cloned());
            for name in crates {
                if self.seen.insert(name.clone()) {
                    self.find(name);
                }
            }
        }
        Ok(true)
    }

    /// Every file that this crate may be.
    fn find(&mut self, name: &str) {
        match &self.listed {
            Some(places) => self.open.extend(places.get(name.as_bytes()).into_iter().flatten().cloned()),
            None => self.open.extend(self.dirs.iter().map(|dir| dir.join(name))),
        }
    }
}

fn names(gathered: &Gathered<'_>, dir: &Path) -> Result<Vec<Vec<u8>>, Bypass> {
    let names = gathered.world.names(dir);
    let names = names.map_err(|error| Bypass::new(Reason::UnknownLinkInput, error.to_string()))?;
    Ok(names.unwrap_or_default())
}

/// Everything that could be a crate.
fn take_everything(gathered: &mut Gathered<'_>, dirs: &[PathBuf]) -> Result<(), Bypass> {
    for dir in dirs {
        for name in names(gathered, dir)? {
            let name = Path::new(OsStr::from_bytes(&name));
            let extension = name.extension().and_then(OsStr::to_str);
            if extension.is_some_and(|extension| CRATE_EXTENSIONS.contains(&extension)) {
                gathered.take(&dir.join(name), InputKind::Reachable)?;
            }
        }
    }
    Ok(())
}
