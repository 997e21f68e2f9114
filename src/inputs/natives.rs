//! Native libraries, found as the linker finds them (KEY-14).
//!
//! The first directory that has a library of this name wins, and of a shared and a static one
//! in the same directory either may be meant, so both count. A library that is asked for and
//! not found makes the compile uncacheable. Source code can ask for libraries too, without
//! the command line saying so; these come from directories that a build script made, and
//! there every library counts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::bytes::{Reader, Writer};
use super::gather::Gathered;
use super::library::{Named, library_files, named_by_library};
use super::types::{InputKind, Toolchain};
use crate::invocation::rustc::{NativeLibrary, RustcInvocation, SearchKind};
use crate::invocation::{Bypass, Reason};
use crate::roles::Role;

/// Kinds that name no file.
const WITHOUT_FILE: &[&str] = &["framework", "raw-dylib", "link-arg"];

/// What is linked into everything for a system with a C library.
const ALWAYS_LINKED: &[&str] = &["c", "dl", "gcc", "gcc_eh", "gcc_s", "m", "pthread", "rt", "util"];

/// Whether whoever links this crate looks for the library again: a static one is part of the
/// crate, unless it was asked to stay outside.
pub(super) fn is_passed_on(library: &NativeLibrary) -> bool {
    match library.kind.as_deref() {
        Some("static") => library.modifiers.contains("-bundle"),
        Some(kind) => !WITHOUT_FILE.contains(&kind),
        None => true,
    }
}

/// As [`super::crates::Uses`] keeps it: a verbatim name is a file name.
pub(super) fn passed_name(library: &NativeLibrary) -> String {
    match library.modifiers.contains("+verbatim") {
        true => format!(":{}", library.file_name()),
        false => library.file_name().to_owned(),
    }
}

/// Where native libraries are looked for, in order: what the call says, then the system.
pub(super) struct Natives {
    given: Vec<PathBuf>,
    system: Vec<PathBuf>,
}

impl Natives {
    /// Of this call.
    pub(super) fn new(rustc: &RustcInvocation, cwd: &Path, more: &[PathBuf], system: &[PathBuf]) -> Natives {
        let of_natives = |kind| matches!(kind, SearchKind::Native | SearchKind::All);
        let given = rustc.searches.iter().filter(|search| of_natives(search.kind));
        let mut given: Vec<_> = given.map(|search| cwd.join(&search.path)).collect();
        given.extend(more.iter().cloned());
        Natives { given, system: system.to_owned() }
    }

    /// All directories, in order.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        self.given.iter().chain(&self.system).cloned().collect()
    }

    /// Takes what an `.rlib` swallows: static libraries of its own.
    pub(super) fn take_bundled(
        &self,
        gathered: &mut Gathered<'_>,
        rustc: &RustcInvocation,
        toolchain: &Toolchain,
    ) -> Result<(), Bypass> {
        for library in &rustc.native_libraries {
            let is_static = library.kind.as_deref() == Some("static");
            if !is_static && library.kind.is_some() {
                continue;
            }
            let name = library.file_name();
            let file = match library.modifiers.contains("+verbatim") {
                true => name.to_owned(),
                false => format!("lib{name}.a"),
            };
            let is_found = self.take_first(gathered, &[&file], &self.given)?;
            if !is_found && is_static && !in_toolchain(toolchain, &file) {
                return Err(unknown(name, "it was not found"));
            }
        }
        let own = gathered.call.env.get("OUT_DIR").map(|dir| gathered.call.cwd.join(dir));
        let own = |dir: &&PathBuf| own.as_ref().is_some_and(|own| dir.starts_with(own));
        self.given.iter().filter(own).try_for_each(|dir| take_all(gathered, dir))
    }

    /// Takes what a linker links of these names.
    pub(super) fn take_linked<'n>(
        &self,
        gathered: &mut Gathered<'_>,
        names: impl IntoIterator<Item = &'n str>,
        toolchain: &Toolchain,
    ) -> Result<(), Bypass> {
        let dirs = self.dirs();
        for name in names {
            let is_found = match name.strip_prefix(':') {
                Some(file) => self.take_first(gathered, &[file], &dirs)?,
                None => {
                    let (shared, fixed) = (format!("lib{name}.so"), format!("lib{name}.a"));
                    // A static library may be asked for although a shared one comes first.
                    let any = self.take_first(gathered, &[&shared, &fixed], &dirs)?;
                    any | self.take_first(gathered, &[&fixed], &dirs)? || in_toolchain(toolchain, &fixed)
                }
            };
            if !is_found {
                return Err(unknown(name, "it was not found"));
            }
        }
        for dir in &self.given {
            let role = gathered.role_of(dir);
            if role != Role::Absolute && role != Role::Sysroot {
                take_all(gathered, dir)?;
                continue;
            }
            // What is always linked is looked for here first.
            for name in ALWAYS_LINKED {
                for file in [format!("lib{name}.so"), format!("lib{name}.a")] {
                    gathered.take(&dir.join(file), InputKind::Native)?;
                }
            }
        }
        Ok(())
    }

    /// Takes these files from the first directory that has any of them; whether one has.
    fn take_first(
        &self,
        gathered: &mut Gathered<'_>,
        files: &[&str],
        dirs: &[PathBuf],
    ) -> Result<bool, Bypass> {
        for dir in dirs {
            let mut is_here = false;
            for file in files {
                let path = dir.join(file);
                if gathered.take(&path, InputKind::Native)?.is_some() {
                    is_here = true;
                    take_named(gathered, &path, dirs, 0)?;
                }
            }
            if is_here {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How deep scripts and thin archives are followed that name each other.
const NAMED_DEPTH_MAX: usize = 8;

/// Takes what a library names that is really a script or a thin archive, wherever a linker may find
/// it: some look beside the script first, others from the directory of the call.
fn take_named(
    gathered: &mut Gathered<'_>,
    path: &Path,
    dirs: &[PathBuf],
    depth: usize,
) -> Result<(), Bypass> {
    let named = named(gathered, path)?;
    if named.is_empty() {
        return Ok(());
    }
    if depth >= NAMED_DEPTH_MAX {
        return Err(unknown(&path.display().to_string(), "it is named by one that it names"));
    }
    let beside = path.parent().unwrap_or(path).to_owned();
    let cwd = gathered.call.cwd.clone();
    for one in named {
        let (files, places) = match one {
            Named::Member(file) => (vec![file], vec![&beside]),
            Named::Library(name) => {
                (library_files(&name).into_iter().map(PathBuf::from).collect(), dirs.iter().collect())
            }
            Named::File(file) | Named::Included(file) => {
                (vec![file], [&beside, &cwd].into_iter().chain(dirs).collect::<Vec<_>>())
            }
        };
        for file in files.iter().flat_map(|file| places.iter().map(move |dir| dir.join(file))) {
            if file != path && file.is_file() && gathered.take(&file, InputKind::Native)?.is_some() {
                take_named(gathered, &file, dirs, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// What the library in this file names.
fn named(gathered: &Gathered<'_>, path: &Path) -> Result<Vec<Named>, Bypass> {
    let mut question = Writer(b"names of a library".to_vec());
    question.path(path);
    let fact = gathered.world.fact(question, || {
        let mut value = Writer::default();
        named_by_library(path)?.iter().for_each(|named| named.write(&mut value));
        Ok((value.0, vec![path.to_owned()]))
    })?;
    let mut reader = Reader(&fact.value);
    Ok(std::iter::from_fn(|| Named::read(&mut reader)).collect())
}

/// Every library in a directory that the build made.
fn take_all(gathered: &mut Gathered<'_>, dir: &Path) -> Result<(), Bypass> {
    let mut question = Writer(b"libraries".to_vec());
    question.path(dir);
    let world = gathered.world;
    let fact = world.fact(question, || {
        let names = world.names(dir);
        let names = names.map_err(|error| Bypass::new(Reason::UnknownLinkInput, error.to_string()))?;
        let mut value = Writer::default();
        names.unwrap_or_default().iter().filter(|name| is_library(name)).for_each(|name| {
            value.bytes(name);
        });
        Ok((value.0, vec![dir.to_owned()]))
    })?;
    let mut reader = Reader(&fact.value);
    while let Some(name) = reader.bytes() {
        gathered.take(&dir.join(OsStr::from_bytes(name)), InputKind::Native)?;
    }
    Ok(())
}

fn is_library(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    name.ends_with(".a") || name.ends_with(".so") || name.contains(".so.") || name.ends_with(".lib")
}

/// Whether the toolchain has it: what it has is part of it already.
fn in_toolchain(toolchain: &Toolchain, file: &str) -> bool {
    let lib = toolchain.sysroot.join("lib/rustlib").join(&toolchain.host).join("lib");
    lib.join(file).is_file() || lib.join("self-contained").join(file).is_file()
}

fn unknown(name: &str, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("the native library `{name}`: {why}"))
}
