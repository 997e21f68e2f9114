//! Reads the arguments for the linker (KEY-15).
//!
//! Each argument that names an existing file makes the file an input, whatever the argument means to the
//! linker: version scripts, objects, plugins. Arguments that decide where the linker searches are kept
//! separately. Argument files and linker scripts are inputs, and kache reads them, because they may name
//! other files. A call is a bypass if a file that the linker needs is missing, or if an argument makes the
//! linker write another file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::library::{LibraryReference, library_files, references_of_script};
use crate::invocation::{Bypass, Reason};

/// The largest depth of argument files or scripts that name each other.
const DEPTH_MAX: usize = 8;

/// The largest argument file or script, in bytes.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// The beginnings of arguments that decide where a compiler driver searches, or for which machine it links.
const DRIVER_FLAGS: &[&str] =
    &["-B", "-m", "--sysroot", "-isysroot", "--target", "--gcc-toolchain", "-specs"];

/// Options that make the linker, or the compiler driver that calls it, write a file besides the output.
const WRITING_OPTIONS: &[&str] = &[
    "Map",
    "Mapfile",
    "base-file",
    "dependency-file",
    "dependency_info",
    "lto-obj-path",
    "map",
    "o",
    "object_path_lto",
    "opt-remarks-filename",
    "out-implib",
    "output",
    "output-def",
    "pdb",
    "print-archive-stats",
    "print-symbol-order",
    "reproduce",
    "save-temps",
    "separate-debug-file",
    "thinlto-cache-dir",
    "time-trace",
    "time-trace-file",
];

/// Options for which the value `native` makes a C compiler look at the processor.
const PROCESSOR_OPTIONS: &[&str] = &["-march=", "-mcpu=", "-mtune="];

/// The arguments for the linker, sorted by what they are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkArgs {
    /// The files that arguments name, absolute.
    pub(crate) files: Vec<PathBuf>,
    /// The directories of `-L`, absolute.
    pub(crate) dirs: Vec<PathBuf>,
    /// The names of `-l`.
    pub(crate) libraries: Vec<String>,
    /// The flags that the compiler driver needs when kache asks it where it searches.
    pub(crate) driver_flags: Vec<OsString>,
    /// The value of `-fuse-ld`.
    pub(crate) fuse_ld: Option<String>,
    /// The linker scripts, which the linker searches for in all library directories.
    pub(crate) scripts: Vec<PathBuf>,
}

impl LinkArgs {
    /// Reads the arguments. Relative paths start at `cwd`.
    pub(crate) fn read<'a>(
        arguments: impl IntoIterator<Item = &'a OsStr>,
        cwd: &Path,
    ) -> Result<LinkArgs, Bypass> {
        let mut link_args = LinkArgs::default();
        let words: Vec<Vec<u8>> = arguments.into_iter().flat_map(split).collect();
        link_args.words(&words, cwd, 0)?;
        Ok(link_args)
    }

    fn words(&mut self, words: &[Vec<u8>], cwd: &Path, depth: usize) -> Result<(), Bypass> {
        let mut words = words.iter().map(|word| OsStr::from_bytes(word));
        while let Some(word) = words.next() {
            refuse_uncacheable(word)?;
            // These options of a linker have a separate value.
            match word.as_bytes() {
                b"-L" => self.dirs.extend(words.next().map(|dir| cwd.join(dir))),
                b"-l" => self.libraries.extend(words.next().map(text)),
                b"-T" => self.scripts.extend(words.next().map(PathBuf::from)),
                b"-target" | b"-arch" => {
                    self.driver_flags.push(word.to_owned());
                    self.driver_flags.extend(words.next().map(OsStr::to_owned));
                }
                _ => self.word(word, cwd, depth)?,
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &OsStr, cwd: &Path, depth: usize) -> Result<(), Bypass> {
        let after = |start: &str| word.as_bytes().strip_prefix(start.as_bytes()).map(OsStr::from_bytes);
        if let Some(path) = after("@") {
            return self.argument_file(&cwd.join(path), cwd, depth);
        }
        if let Some(dir) = after("-L").or_else(|| after("--library-path=")) {
            self.dirs.push(cwd.join(dir));
        } else if let Some(name) = after("-fuse-ld=").or_else(|| after("--ld-path=")) {
            self.fuse_ld = Some(text(name));
        } else if let Some(name) = after("-l").or_else(|| after("--library=")) {
            self.libraries.push(text(name));
        } else if let Some(script) =
            after("-T").or_else(|| after("--script=")).or_else(|| after("--default-script="))
        {
            // `-Ttext=0` and similar options set addresses.
            if !script.as_bytes().contains(&b'=') {
                self.scripts.push(script.into());
            }
        } else if DRIVER_FLAGS.iter().any(|flag| after(flag).is_some()) {
            self.driver_flags.push(word.to_owned());
            self.file(word, cwd);
        } else {
            self.file(word, cwd);
        }
        Ok(())
    }

    /// Adds the file that this argument names, if there is one: the text after the first `=`, or the whole
    /// argument.
    fn file(&mut self, word: &OsStr, cwd: &Path) {
        let value = word.as_bytes().splitn(2, |byte| *byte == b'=').nth(1).map(OsStr::from_bytes);
        let candidates = value.into_iter().chain([word]).filter(|path| !path.is_empty());
        self.files.extend(candidates.map(|path| cwd.join(path)).find(|path| path.is_file()));
    }

    fn argument_file(&mut self, path: &Path, cwd: &Path, depth: usize) -> Result<(), Bypass> {
        if depth >= DEPTH_MAX {
            return Err(unknown(path, "argument files name each other too deeply"));
        }
        let content = read(path)?;
        self.files.push(path.to_owned());
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\');
        if content.iter().any(is_special) {
            return Err(unknown(path, "it contains quotes or backslashes"));
        }
        let words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<Vec<u8>> = words.flat_map(|word| split(OsStr::from_bytes(word))).collect();
        self.words(&words, cwd, depth + 1)
    }
}

/// Refuses an argument whose effect is not in the key, and one that makes a file which a hit would not
/// restore.
fn refuse_uncacheable(word: &OsStr) -> Result<(), Bypass> {
    let word = text(word);
    let why = if writes_file(&word) {
        "the linker writes a file besides its output"
    } else if PROCESSOR_OPTIONS.iter().any(|start| word.strip_prefix(start) == Some("native")) {
        "the C compiler looks at the processor"
    } else {
        return Ok(());
    };
    Err(Bypass::new(Reason::UncacheableOption, format!("{word}: {why}")))
}

fn writes_file(word: &str) -> bool {
    let Some(option) = word.strip_prefix('-') else { return false };
    let option = option.strip_prefix('-').unwrap_or(option);
    let name = option.split('=').next().unwrap_or_default();
    let of_plugin = option.strip_prefix("plugin-opt=").or_else(|| option.strip_prefix("plugin-opt,"));
    let is_plugins = |starts: &[&str]| {
        of_plugin
            .is_some_and(|rest| starts.iter().any(|start| rest.trim_start_matches('-').starts_with(start)))
    };
    WRITING_OPTIONS.contains(&name)
        || name.starts_with("fdump-")
        || is_plugins(&["cache-dir=", "obj-path=", "save-temps"])
}

/// Splits an argument of the compiler driver: `-Wl,a,b` is two arguments for the linker, and `-Xlinker` only
/// says that the next argument is for the linker.
fn split(argument: &OsStr) -> Vec<Vec<u8>> {
    match argument.as_bytes().strip_prefix(b"-Wl,") {
        Some(words) => words.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect(),
        None if argument == "-Xlinker" => Vec::new(),
        None => vec![argument.as_bytes().to_vec()],
    }
}

/// Returns the file of a linker script, and all files that it includes or links.
pub(crate) fn script_files(script: &Path, cwd: &Path, dirs: &[PathBuf]) -> Result<Vec<PathBuf>, Bypass> {
    let mut files = Vec::new();
    add_script(script, cwd, dirs, &mut files, 0)?;
    Ok(files)
}

fn add_script(
    script: &Path,
    cwd: &Path,
    dirs: &[PathBuf],
    files: &mut Vec<PathBuf>,
    depth: usize,
) -> Result<(), Bypass> {
    if depth >= DEPTH_MAX {
        return Err(unknown(script, "linker scripts include each other too deeply"));
    }
    let candidates = [cwd.to_owned()].into_iter().chain(dirs.iter().cloned()).map(|dir| dir.join(script));
    let found = candidates.into_iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| unknown(script, "there is no such linker script"))?;
    if files.contains(&found) {
        return Ok(());
    }
    files.push(found.clone());
    let beside = found.parent().unwrap_or(cwd).to_owned();
    // A linker uses only one of these files, but which one depends on the linker. So all of them count.
    let search_dirs: Vec<_> = [&beside, &cwd.to_owned()].into_iter().chain(dirs).cloned().collect();
    let mut add = |name: &Path| {
        files.extend(search_dirs.iter().map(|dir| dir.join(name)).filter(|path| path.is_file()));
    };
    let mut included = Vec::new();
    for name in references_of_script(&read(&found)?) {
        match name {
            LibraryReference::Included(name) => included.push(name),
            LibraryReference::File(path) | LibraryReference::Member(path) => add(&path),
            LibraryReference::Library(name) => {
                library_files(&name).iter().for_each(|file| add(Path::new(file)));
            }
        }
    }
    included.iter().try_for_each(|name| add_script(name, cwd, dirs, files, depth + 1))
}

fn read(path: &Path) -> Result<Vec<u8>, Bypass> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut content));
    match read {
        Err(error) => Err(unknown(path, &error.to_string())),
        Ok(len) if len as u64 > TEXT_BYTES_MAX => Err(unknown(path, "it is too long")),
        Ok(_) => Ok(content),
    }
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

fn unknown(path: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {why}", path.display()))
}
