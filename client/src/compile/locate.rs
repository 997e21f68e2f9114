//! Which daemon a call belongs to, without reading configuration.
//!
//! Variables and defaults say it nearly always. Only where a configuration file might name a
//! directory is the engine asked, and what it answers is kept beside the sockets for as long
//! as those files stay what they are: parsing TOML here would be paid for with every compile.
//! Leaning to the engine's side costs a moment once; a wrong guess would be another store.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engine::engine_path;
use crate::os;
use crate::place::{self, Place};
use crate::variables;

/// A project's file, looked for in the call's directory and above. The engine's
/// `config/load.rs` looks likewise.
const PROJECT_FILE: &str = ".kache.toml";

/// The keys that the engine is asked for, in the order in which their values are kept.
const KEYS: [&str; 2] = ["cache.dir", "daemon.socket_dir"];

/// What a file that names a directory must hold: both keys end so.
const NAMES_A_DIR: &[u8] = b"dir";

/// The longest file that is looked through; the engine refuses longer ones.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where this call's daemon is; `None` where nobody knows, which the engine explains.
pub(crate) fn place(cwd: &Path) -> Option<Place> {
    let said = Said::by_variables(cwd);
    let files = config_files(cwd);
    let is_open = said.cache_dir.is_none() || said.socket_dir.is_none();
    if is_open && files.iter().any(|file| may_name_a_dir(file)) {
        return by_the_engine(cwd, &said, &files);
    }
    let cache_dir = said.cache_dir.or_else(usual_cache_dir)?;
    Some(Place::new(&cache_dir, said.socket_dir.as_deref()))
}

/// What variables say.
struct Said {
    cache_dir: Option<PathBuf>,
    socket_dir: Option<PathBuf>,
}

impl Said {
    fn by_variables(cwd: &Path) -> Said {
        let path = |name| Some(anchored(PathBuf::from(variables::get(name)?), cwd));
        Said { cache_dir: path(variables::CACHE_DIR), socket_dir: path(variables::SOCKET_DIR) }
    }
}

/// As the engine anchors them: `~` is the home directory, anything else counts from the call's.
fn anchored(path: PathBuf, cwd: &Path) -> PathBuf {
    match (path.strip_prefix("~"), home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => cwd.join(path),
    }
}

fn absolute(name: &'static str) -> Option<PathBuf> {
    variables::get(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home() -> Option<PathBuf> {
    absolute(variables::HOME).or_else(os::home_dir)
}

fn usual_cache_dir() -> Option<PathBuf> {
    let caches = absolute(variables::XDG_CACHE_HOME).or_else(|| Some(home()?.join(".cache")))?;
    Some(caches.join("kache"))
}

/// The configuration files that are there.
fn config_files(cwd: &Path) -> Vec<PathBuf> {
    let configs = || absolute(variables::XDG_CONFIG_HOME).or_else(|| Some(home()?.join(".config")));
    let user = variables::get(variables::CONFIG)
        .map(|path| cwd.join(path))
        .or_else(|| Some(configs()?.join("kache/config.toml")));
    let project = cwd.ancestors().map(|dir| dir.join(PROJECT_FILE)).find(|path| exists(path));
    user.into_iter().filter(|path| exists(path)).chain(project).collect()
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether any line that is no comment could set a directory. An escape in a key could hide
/// one, so it counts as well.
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
            .any(|line| holds(line, NAMES_A_DIR) || holds(line, b"\\u") || holds(line, b"\\U"))
}

/// What the engine reads off the files, remembered.
fn by_the_engine(cwd: &Path, said: &Said, files: &[PathBuf]) -> Option<Place> {
    let memo = memo_path(cwd, said, files);
    let dirs = memo.as_deref().and_then(remembered).or_else(|| {
        let dirs = asked(cwd)?;
        if let Some(memo) = &memo {
            // Without it the engine is asked again, which is slower and no worse.
            let _ = remember(memo, &dirs);
        }
        Some(dirs)
    })?;
    let [cache_dir, socket_dir] = dirs;
    let socket_dir = (!socket_dir.is_empty()).then(|| PathBuf::from(socket_dir));
    Some(Place::new(Path::new(&cache_dir), socket_dir.as_deref()))
}

/// Named by everything that the answer follows from.
fn memo_path(cwd: &Path, said: &Said, files: &[PathBuf]) -> Option<PathBuf> {
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
    if said.cache_dir.is_some() || said.socket_dir.is_some() {
        add(cwd.as_os_str());
    }
    for path in files {
        let found = fs::metadata(path).ok()?;
        add(path.as_os_str());
        let stamp = format!(
            "{}.{}.{}.{}.{}.{}.{}",
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec()
        );
        add(OsStr::new(&stamp));
    }
    let dir = place::default_socket_dir();
    os::ensure_private_dir(&dir).ok()?;
    Some(dir.join(format!("{}.place", place::key_of(Path::new(&key)))))
}

fn remembered(memo: &Path) -> Option<[OsString; KEYS.len()]> {
    let text = fs::read(memo).ok()?;
    let mut parts = text.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec()));
    Some([parts.next()?, parts.next()?])
}

fn remember(memo: &Path, dirs: &[OsString; KEYS.len()]) -> std::io::Result<()> {
    let fresh = memo.with_extension(format!("{}", std::process::id()));
    let mut file = File::create(&fresh)?;
    file.write_all(dirs[0].as_bytes())?;
    file.write_all(b"\0")?;
    file.write_all(dirs[1].as_bytes())?;
    fs::rename(&fresh, memo)
}

fn asked(cwd: &Path) -> Option<[OsString; KEYS.len()]> {
    let engine = engine_path().ok()?;
    let ask = |key: &str| {
        let mut command = Command::new(&engine);
        command.args(["config", "get", key]).current_dir(cwd).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok()?;
        let mut value = output.stdout;
        value.pop_if(|byte| *byte == b'\n');
        // One without a value is a failure without a word.
        (output.status.success() || output.status.code() == Some(1)).then(|| OsString::from_vec(value))
    };
    let dirs = [ask(KEYS[0])?, ask(KEYS[1])?];
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
        assert!(may_name_a_dir(&dir.path().join("missing")), "what cannot be read is the engine's to judge");
    }

    #[test]
    fn what_the_engine_said_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let memo = dir.path().join("x.place");
        assert_eq!(remembered(&memo), None);
        let dirs = [OsString::from("/cache"), OsString::new()];
        remember(&memo, &dirs).unwrap();
        assert_eq!(remembered(&memo), Some(dirs));
    }
}
