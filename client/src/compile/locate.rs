//! Finds the address of a call's daemon without parsing configuration files.
//!
//! Variables and defaults are nearly always enough. Only where a configuration file might name a
//! directory does the client run the engine, and it remembers the engine's answer beside the sockets
//! until one of the files changes. Parsing TOML here would be paid for with every compile. In doubt
//! the engine is run: that costs a moment once, and a wrong guess would mean another store.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::address::{self, DaemonAddress};
use crate::engine::engine_path;
use crate::os;
use crate::variables;

/// A project's configuration file, which is looked for in the call's directory and above. The
/// engine's `config/load.rs` looks for it in the same way.
const PROJECT_FILE: &str = ".kache.toml";

/// The settings that the engine is asked for, in the order in which their values are remembered.
const KEYS: [&str; 2] = ["cache.dir", "daemon.socket_dir"];

/// A word that every file holds which sets one of the two: both keys end in it.
const DIR_WORD: &[u8] = b"dir";

/// The longest configuration file that is searched; the engine rejects longer ones.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Returns the address of this call's daemon; `None` where it cannot be found, for a reason that
/// the engine reports to the user.
pub(crate) fn daemon_address(cwd: &Path) -> Option<DaemonAddress> {
    let set = VariableDirs::read(cwd);
    let files = config_files(cwd);
    let is_open = set.cache_dir.is_none() || set.socket_dir.is_none();
    if is_open && files.iter().any(|file| may_name_a_dir(file)) {
        return address_by_engine(cwd, &set, &files);
    }
    let cache_dir = set.cache_dir.or_else(usual_cache_dir)?;
    Some(DaemonAddress::new(&cache_dir, set.socket_dir.as_deref()))
}

/// The directories that are set by environment variables.
struct VariableDirs {
    cache_dir: Option<PathBuf>,
    socket_dir: Option<PathBuf>,
}

impl VariableDirs {
    fn read(cwd: &Path) -> VariableDirs {
        let path = |name| Some(absolute_path(PathBuf::from(variables::get(name)?), cwd));
        VariableDirs { cache_dir: path(variables::CACHE_DIR), socket_dir: path(variables::SOCKET_DIR) }
    }
}

/// Makes a path absolute as the engine does: `~` is the home directory, and every other relative
/// path starts at the call's directory.
fn absolute_path(path: PathBuf, cwd: &Path) -> PathBuf {
    match (path.strip_prefix("~"), home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => cwd.join(path),
    }
}

/// Returns the value of a variable that must be an absolute path, as the XDG specification demands.
fn absolute_variable(name: &'static str) -> Option<PathBuf> {
    variables::get(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home() -> Option<PathBuf> {
    absolute_variable(variables::HOME).or_else(os::home_dir)
}

fn usual_cache_dir() -> Option<PathBuf> {
    let caches = absolute_variable(variables::XDG_CACHE_HOME).or_else(|| Some(home()?.join(".cache")))?;
    Some(caches.join("kache"))
}

/// Returns the configuration files that exist.
fn config_files(cwd: &Path) -> Vec<PathBuf> {
    let configs = || absolute_variable(variables::XDG_CONFIG_HOME).or_else(|| Some(home()?.join(".config")));
    let user = variables::get(variables::CONFIG)
        .map(|path| cwd.join(path))
        .or_else(|| Some(configs()?.join("kache/config.toml")));
    let project = cwd.ancestors().map(|dir| dir.join(PROJECT_FILE)).find(|path| exists(path));
    user.into_iter().filter(|path| exists(path)).chain(project).collect()
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Returns whether any line that is no comment could set a directory. A line with a Unicode escape
/// counts as well, since a key can be written with one. So does a file that cannot be read.
fn may_name_a_dir(path: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
    let holds = |line: &[u8], word: &[u8]| line.windows(word.len()).any(|part| part == word);
    let is_comment = |line: &[u8]| line.trim_ascii_start().starts_with(b"#");
    read.is_err()
        || text.len() as u64 == FILE_BYTES_MAX
        || text
            .split(|byte| *byte == b'\n')
            .filter(|line| !is_comment(line))
            .any(|line| holds(line, DIR_WORD) || holds(line, b"\\u") || holds(line, b"\\U"))
}

/// Returns the address by the engine's answer, which is remembered.
fn address_by_engine(cwd: &Path, set: &VariableDirs, files: &[PathBuf]) -> Option<DaemonAddress> {
    let memo = memo_path(cwd, set, files);
    let dirs = memo.as_deref().and_then(remembered_dirs).or_else(|| {
        let dirs = run_engine(cwd)?;
        if let Some(memo) = &memo {
            // If this fails, the next call runs the engine again, which is only slower.
            let _ = remember_dirs(memo, &dirs);
        }
        Some(dirs)
    })?;
    let [cache_dir, socket_dir] = dirs;
    let socket_dir = (!socket_dir.is_empty()).then(|| PathBuf::from(socket_dir));
    Some(DaemonAddress::new(Path::new(&cache_dir), socket_dir.as_deref()))
}

/// Returns the path at which the engine's answer is remembered. Its name is a hash of everything on
/// which the answer depends: the variables, the call's directory if a variable may be relative to
/// it, and the dates and sizes of the configuration files.
fn memo_path(cwd: &Path, set: &VariableDirs, files: &[PathBuf]) -> Option<PathBuf> {
    let mut key = OsString::new();
    let mut add = |part: &OsStr| {
        key.push(part);
        key.push("\0");
    };
    let variables = [variables::CACHE_DIR, variables::SOCKET_DIR, variables::CONFIG, variables::HOME]
        .into_iter()
        .chain([variables::XDG_CACHE_HOME, variables::XDG_CONFIG_HOME]);
    for name in variables {
        add(&variables::get(name).unwrap_or_default());
    }
    if set.cache_dir.is_some() || set.socket_dir.is_some() {
        add(cwd.as_os_str());
    }
    for path in files {
        let metadata = fs::metadata(path).ok()?;
        add(path.as_os_str());
        let stamp = format!(
            "{}.{}.{}.{}.{}.{}.{}",
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec()
        );
        add(OsStr::new(&stamp));
    }
    // The configured socket directory is not known yet, so the memo is always in the default one.
    let dir = address::default_socket_dir();
    os::ensure_private_dir(&dir).ok()?;
    Some(dir.join(format!("{}.place", address::path_key(Path::new(&key)))))
}

fn remembered_dirs(memo: &Path) -> Option<[OsString; KEYS.len()]> {
    let text = fs::read(memo).ok()?;
    let mut parts = text.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec()));
    Some([parts.next()?, parts.next()?])
}

fn remember_dirs(memo: &Path, dirs: &[OsString; KEYS.len()]) -> std::io::Result<()> {
    let draft = memo.with_extension(format!("{}", std::process::id()));
    let mut file = File::create(&draft)?;
    file.write_all(dirs[0].as_bytes())?;
    file.write_all(b"\0")?;
    file.write_all(dirs[1].as_bytes())?;
    fs::rename(&draft, memo)
}

/// Runs `kached config get` for each of [`KEYS`]; `None` if that fails or there is no cache directory.
fn run_engine(cwd: &Path) -> Option<[OsString; KEYS.len()]> {
    let engine = engine_path().ok()?;
    let get = |key: &str| {
        let mut command = Command::new(&engine);
        command.args(["config", "get", key]).current_dir(cwd).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok()?;
        let mut value = output.stdout;
        value.pop_if(|byte| *byte == b'\n');
        // A setting without a value prints nothing and exits with 1.
        (output.status.success() || output.status.code() == Some(1)).then(|| OsString::from_vec(value))
    };
    let dirs = [get(KEYS[0])?, get(KEYS[1])?];
    (!dirs[0].is_empty()).then_some(dirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_could_name_a_directory_needs_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (text, expected) in [
            ("", false),
            ("[cache]\n# dir = \"x\"\n  #dir = 1\nmax_size = \"1GiB\"\n", false),
            ("[cache]\ndir = \"/x\"\n", true),
            ("cache.dir = \"/x\"", true),
            ("[daemon]\nsocket_dir = \"/x\"\n", true),
            ("[cache]\n\"\\u0064ir\" = \"/x\"\n", true),
        ] {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(may_name_a_dir(&path), expected, "{text:?}");
        }
        assert!(may_name_a_dir(&dir.path().join("missing")), "the engine decides about unreadable files");
    }

    #[test]
    fn the_engines_answer_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let memo = dir.path().join("x.place");
        assert_eq!(remembered_dirs(&memo), None);
        let dirs = [OsString::from("/cache"), OsString::new()];
        remember_dirs(&memo, &dirs).unwrap();
        assert_eq!(remembered_dirs(&memo), Some(dirs));
    }
}
