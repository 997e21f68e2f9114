//! Finds the link toolchain and hashes it: the linker and the files that it always links (KEY-15).
//!
//! kache finds the compiler driver (`cc`, or the value of `-C linker`) as rustc does, in the `PATH` of the
//! call, and asks it where it searches. There it finds the linkers that the driver calls, the startup objects
//! and the libraries of the system. The answer is remembered until one of these files and directories
//! changes. Linkers that come with a toolchain of rustc are part of that toolchain.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::Digest;

use crate::compiler::rustc::invocation::{RustcInvocation, TargetArgument};
use crate::inputs::{
    ByteReader, ByteWriter, DiskWorld, FileState, LibraryReference, LinkArgs, Stamp, Toolchain, World as _,
    ask, on_path, references_of_library,
};
use crate::invocation::{Bypass, Call, Reason, Word};
use crate::roles::normalise;

/// The variables that decide where a compiler driver searches.
const VARIABLES: &[&str] = &["COMPILER_PATH", "GCC_EXEC_PREFIX", "HOME", "LIBRARY_PATH", "PATH"];

/// The programs and plugins that a compiler driver may use for linking.
const PROGRAMS: &[&str] = &["collect2", "real-ld", "collect-ld", "ld", "lto-wrapper", "liblto_plugin.so"];

/// Files that may be linked although no argument names them, or that decide how: startup objects, the
/// compiler's own library, the C library and its parts.
const SYSTEM_FILES: &[&str] = &[
    "specs",
    "crt1.o",
    "Scrt1.o",
    "rcrt1.o",
    "gcrt1.o",
    "crti.o",
    "crtn.o",
    "crtbegin.o",
    "crtbeginS.o",
    "crtbeginT.o",
    "crtend.o",
    "crtendS.o",
    "libgcc.a",
    "libgcc_eh.a",
    "libgcc_s.so",
    "libgcc_s.so.1",
    "libc.so",
    "libc.so.6",
    "libc.a",
    "libc_nonshared.a",
    "libm.so",
    "libm.so.6",
    "libm.a",
    "libmvec.so.1",
    "libdl.so",
    "libdl.so.2",
    "libdl.a",
    "libpthread.so",
    "libpthread.so.0",
    "libpthread.a",
    "librt.so",
    "librt.so.1",
    "librt.a",
    "libutil.so",
    "libutil.so.1",
    "libutil.a",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// A C compiler links one of these into each program for a system with a C library.
const STARTUP_OBJECTS: &[&str] = &["crt1.o", "Scrt1.o"];

/// The option that changes the default linker.
const FLAVOR: &[u8] = b"linker-flavor";

/// The files and search paths of a linker and of the compiler that starts it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Linker {
    /// The files of the linker, and those that it always links.
    pub(super) files: Vec<LinkerFile>,
    /// The directories in which it searches for libraries after those that arguments name.
    pub(super) library_dirs: Vec<PathBuf>,
    /// The relative names in the linker scripts that it always reads, such as `libgcc_s.so.1`. It searches for
    /// them in the call's directory, then in those of `-L`, and then in its own.
    pub(super) relative_names: Vec<PathBuf>,
}

/// A file of a link toolchain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkerFile {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) is_executable: bool,
}

/// Returns the link toolchain of this call. If no answer is remembered, it runs the compiler driver once and
/// hashes the files. The default value stands for a linker that is part of the toolchain.
pub(super) fn linker(
    rustc: &RustcInvocation,
    call: &Call,
    toolchain: &Toolchain,
    arguments: &LinkArgs,
    from_spec: Option<&str>,
    world: &DiskWorld,
) -> Result<Linker, Bypass> {
    let triple = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => triple.clone(),
        Some(TargetArgument::Spec(path)) => {
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
        None => toolchain.host.clone(),
    };
    let named = rustc.linker.clone().or_else(|| from_spec.map(OsString::from));
    let is_flavor = |word: &Word| matches!(word, Word::Plain(text) if text.as_bytes().windows(FLAVOR.len()).any(|part| part == FLAVOR));
    let named = match named {
        Some(named) => named,
        None if rustc.words.iter().any(is_flavor) => {
            return Err(unknown("`linker-flavor` is given without `linker`"));
        }
        None => default_linker(&triple)?.into(),
    };
    // rustc puts the directory of its own tools before `PATH`; they are part of the toolchain.
    let own_tools = toolchain.sysroot.join("lib/rustlib").join(&toolchain.host).join("bin");
    if !named.as_bytes().contains(&b'/') && own_tools.join(&named).is_file() {
        return Ok(Linker::default());
    }
    let driver = on_path(Path::new(&named), call);
    let driver = driver.ok_or_else(|| unknown(&format!("`{}` was not found", named.display())))?;
    let mut flags = arguments.driver_flags.clone();
    flags.extend(machine_flag(&triple).map(OsString::from));
    let mut question = ByteWriter(b"linker".to_vec());
    question.path(&driver).u64(flags.len() as u64);
    flags.iter().for_each(|flag| {
        question.bytes(flag.as_bytes());
    });
    question.optional(arguments.fuse_ld.as_deref());
    if !arguments.driver_flags.is_empty() {
        // These flags may contain paths that are relative to the directory of the call.
        question.path(&call.cwd);
    }
    VARIABLES.iter().for_each(|name| {
        question.optional(call.env.get(name).map(OsStr::as_bytes));
    });
    let finder =
        LinkerFinder { world, call, driver: &driver, fuse_ld: arguments.fuse_ld.as_deref(), triple: &triple };
    let answer = world.cached_answer_about_installed(question, || finder.find(&flags))?;
    decode(&answer.value).ok_or_else(|| unknown("the remembered answer is damaged"))
}

/// Returns the linker that rustc uses for a target without `-C linker`.
fn default_linker(triple: &str) -> Result<&'static str, Bypass> {
    let has = |part: &str| triple.split('-').any(|one| one.starts_with(part));
    if triple.starts_with("wasm") && !has("emscripten") || has("none") || has("uefi") {
        return Ok("rust-lld");
    }
    let is_unix =
        ["linux", "freebsd", "netbsd", "openbsd", "dragonfly", "darwin", "apple"].iter().any(|it| has(it));
    match is_unix && !has("androideabi") && !triple.ends_with("-ohos") {
        true => Ok("cc"),
        false => Err(unknown(&format!("kache does not know the default linker for `{triple}`"))),
    }
}

/// Returns the flag by which rustc tells `cc` the machine.
fn machine_flag(triple: &str) -> Option<&'static str> {
    let is_gnu = triple.contains("-linux-");
    match triple.split('-').next()? {
        "x86_64" if triple.ends_with("x32") => Some("-mx32"),
        "x86_64" if is_gnu => Some("-m64"),
        "i586" | "i686" if is_gnu => Some("-m32"),
        _ => None,
    }
}

struct LinkerFinder<'a> {
    world: &'a DiskWorld,
    call: &'a Call,
    driver: &'a Path,
    fuse_ld: Option<&'a str>,
    triple: &'a str,
}

/// The directories in which a compiler driver searches, in order.
struct SearchDirs {
    programs: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl LinkerFinder<'_> {
    /// Returns the encoded link toolchain, and all paths that the answer depends on.
    fn find(&self, flags: &[OsString]) -> Result<(Vec<u8>, Vec<PathBuf>), Bypass> {
        let mut depends_on = vec![self.driver.to_owned()];
        let mut files = vec![self.driver.to_owned()];
        let mut library_dirs = Vec::new();
        let mut relative_names = BTreeSet::new();
        if !self.is_a_linker_itself() {
            let dirs = self.search_dirs(flags)?;
            depends_on.extend(dirs.programs.iter().chain(&dirs.libraries).cloned());
            files.extend(self.programs(&dirs, &mut depends_on)?);
            files.extend(self.system_files(&dirs, &mut relative_names)?);
            library_dirs = existing(&dirs.libraries);
        }
        let mut seen = BTreeSet::new();
        files.retain(|path| seen.insert(path.clone()));
        let mut value = ByteWriter::default();
        value.u64(files.len() as u64);
        for path in &files {
            let state = self.world.state(path).map_err(|error| unknown(&error.to_string()))?;
            let FileState::File { digest, is_executable } = state else {
                return Err(unknown(&format!("`{}` is not a file", path.display())));
            };
            value.path(path).digest(&digest).u32(u32::from(is_executable));
        }
        value.u64(library_dirs.len() as u64);
        library_dirs.iter().for_each(|dir| {
            value.path(dir);
        });
        value.u64(relative_names.len() as u64);
        relative_names.iter().for_each(|name| {
            value.path(name);
        });
        depends_on.extend(files);
        Ok((value.0, depends_on))
    }

    /// Whether the driver is itself a linker and not a compiler that calls one.
    fn is_a_linker_itself(&self) -> bool {
        let name = self.driver.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.rsplit('-').next().unwrap_or(&name);
        matches!(stem, "ld" | "lld" | "mold" | "wild") || stem.starts_with("ld.") || name.starts_with("ld64")
    }

    /// Asks the driver where it searches. Its answer has lines for `install`, `programs` and `libraries`.
    fn search_dirs(&self, flags: &[OsString]) -> Result<SearchDirs, Bypass> {
        let mut arguments: Vec<&OsStr> = flags.iter().map(OsString::as_os_str).collect();
        arguments.push(OsStr::new("-print-search-dirs"));
        let answer = ask(self.driver, &arguments, &self.call.env, VARIABLES, &self.call.cwd);
        let answer = answer.map_err(|error| unknown(&format!("`{}`: {error}", self.driver.display())))?;
        let list = |label: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(label))?;
            Some(std::env::split_paths(line.trim_start_matches([' ', '='])).collect::<Vec<_>>())
        };
        let lists = list("programs:").zip(list("libraries:"));
        let (programs, libraries) = lists.ok_or_else(|| {
            unknown(&format!("`{}` does not tell where it searches", self.driver.display()))
        })?;
        let absolute = |dirs: Vec<PathBuf>| {
            let mut seen = BTreeSet::new();
            let shortened = dirs.iter().map(|dir| shortened(&self.call.cwd.join(dir)));
            shortened.filter(|dir| seen.insert(dir.clone())).collect()
        };
        Ok(SearchDirs { programs: absolute(programs), libraries: absolute(libraries) })
    }

    /// Finds the programs that the driver may run. A program may also appear later in a directory of `PATH`
    /// that comes earlier, so the answer depends on these paths, too.
    fn programs(&self, dirs: &SearchDirs, depends_on: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, Bypass> {
        let mut found = Vec::new();
        for name in PROGRAMS {
            let in_path = || on_path(Path::new(name), self.call).filter(|_| *name == "ld");
            found.extend(first(&dirs.programs, name).or_else(in_path));
        }
        let path = self.call.env.get("PATH").unwrap_or_default();
        let path_dirs = || std::env::split_paths(path).map(|dir| self.call.cwd.join(dir));
        depends_on.extend(path_dirs().map(|dir| dir.join("ld")));
        let Some(fuse_ld) = self.fuse_ld else { return Ok(found) };
        if fuse_ld.contains('/') {
            found.push(self.call.cwd.join(fuse_ld));
            return Ok(found);
        }
        let name = format!("ld.{fuse_ld}");
        let chosen = first(&dirs.programs, &name).or_else(|| on_path(Path::new(&name), self.call));
        depends_on.extend(path_dirs().map(|dir| dir.join(&name)));
        match chosen {
            Some(chosen) => found.push(chosen),
            // The toolchain of rustc brings an lld of its own.
            None if fuse_ld == "lld" => {}
            None => return Err(unknown(&format!("`-fuse-ld={fuse_ld}` was not found"))),
        }
        Ok(found)
    }

    /// Finds the files that are always linked, and the files that linker scripts among them name by absolute
    /// paths. Adds the other names in these scripts to `relative_names`.
    fn system_files(
        &self,
        dirs: &SearchDirs,
        relative_names: &mut BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, Bypass> {
        let mut found = Vec::new();
        for name in SYSTEM_FILES {
            let Some(path) = first(&dirs.libraries, name) else { continue };
            let named = references_of_library(&path)?.into_iter().filter_map(|named| match named {
                LibraryReference::File(file) => Some(file),
                _ => None,
            });
            let (absolute, relative): (Vec<_>, Vec<_>) = named.partition(|file| file.is_absolute());
            found.extend(absolute.into_iter().filter(|file| file.is_file()));
            relative_names.extend(relative);
            found.push(path);
        }
        // For musl and some other targets, rustc's toolchain has a C library of its own, and `cc` adds none.
        let is_needed = self.triple.contains("-gnu");
        let is_startup = |path: &PathBuf| STARTUP_OBJECTS.iter().any(|name| path.ends_with(name));
        match is_needed && !found.iter().any(is_startup) {
            true => Err(unknown(&format!("`{}` has no startup objects", self.driver.display()))),
            false => Ok(found),
        }
    }
}

/// Returns the path of the file in the first of these directories that has it.
fn first(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())?;
    // Search paths contain `..` (`…/12/../../../x86_64-linux-gnu`). A file should have one name in the key,
    // so the directory is resolved. The file name is not, because the linker uses it as it is.
    let dir = found.parent()?.canonicalize().ok()?;
    Some(dir.join(name))
}

/// Removes `..` from the path of a directory, if the shorter path leads to the same directory.
fn shortened(dir: &Path) -> PathBuf {
    let short = normalise(dir);
    let is_same = Stamp::of(&short).ok() == Stamp::of(dir).ok();
    if is_same { short } else { dir.to_owned() }
}

/// Returns the real paths of the directories that exist, without duplicates.
fn existing(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let real = dirs.iter().filter_map(|dir| dir.canonicalize().ok());
    real.filter(|dir| seen.insert(dir.clone())).collect()
}

fn decode(value: &[u8]) -> Option<Linker> {
    let mut reader = ByteReader(value);
    let mut linker = Linker::default();
    for _ in 0..reader.u64()? {
        let (path, digest, is_executable) = (reader.path()?, reader.digest()?, reader.u32()? != 0);
        linker.files.push(LinkerFile { path, digest, is_executable });
    }
    for _ in 0..reader.u64()? {
        linker.library_dirs.push(reader.path()?);
    }
    for _ in 0..reader.u64()? {
        linker.relative_names.push(reader.path()?);
    }
    Some(linker)
}

fn unknown(why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("the linker: {why}"))
}
