//! What the arguments for the linker name (KEY-15).
//!
//! Every word that names a file makes it an input, whatever the word means to the linker:
//! version scripts, objects, plugins. What decides where a linker looks is kept apart. An
//! argument file is an input and is read; so is a linker script, which may include others.
//! What cannot be found makes the compile uncacheable where it would have to be there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::library::{Named, library_files, named_by_script};
use crate::invocation::{Bypass, Reason};

/// How deep argument files and scripts may name each other.
const DEPTH_MAX: usize = 8;

/// How long one of them may be.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// How words begin that decide where a compiler driver looks, or for which machine it links.
const DRIVER_FLAGS: &[&str] =
    &["-B", "-m", "--sysroot", "-isysroot", "--target", "--gcc-toolchain", "-specs"];

/// Options by which a linker, or the compiler driver in front of it, writes files besides its output.
const WRITING: &[&str] = &[
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

/// How words begin that let a C compiler look at the processor.
const OF_PROCESSOR: &[&str] = &["-march=", "-mcpu=", "-mtune="];

/// What linker arguments say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LinkArgs {
    /// Files, absolute.
    pub(super) files: Vec<PathBuf>,
    /// `-L`, absolute.
    pub(super) dirs: Vec<PathBuf>,
    /// `-l`.
    pub(super) libraries: Vec<String>,
    /// What the compiler driver has to be told when it is asked where it looks.
    pub(super) driver_flags: Vec<OsString>,
    /// `-fuse-ld`.
    pub(super) fuse_ld: Option<String>,
    /// Scripts that are looked for in all library directories.
    pub(super) scripts: Vec<PathBuf>,
}

impl LinkArgs {
    /// Reads the arguments of a call from this directory.
    pub(super) fn read<'a>(
        arguments: impl IntoIterator<Item = &'a OsStr>,
        cwd: &Path,
    ) -> Result<LinkArgs, Bypass> {
        let mut found = LinkArgs::default();
        let words: Vec<Vec<u8>> = arguments.into_iter().flat_map(split).collect();
        found.words(&words, cwd, 0)?;
        Ok(found)
    }

    fn words(&mut self, words: &[Vec<u8>], cwd: &Path, depth: usize) -> Result<(), Bypass> {
        let mut words = words.iter().map(|word| OsStr::from_bytes(word));
        while let Some(word) = words.next() {
            refuse(word)?;
            // Words of a linker that take another one.
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
            // `-Ttext=0` and its like are addresses.
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

    /// The word itself, or what follows its first `=`, if there is such a file.
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
            return Err(unknown(path, "it quotes its words"));
        }
        let words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<Vec<u8>> = words.flat_map(|word| split(OsStr::from_bytes(word))).collect();
        self.words(&words, cwd, depth + 1)
    }
}

/// Refuses what no key could hold, and what a hit would not make.
fn refuse(word: &OsStr) -> Result<(), Bypass> {
    let word = text(word);
    let why = if writes(&word) {
        "the linker writes a file besides its output"
    } else if OF_PROCESSOR.iter().any(|start| word.strip_prefix(start) == Some("native")) {
        "the C compiler looks at the processor"
    } else {
        return Ok(());
    };
    Err(Bypass::new(Reason::UncacheableOption, format!("{word}: {why}")))
}

fn writes(word: &str) -> bool {
    let Some(option) = word.strip_prefix('-') else { return false };
    let option = option.strip_prefix('-').unwrap_or(option);
    let name = option.split('=').next().unwrap_or_default();
    let of_plugin = option.strip_prefix("plugin-opt=").or_else(|| option.strip_prefix("plugin-opt,"));
    let is_plugins = |starts: &[&str]| {
        of_plugin
            .is_some_and(|rest| starts.iter().any(|start| rest.trim_start_matches('-').starts_with(start)))
    };
    WRITING.contains(&name)
        || name.starts_with("fdump-")
        || is_plugins(&["cache-dir=", "obj-path=", "save-temps"])
}

/// `-Wl,a,b` and `-Xlinker a` are words for the linker.
fn split(argument: &OsStr) -> Vec<Vec<u8>> {
    match argument.as_bytes().strip_prefix(b"-Wl,") {
        Some(words) => words.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect(),
        None if argument == "-Xlinker" => Vec::new(),
        None => vec![argument.as_bytes().to_vec()],
    }
}

/// The file that a script's name means, and every file that it includes or links.
pub(super) fn script_files(script: &Path, cwd: &Path, dirs: &[PathBuf]) -> Result<Vec<PathBuf>, Bypass> {
    let mut files = Vec::new();
    follow(script, cwd, dirs, &mut files, 0)?;
    Ok(files)
}

fn follow(
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
    // A linker takes one of these; which one depends on the linker, and so all of them count.
    let places: Vec<_> = [&beside, &cwd.to_owned()].into_iter().chain(dirs).cloned().collect();
    let mut take = |name: &Path| {
        files.extend(places.iter().map(|dir| dir.join(name)).filter(|path| path.is_file()));
    };
    let mut included = Vec::new();
    for name in named_by_script(&read(&found)?) {
        match name {
            Named::Included(name) => included.push(name),
            Named::File(path) | Named::Member(path) => take(&path),
            Named::Library(name) => library_files(&name).iter().for_each(|file| take(Path::new(file))),
        }
    }
    included.iter().try_for_each(|name| follow(name, cwd, dirs, files, depth + 1))
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
