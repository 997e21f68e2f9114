//! Finds native libraries as the linker does (KEY-14).
//!
//! The first directory that has a library of the name wins. If it has both a shared and a static library, the
//! linker may use either, so both count. A library that is named and not found makes the call a bypass.
//! Source code can name libraries, too (`#[link]`), and the command line does not show these. They are in
//! directories that a build script made, so each library in such a directory counts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::compiler::rustc::invocation::{NativeLibrary, RustcInvocation, SearchKind};
use crate::inputs::{
    ByteReader, ByteWriter, GatheredInputs, InputKind, LibraryReference, Toolchain, library_files,
    references_of_library,
};
use crate::invocation::{Bypass, Reason};
use crate::roles::Role;

/// Kinds of native libraries that stand for no file.
const WITHOUT_FILE: &[&str] = &["framework", "raw-dylib", "link-arg"];

/// Libraries that are linked into each program for a system with a C library.
const ALWAYS_LINKED: &[&str] = &["c", "dl", "gcc", "gcc_eh", "gcc_s", "m", "pthread", "rt", "util"];

/// Whether the linker needs the library again when a later compile links this crate. It does not need a
/// static library that is bundled into the crate.
pub(super) fn is_passed_on(library: &NativeLibrary) -> bool {
    match library.kind.as_deref() {
        Some("static") => library.modifiers.contains("-bundle"),
        Some(kind) => !WITHOUT_FILE.contains(&kind),
        None => true,
    }
}

/// Returns the name in the form of [`crate::inputs::CrateUses`]: a colon before it says that it is a file
/// name.
pub(super) fn passed_name(library: &NativeLibrary) -> String {
    match library.modifiers.contains("+verbatim") {
        true => format!(":{}", library.file_name()),
        false => library.file_name().to_owned(),
    }
}

/// The directories in which the linker searches for native libraries.
pub(super) struct NativeSearch {
    /// The directories that the call names; they come first.
    given: Vec<PathBuf>,
    /// The directories of the link toolchain.
    system: Vec<PathBuf>,
}

impl NativeSearch {
    /// Creates the search of a call. `more` are directories of the call that no `-L` of rustc names.
    pub(super) fn new(
        rustc: &RustcInvocation,
        cwd: &Path,
        more: &[PathBuf],
        system: &[PathBuf],
    ) -> NativeSearch {
        let of_natives = |kind| matches!(kind, SearchKind::Native | SearchKind::All);
        let given = rustc.searches.iter().filter(|search| of_natives(search.kind));
        let mut given: Vec<_> = given.map(|search| cwd.join(&search.path)).collect();
        given.extend(more.iter().cloned());
        NativeSearch { given, system: system.to_owned() }
    }

    /// Returns all directories, in order.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        self.given.iter().chain(&self.system).cloned().collect()
    }

    /// Adds the static libraries that rustc bundles into an `.rlib`.
    pub(super) fn add_bundled(
        &self,
        gathered: &mut GatheredInputs<'_>,
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
            let is_found = self.add_first(gathered, &[&file], &self.given)?;
            if !is_found && is_static && !in_toolchain(toolchain, &file) {
                return Err(unknown(name, "it was not found"));
            }
        }
        // The source may name further libraries that the package's build script has made.
        let out_dir = gathered.call.env.get("OUT_DIR").map(|dir| gathered.call.cwd.join(dir));
        let is_in_out_dir = |dir: &&PathBuf| out_dir.as_ref().is_some_and(|out_dir| dir.starts_with(out_dir));
        self.given.iter().filter(is_in_out_dir).try_for_each(|dir| add_all_libraries(gathered, dir))
    }

    /// Adds the files that a linker may use for these names, and all libraries in directories of the build.
    pub(super) fn add_linked<'n>(
        &self,
        gathered: &mut GatheredInputs<'_>,
        names: impl IntoIterator<Item = &'n str>,
        toolchain: &Toolchain,
    ) -> Result<(), Bypass> {
        let dirs = self.dirs();
        for name in names {
            let is_found = match name.strip_prefix(':') {
                Some(file) => self.add_first(gathered, &[file], &dirs)?,
                None => {
                    let (shared, archive) = (format!("lib{name}.so"), format!("lib{name}.a"));
                    // With `-Bstatic`, the linker skips a shared library that comes first.
                    let any = self.add_first(gathered, &[&shared, &archive], &dirs)?;
                    any | self.add_first(gathered, &[&archive], &dirs)? || in_toolchain(toolchain, &archive)
                }
            };
            if !is_found {
                return Err(unknown(name, "it was not found"));
            }
        }
        for dir in &self.given {
            let role = gathered.role_of(dir);
            if role != Role::Absolute && role != Role::Sysroot {
                add_all_libraries(gathered, dir)?;
                continue;
            }
            // This directory is not of the build, so only named libraries count. The libraries that are
            // always linked are among them, because the linker searches for them here first.
            for name in ALWAYS_LINKED {
                for file in [format!("lib{name}.so"), format!("lib{name}.a")] {
                    gathered.add_if_present(&dir.join(file), InputKind::Native)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the files for relative names in the linker's own scripts. A linker searches the call's directory
    /// and those that the call names before its own.
    pub(super) fn add_script_names(
        &self,
        gathered: &mut GatheredInputs<'_>,
        names: &[PathBuf],
    ) -> Result<(), Bypass> {
        let dirs = [vec![gathered.call.cwd.clone()], self.given.clone()].concat();
        for path in names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))) {
            if gathered.add_if_present(&path, InputKind::Native)?.is_some() {
                add_references(gathered, &path, &self.dirs(), 0)?;
            }
        }
        Ok(())
    }

    /// Adds these files from the first directory that has any of them. Returns whether one has.
    fn add_first(
        &self,
        gathered: &mut GatheredInputs<'_>,
        files: &[&str],
        dirs: &[PathBuf],
    ) -> Result<bool, Bypass> {
        for dir in dirs {
            let mut is_here = false;
            for file in files {
                let path = dir.join(file);
                if gathered.add_if_present(&path, InputKind::Native)?.is_some() {
                    is_here = true;
                    add_references(gathered, &path, dirs, 0)?;
                }
            }
            if is_here {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The largest depth of linker scripts and thin archives that refer to each other.
const REFERENCE_DEPTH_MAX: usize = 8;

/// Adds the files to which a library refers if it is a linker script or a thin archive. A file counts in each
/// directory where a linker may find it: some search beside the script first, others in the call's directory.
fn add_references(
    gathered: &mut GatheredInputs<'_>,
    path: &Path,
    dirs: &[PathBuf],
    depth: usize,
) -> Result<(), Bypass> {
    let references = references(gathered, path)?;
    if references.is_empty() {
        return Ok(());
    }
    if depth >= REFERENCE_DEPTH_MAX {
        return Err(unknown(&path.display().to_string(), "it refers to itself through other libraries"));
    }
    let beside = path.parent().unwrap_or(path).to_owned();
    let cwd = gathered.call.cwd.clone();
    for reference in references {
        let (files, search_dirs) = match reference {
            LibraryReference::Member(file) => (vec![file], vec![&beside]),
            LibraryReference::Library(name) => {
                (library_files(&name).into_iter().map(PathBuf::from).collect(), dirs.iter().collect())
            }
            LibraryReference::File(file) | LibraryReference::Included(file) => {
                (vec![file], [&beside, &cwd].into_iter().chain(dirs).collect::<Vec<_>>())
            }
        };
        for file in files.iter().flat_map(|file| search_dirs.iter().map(move |dir| dir.join(file))) {
            if file != path && file.is_file() && gathered.add_if_present(&file, InputKind::Native)?.is_some()
            {
                add_references(gathered, &file, dirs, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// Returns the references in the library in this file, from memory if it did not change.
fn references(gathered: &GatheredInputs<'_>, path: &Path) -> Result<Vec<LibraryReference>, Bypass> {
    let mut question = ByteWriter(b"names of a library".to_vec());
    question.path(path);
    let answer = gathered.world.cached_answer(question, || {
        let mut value = ByteWriter::default();
        references_of_library(path)?.iter().for_each(|reference| reference.write(&mut value));
        Ok((value.0, vec![path.to_owned()]))
    })?;
    let mut reader = ByteReader(&answer.value);
    Ok(std::iter::from_fn(|| LibraryReference::read(&mut reader)).collect())
}

/// Adds each library in a directory of the build.
fn add_all_libraries(gathered: &mut GatheredInputs<'_>, dir: &Path) -> Result<(), Bypass> {
    let mut question = ByteWriter(b"libraries".to_vec());
    question.path(dir);
    let world = gathered.world;
    let answer = world.cached_answer(question, || {
        let names = world.names(dir);
        let names = names.map_err(|error| Bypass::new(Reason::UnknownLinkInput, error.to_string()))?;
        let mut value = ByteWriter::default();
        names.unwrap_or_default().iter().filter(|name| is_library(name)).for_each(|name| {
            value.bytes(name);
        });
        Ok((value.0, vec![dir.to_owned()]))
    })?;
    let mut reader = ByteReader(&answer.value);
    while let Some(name) = reader.bytes() {
        gathered.add_if_present(&dir.join(OsStr::from_bytes(name)), InputKind::Native)?;
    }
    Ok(())
}

fn is_library(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    name.ends_with(".a") || name.ends_with(".so") || name.contains(".so.") || name.ends_with(".lib")
}

/// Whether the file is part of the toolchain, which counts by content anyway.
fn in_toolchain(toolchain: &Toolchain, file: &str) -> bool {
    let lib = toolchain.sysroot.join("lib/rustlib").join(&toolchain.host).join("lib");
    lib.join(file).is_file() || lib.join("self-contained").join(file).is_file()
}

fn unknown(name: &str, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("the native library `{name}`: {why}"))
}
