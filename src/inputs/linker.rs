//! Which linker it is, and what it always links: by content (KEY-15).
//!
//! The compiler driver (`cc`, or what `-C linker` names) is found as rustc finds it, in the
//! call's own `PATH`, and asked once where it looks; the linkers behind it, the startup
//! objects and the system's libraries are then found there as it finds them. The answer holds
//! while none of these files and directories changes. The linkers that come with a toolchain
//! are part of the toolchain.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::Digest;

use super::bytes::{Reader, Writer};
use super::disk_world::DiskWorld;
use super::library::{Named, named_by_library};
use super::link_args::LinkArgs;
use super::process::ask;
use super::proxy::on_path;
use super::stamp::Stamp;
use super::types::Toolchain;
use super::world::{FileState, World as _};
use crate::invocation::rustc::{RustcInvocation, TargetArgument, Word};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::normalise;

/// What decides where a compiler driver looks.
const VARIABLES: &[&str] = &["COMPILER_PATH", "GCC_EXEC_PREFIX", "HOME", "LIBRARY_PATH", "PATH"];

/// Programs that a compiler driver may run to link.
const PROGRAMS: &[&str] = &["collect2", "real-ld", "collect-ld", "ld", "lto-wrapper", "liblto_plugin.so"];

/// What may be linked without being asked for, and what decides how: startup objects, the
/// compiler's own library, the C library and those that belong to it.
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

/// One of these is in everything that a C compiler links for a system with a C library.
const STARTUP_OBJECTS: &[&str] = &["crt1.o", "Scrt1.o"];

/// The option that chooses another usual linker.
const FLAVOR: &[u8] = b"linker-flavor";

/// A store whose paths say what is in them, all the way down: scripts are sound there.
const CONTENT_ADDRESSED: &str = "/nix/store/";

/// A linker with everything behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Linker {
    /// Its files.
    pub(super) files: Vec<LinkerFile>,
    /// Where it looks for libraries besides where it is told to.
    pub(super) library_dirs: Vec<PathBuf>,
    /// Names without a directory in the scripts that it always reads, such as `libgcc_s.so.1`. It looks for
    /// them in the call's directory before it looks in these directories.
    pub(super) relative_names: Vec<PathBuf>,
}

/// A file that a linker reads or is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkerFile {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) is_executable: bool,
}

/// The linker of this call.
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
            return Err(unknown("its flavor is given and its name is not"));
        }
        None => usual_linker(&triple)?.into(),
    };
    // rustc puts its own tools in front of `PATH`; they are part of the toolchain.
    let own_tools = toolchain.sysroot.join("lib/rustlib").join(&toolchain.host).join("bin");
    if !named.as_bytes().contains(&b'/') && own_tools.join(&named).is_file() {
        return Ok(Linker::default());
    }
    let driver = on_path(Path::new(&named), call);
    let driver = driver.ok_or_else(|| unknown(&format!("`{}` was not found", named.display())))?;
    let mut flags = arguments.driver_flags.clone();
    flags.extend(machine_flag(&triple).map(OsString::from));
    let mut question = Writer(b"linker and relative names".to_vec());
    question.path(&driver).u64(flags.len() as u64);
    flags.iter().for_each(|flag| {
        question.bytes(flag.as_bytes());
    });
    question.optional(arguments.fuse_ld.as_deref());
    if !arguments.driver_flags.is_empty() {
        // These may name directories that count from the call's.
        question.path(&call.cwd);
    }
    VARIABLES.iter().for_each(|name| {
        question.optional(call.env.get(name).map(OsStr::as_bytes));
    });
    let finder =
        Finder { world, call, driver: &driver, fuse_ld: arguments.fuse_ld.as_deref(), triple: &triple };
    let fact = world.fact_of_installed(question, || finder.find(&flags))?;
    decode(&fact.value).ok_or_else(|| unknown("what is known of it is damaged"))
}

/// What rustc calls where nothing else is said.
fn usual_linker(triple: &str) -> Result<&'static str, Bypass> {
    let has = |part: &str| triple.split('-').any(|one| one.starts_with(part));
    if triple.starts_with("wasm") && !has("emscripten") || has("none") || has("uefi") {
        return Ok("rust-lld");
    }
    let is_unix =
        ["linux", "freebsd", "netbsd", "openbsd", "dragonfly", "darwin", "apple"].iter().any(|it| has(it));
    match is_unix && !has("androideabi") && !triple.ends_with("-ohos") {
        true => Ok("cc"),
        false => Err(unknown(&format!("which one is used for `{triple}`"))),
    }
}

/// What rustc tells `cc` of the machine.
fn machine_flag(triple: &str) -> Option<&'static str> {
    let is_gnu = triple.contains("-linux-");
    match triple.split('-').next()? {
        "x86_64" if triple.ends_with("x32") => Some("-mx32"),
        "x86_64" if is_gnu => Some("-m64"),
        "i586" | "i686" if is_gnu => Some("-m32"),
        _ => None,
    }
}

struct Finder<'a> {
    world: &'a DiskWorld,
    call: &'a Call,
    driver: &'a Path,
    fuse_ld: Option<&'a str>,
    triple: &'a str,
}

/// Where a compiler driver looks, in order.
struct Places {
    programs: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Finder<'_> {
    /// The linker, encoded, and every path that the answer depends on.
    fn find(&self, flags: &[OsString]) -> Result<(Vec<u8>, Vec<PathBuf>), Bypass> {
        let mut depends_on = vec![self.driver.to_owned()];
        let mut files = vec![self.driver.to_owned()];
        let mut library_dirs = Vec::new();
        let mut relative_names = BTreeSet::new();
        if !self.is_a_linker_itself() {
            let places = self.places(flags)?;
            depends_on.extend(places.programs.iter().chain(&places.libraries).cloned());
            files.extend(self.programs(&places, &mut depends_on)?);
            files.extend(self.system_files(&places, &mut relative_names)?);
            library_dirs = existing(&places.libraries);
        }
        let mut seen = BTreeSet::new();
        files.retain(|path| seen.insert(path.clone()));
        let mut value = Writer::default();
        value.u64(files.len() as u64);
        for path in &files {
            let state = self.world.state(path).map_err(|error| unknown(&error.to_string()))?;
            let FileState::File { digest, is_executable } = state else {
                return Err(unknown(&format!("`{}` is no file", path.display())));
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

    /// Whether it is a linker, not a compiler that calls one.
    fn is_a_linker_itself(&self) -> bool {
        let name = self.driver.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.rsplit('-').next().unwrap_or(&name);
        matches!(stem, "ld" | "lld" | "mold" | "wild") || stem.starts_with("ld.") || name.starts_with("ld64")
    }

    /// Asks the driver. Its answer has `install`, `programs` and `libraries`.
    fn places(&self, flags: &[OsString]) -> Result<Places, Bypass> {
        let mut arguments: Vec<&OsStr> = flags.iter().map(OsString::as_os_str).collect();
        arguments.push(OsStr::new("-print-search-dirs"));
        let said = ask(self.driver, &arguments, &self.call.env, VARIABLES, &self.call.cwd);
        let said = said.map_err(|error| unknown(&format!("`{}`: {error}", self.driver.display())))?;
        let list = |label: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(label))?;
            Some(std::env::split_paths(line.trim_start_matches([' ', '='])).collect::<Vec<_>>())
        };
        let places = list("programs:").zip(list("libraries:"));
        let (programs, libraries) = places
            .ok_or_else(|| unknown(&format!("`{}` does not say where it looks", self.driver.display())))?;
        let absolute = |dirs: Vec<PathBuf>| {
            let mut seen = BTreeSet::new();
            let plain = dirs.iter().map(|dir| plain(&self.call.cwd.join(dir)));
            plain.filter(|dir| seen.insert(dir.clone())).collect()
        };
        Ok(Places { programs: absolute(programs), libraries: absolute(libraries) })
    }

    fn programs(&self, places: &Places, depends_on: &mut Vec<PathBuf>) -> Result<Vec<PathBuf>, Bypass> {
        let mut found = Vec::new();
        for name in PROGRAMS {
            let by_path = || on_path(Path::new(name), self.call).filter(|_| *name == "ld");
            found.extend(first(&places.programs, name).or_else(by_path));
        }
        // A linker may also appear earlier in `PATH` than the one that is found there now.
        let path = self.call.env.get("PATH").unwrap_or_default();
        let on_the_way = std::env::split_paths(path).map(|dir| self.call.cwd.join(dir));
        depends_on.extend(on_the_way.map(|dir| dir.join("ld")));
        let Some(fuse_ld) = self.fuse_ld else { return Ok(found) };
        if fuse_ld.contains('/') {
            found.push(self.call.cwd.join(fuse_ld));
            return Ok(found);
        }
        let name = format!("ld.{fuse_ld}");
        let chosen = first(&places.programs, &name).or_else(|| on_path(Path::new(&name), self.call));
        let on_the_way = std::env::split_paths(path).map(|dir| self.call.cwd.join(dir));
        depends_on.extend(on_the_way.map(|dir| dir.join(&name)));
        match chosen {
            Some(chosen) => found.push(chosen),
            None if fuse_ld == "lld" => {}
            None => return Err(unknown(&format!("`-fuse-ld={fuse_ld}` was not found"))),
        }
        Ok(found)
    }

    /// Also adds the names in linker scripts that are relative.
    fn system_files(
        &self,
        places: &Places,
        relative_names: &mut BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, Bypass> {
        let mut found = Vec::new();
        for name in SYSTEM_FILES {
            let Some(path) = first(&places.libraries, name) else { continue };
            let named = named_by_library(&path)?.into_iter().filter_map(|named| match named {
                Named::File(file) => Some(file),
                _ => None,
            });
            let (absolute, relative): (Vec<_>, Vec<_>) = named.partition(|file| file.is_absolute());
            found.extend(absolute.into_iter().filter(|file| file.is_file()));
            relative_names.extend(relative);
            found.push(path);
        }
        // Where a toolchain brings a C library of its own, as for musl, `cc` has none to add.
        let is_needed = self.triple.contains("-gnu");
        let is_startup = |path: &PathBuf| STARTUP_OBJECTS.iter().any(|name| path.ends_with(name));
        match is_needed && !found.iter().any(is_startup) {
            true => Err(unknown(&format!("`{}` has no startup objects", self.driver.display()))),
            false => Ok(found),
        }
    }
}

/// The first of these directories that has it.
fn first(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())?;
    // Search paths go up and down again (`…/12/../../../x86_64-linux-gnu`): one file is to
    // have one name. Only the directory is resolved: the name says what it is linked as.
    let dir = found.parent()?.canonicalize().ok()?;
    Some(dir.join(name))
}

/// Without going up and down again, where that leads to the same directory.
fn plain(dir: &Path) -> PathBuf {
    let short = normalise(dir);
    let is_same = Stamp::of(&short).ok() == Stamp::of(dir).ok();
    if is_same { short } else { dir.to_owned() }
}

/// Those that exist, each once, under their real names.
fn existing(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let real = dirs.iter().filter_map(|dir| dir.canonicalize().ok());
    real.filter(|dir| seen.insert(dir.clone())).collect()
}

fn decode(value: &[u8]) -> Option<Linker> {
    let mut reader = Reader(value);
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

/// Whether a program is a script, which may read and run anything: what it does has to be observed.
/// One whose path says what is in it, all the way down, is sound without.
pub fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    let Ok(real) = program.canonicalize() else { return true };
    let read = File::open(&real).and_then(|mut file| file.read(&mut start));
    !is_sealed(&real) && (read.is_err() || start == *b"#!")
}

/// Whether a path says what is in the file, all the way down.
pub fn is_sealed(path: &Path) -> bool {
    path.starts_with(CONTENT_ADDRESSED)
}

fn unknown(why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("the linker: {why}"))
}
