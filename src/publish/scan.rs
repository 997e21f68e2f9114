//! Searches outputs for the paths of roots, in every spelling, and of the directories above them (KEY-07).
//!
//! Outputs are read in pieces, and a path that lies across two pieces is found, too. A path that is
//! compressed or otherwise changed is not found; compiles that are known to do so are bound to their
//! directories by other means (KEY-18).
//!
//! A path is found between any other bytes, because a program holds its texts without a separator. The
//! exception is a directory above a root whose path has one component only, such as `/work`. It occurs in
//! the middle of many paths, so it is found as a word of its own only.
//!
//! A scanner can also search for single names of directories, which `dir_names.rs` chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use crate::action::{Observation, Task};
use crate::inputs::World;
use crate::roles::{Role, Roots, is_common, normalise};

/// The number of bytes that are read at a time. They fit into a second-level cache.
const PIECE_BYTES: usize = 256 << 10;

/// A root or a directory above one, in one of its two spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RootDir {
    /// The role of the root.
    pub(super) role: Role,
    /// The number of levels from the root up to the directory; 0 is the root itself.
    pub(super) up: u8,
    /// Whether every symbolic link in the path is followed. If not, the path is spelled as in the call.
    pub(super) is_real: bool,
}

impl RootDir {
    /// The path of the directory; `None` if the call has no such root.
    pub(super) fn path(self, task: &Task, world: &dyn World) -> Option<PathBuf> {
        let dir = task.roots.dir_above(self.role, self.up)?;
        if self.is_real { world.real(dir) } else { Some(dir.to_owned()) }
    }

    /// The observation that binds a result to the path of this directory; `None` if the call has no such
    /// root. There are two reasons for it. Either a text that the compile made holds the path, so that
    /// the result is wrong elsewhere, or the compile found something by the path that no path by role
    /// names, so that kache cannot look for it elsewhere.
    pub(super) fn binding(self, task: &Task, world: &dyn World) -> Option<Observation> {
        let RootDir { role, up, is_real } = self;
        let path = self.path(task, world)?;
        Some(Observation::Root { role, up, is_real, path: path.into_os_string().into_vec() })
    }
}

/// The meaning of a path that is searched for.
#[derive(Debug, Default)]
struct PathMeaning {
    /// The roots that have this path.
    roots: BTreeSet<RootDir>,
    /// The directories above roots that have this path.
    above: BTreeSet<RootDir>,
    /// Whether the path has one component only.
    is_short: bool,
}

/// A path together with all longer paths that begin with it. Bytes that do not hold the first one hold none
/// of them, so one search is enough.
struct PathGroup {
    /// Finds the common beginning.
    finder: Finder<'static>,
    /// The paths, the longest first.
    paths: Vec<(Vec<u8>, PathMeaning)>,
}

/// A shorter name is found as a word of its own only.
pub(super) const PLAIN_BYTES_MIN: usize = 4;

/// A single name that is searched for.
struct SearchedName {
    finder: Finder<'static>,
    /// Whether the name must be a word of its own: three letters occur in the middle of many words.
    is_word: bool,
}

impl SearchedName {
    fn new(name: &[u8]) -> Self {
        SearchedName { finder: Finder::new(name).into_owned(), is_word: name.len() < PLAIN_BYTES_MIN }
    }

    /// Whether the bytes hold the name, beginning at `from` or later and before `to`.
    fn is_in(&self, bytes: &[u8], from: usize, to: usize) -> bool {
        let len = self.finder.needle().len();
        let end = (to + len).saturating_sub(1).clamp(from, bytes.len());
        let mut places = self.finder.find_iter(&bytes[from..end]);
        places.any(|at| !self.is_word || is_name(bytes, from + at, len))
    }
}

/// Searches for paths and names. It drops each one from the search as soon as it is found.
#[derive(Default)]
pub(super) struct Scanner {
    /// The paths that have not all been found yet.
    groups: Vec<PathGroup>,
    /// The names that have not been found yet.
    names: Vec<SearchedName>,
    found: BTreeSet<RootDir>,
    found_names: BTreeSet<Vec<u8>>,
    /// The length in bytes of the longest path or name.
    longest: usize,
    buffer: Vec<u8>,
}

impl Scanner {
    /// A scanner for the paths of these roots in a call in the directory `cwd`.
    pub(super) fn new(roots: &Roots, cwd: &Path) -> Self {
        let searched = searched_paths(roots, cwd);
        let longest = searched.keys().map(Vec::len).max().unwrap_or(0);
        // In byte order, paths that begin with another path follow directly behind it.
        let mut groups: Vec<PathGroup> = Vec::new();
        for (path, meaning) in searched {
            match groups.last_mut() {
                Some(group) if path.starts_with(group.finder.needle()) => group.paths.push((path, meaning)),
                _ => {
                    let finder = Finder::new(&path).into_owned();
                    groups.push(PathGroup { finder, paths: vec![(path, meaning)] });
                }
            }
        }
        for group in &mut groups {
            group.paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        Scanner { groups, longest, ..Scanner::default() }
    }

    /// Searches for these names, too.
    pub(super) fn with_names<'n>(mut self, names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        self.names = names.into_iter().map(SearchedName::new).collect();
        let longest = self.names.iter().map(|name| name.finder.needle().len()).max();
        self.longest = self.longest.max(longest.unwrap_or_default());
        self
    }

    /// Whether all paths and names were found.
    pub(super) fn is_done(&self) -> bool {
        self.groups.is_empty() && self.names.is_empty()
    }

    /// Searches one file.
    ///
    /// A piece is searched only for what begins so early in it that the piece holds all of it. The rest of
    /// the piece, which is as long as the longest path, is moved to the front of the buffer and searched
    /// together with the next piece, after one byte that shows whether a word begins there.
    pub(super) fn scan(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(self.longest + 1 + PIECE_BYTES, 0);
        let (mut kept, mut from) = (0, 0);
        while !self.is_done() {
            let count = match file.read(&mut buffer[kept..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let filled = kept + count;
            if count == 0 {
                self.look_between(&buffer[..filled], from, filled);
                break;
            }
            // A path that begins before `to` is in the buffer as a whole, with one byte behind it.
            let to = filled.saturating_sub(self.longest).max(from);
            self.look_between(&buffer[..filled], from, to);
            let first = to.saturating_sub(1);
            buffer.copy_within(first..filled, 0);
            (kept, from) = (filled - first, to - first);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Searches bytes that are in memory as a whole.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        self.look_between(bytes, 0, bytes.len());
    }

    /// Searches for what begins at `from` or later and before `to`.
    fn look_between(&mut self, bytes: &[u8], from: usize, to: usize) {
        let found_names = &mut self.found_names;
        self.names.retain(|name| {
            let is_found = name.is_in(bytes, from, to);
            found_names.extend(is_found.then(|| name.finder.needle().to_vec()));
            !is_found
        });
        let found = &mut self.found;
        self.groups.retain(|group| {
            let end = (to + group.finder.needle().len()).saturating_sub(1).clamp(from, bytes.len());
            for at in group.finder.find_iter(&bytes[from..end]) {
                group.add_dirs_at(bytes, from + at, found);
            }
            let mut all =
                group.paths.iter().flat_map(|(_, meaning)| meaning.roots.iter().chain(&meaning.above));
            !all.all(|dir| found.contains(dir))
        });
    }

    /// The names that were found.
    pub(super) fn found_names(&self) -> &BTreeSet<Vec<u8>> {
        &self.found_names
    }

    /// The directories whose paths were found.
    pub(super) fn found(self) -> BTreeSet<RootDir> {
        self.found
    }
}

impl PathGroup {
    /// Adds the directories that the path at this position names: all roots that it lies in, and the nearest
    /// directory above a root, unless a longer path was found there.
    ///
    /// `/home/ada/ws/src` lies in the root `/home/ada/ws` and also below `/home/ada`. Only the root is added,
    /// since a result that is bound to the root's path is bound to the directories above it.
    fn add_dirs_at(&self, bytes: &[u8], at: usize, found: &mut BTreeSet<RootDir>) {
        let mut is_longer_found = false;
        for (path, meaning) in &self.paths {
            if !bytes[at..].starts_with(path) {
                continue;
            }
            found.extend(&meaning.roots);
            if !is_longer_found && (!meaning.is_short || is_word(bytes, at, path.len())) {
                found.extend(&meaning.above);
            }
            is_longer_found = true;
        }
    }
}

/// Whether these bytes are a word of their own and not the end of a longer path.
fn is_word(bytes: &[u8], at: usize, len: usize) -> bool {
    let is_path = at.checked_sub(1).is_some_and(|before| matches!(bytes.get(before), Some(b'.' | b'/')));
    !is_path && is_name(bytes, at, len)
}

/// Whether these bytes are a word of their own: neither the byte before nor the one behind can be part of a
/// name.
fn is_name(bytes: &[u8], at: usize, len: usize) -> bool {
    let continues = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    !before.is_some_and(continues) && !bytes.get(at + len).is_some_and(continues)
}

/// The paths to search for, with their meaning.
#[derive(Default)]
struct SearchedPaths(BTreeMap<Vec<u8>, PathMeaning>);

impl SearchedPaths {
    fn at(&mut self, path: &Path) -> &mut PathMeaning {
        let meaning = self.0.entry(path.as_os_str().as_bytes().to_vec()).or_default();
        meaning.is_short = path.components().count() <= 2;
        meaning
    }
}

fn searched_paths(roots: &Roots, cwd: &Path) -> BTreeMap<Vec<u8>, PathMeaning> {
    let mut paths = SearchedPaths::default();
    for (role, dir) in roots.spellings() {
        paths.at(dir).roots.insert(RootDir { role, up: 0, is_real: false });
    }
    for root in roots.iter() {
        let (role, normal) = (root.role, normalise(&root.dir));
        let is_toolchain = role == Role::Sysroot;
        for (up, dir) in above(&normal).filter(|_| !is_toolchain) {
            paths.at(dir).above.insert(RootDir { role, up, is_real: false });
        }
        let Some(real) = fs::canonicalize(&root.dir).ok().filter(|real| *real != normal) else { continue };
        // A directory above the real path is known from that path, so the binding names the root.
        let real_root = RootDir { role, up: 0, is_real: true };
        paths.at(&real).roots.insert(real_root);
        for (_, dir) in above(&real).filter(|_| !is_toolchain) {
            paths.at(dir).above.insert(real_root);
        }
    }
    // If the call's directory lies in no root, the key holds its absolute path, and a path below it needs no
    // binding. Its entry without a meaning keeps such a path from counting as one below a shorter directory.
    if roots.role_path(cwd, Path::new("")).role() == Role::Absolute && cwd.components().count() > 1 {
        paths.at(&normalise(cwd));
    }
    paths.0
}

/// The directories above this one with their distance, up to the first that is common to all users.
fn above(dir: &Path) -> impl Iterator<Item = (u8, &Path)> {
    let above = (1..u8::MAX).zip(dir.ancestors().skip(1));
    above.take_while(|(_, dir)| !is_common(dir))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;
    use crate::roles::Root;

    fn root(role: Role, dir: &str) -> Root {
        Root { role, dir: PathBuf::from(dir) }
    }

    /// Scans these bytes and names each directory that is found: `ws`, `ws-up1` and so on.
    fn scan(roots: &Roots, cwd: &str, bytes: &[u8]) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut scanner = Scanner::new(roots, Path::new(cwd));
        scanner.scan(file.path()).unwrap();
        let mut other = Scanner::new(roots, Path::new(cwd));
        other.look(bytes);
        let found = scanner.found();
        assert_eq!(found, other.found());
        let name = |dir: &RootDir| {
            format!("{}{}", dir.role.dir_name_above(dir.up), if dir.is_real { "-real" } else { "" })
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn key_07_a_root_is_found_at_every_position_of_an_output() {
        let roots = Roots::new([root(Role::Workspace, "/home/a/ws"), root(Role::Cargo, "/home/a/.cargo")]);
        let scan = |bytes: &[u8]| scan(&roots, "/home/a/ws", bytes);
        assert!(scan(b"").is_empty());
        assert!(scan(&vec![b'/'; 3 * PIECE_BYTES]).is_empty());
        for start in [0, 1, PIECE_BYTES - 5, PIECE_BYTES, PIECE_BYTES + 3, 2 * PIECE_BYTES + 7] {
            let mut bytes = vec![b'x'; start];
            bytes.extend_from_slice(b"/home/a/ws");
            assert_eq!(scan(&bytes), ["ws"], "{start}");
            bytes.extend(vec![b'y'; PIECE_BYTES - 5]);
            bytes.extend_from_slice(b"/home/a/.cargo/");
            assert_eq!(scan(&bytes), ["ws", "cargo"], "{start}");
            bytes.extend_from_slice(b"/home/a");
            assert_eq!(scan(&bytes), ["ws", "ws-up1", "cargo", "cargo-up1"], "{start}");
        }
    }

    #[test]
    fn key_07_a_directory_above_a_root_is_found() {
        let ws = root(Role::Workspace, "/home/a/r1/rust");
        let roots = Roots::new([
            ws.clone(),
            root(Role::Target, "/home/a/r1/rust/target"),
            root(Role::Cargo, "/opt/cargo"),
            root(Role::Sysroot, "/home/a/.rustup/x"),
        ]);
        for (text, expected) in [
            ("/home/a/r1/shared.txt", &["ws-up1", "out-up2"][..]),
            ("textbehind/home/a/r1text", &["ws-up1", "out-up2"]),
            ("/home/a/other", &["ws-up2", "out-up3"]),
            // Directories of the system, or of other users.
            ("/home /home/b/x /opt/x", &[]),
            // Both roots in which the path lies, because it may have been composed from either.
            ("/home/a/r1/rust/target/x", &["ws", "out"]),
            ("/home/a/.rustup/x/lib", &["sysroot"]),
        ] {
            assert_eq!(scan(&roots, "/home/a/r1/rust", text.as_bytes()), expected, "{text}");
        }
        // The package lies in no root, so its key holds its directory.
        let scan = |text: &str| scan(&Roots::new([ws.clone()]), "/home/a/dep", text.as_bytes());
        assert_eq!(scan("/home/a/dep/src/lib.rs"), [""; 0]);
        assert_eq!(scan("/home/a/dep/src/lib.rs /home/a/x"), ["ws-up2"]);
    }

    #[test]
    fn key_07_a_short_directory_above_a_root_is_found_as_a_whole_word_only() {
        let roots = Roots::new([root(Role::Workspace, "/src/app")]);
        for (text, is_found) in [
            ("/src", true),
            ("in /src/x", true),
            ("\0/src\0", true),
            ("app/src/lib.rs", false),
            ("./src/lib.rs", false),
            ("/srcs", false),
        ] {
            assert_eq!(!scan(&roots, "/src/app", text.as_bytes()).is_empty(), is_found, "{text}");
        }
        // The root itself is found in the middle of other bytes.
        assert_eq!(scan(&roots, "/src/app", b"x/src/apples"), ["ws"]);
    }

    #[test]
    fn key_07_a_name_is_found_at_every_position() {
        let names: [&[u8]; 4] = [b"alpha", b"alpha-tree", b"wt1", b"none"];
        let scan = |bytes: &[u8]| -> Vec<String> {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let mut scanner = Scanner::default().with_names(names);
            scanner.scan(file.path()).unwrap();
            let mut other = Scanner::default().with_names(names);
            other.look(bytes);
            assert_eq!(scanner.found_names(), other.found_names());
            scanner.found_names().iter().map(|name| String::from_utf8(name.clone()).unwrap()).collect()
        };
        for (text, expected) in [
            ("", &[][..]),
            ("alph", &[]),
            ("textalphatext", &["alpha"]),
            ("alpha-tree", &["alpha", "alpha-tree"]),
            // Three letters occur in the middle of many words.
            ("xwt1", &[]),
            ("wt12", &[]),
            ("wt1-x", &[]),
            ("wt1", &["wt1"]),
            ("/x/wt1/y", &["wt1"]),
            ("\u{1}wt1\u{2}", &["wt1"]),
        ] {
            assert_eq!(scan(text.as_bytes()), expected, "{text}");
        }
        for start in [PIECE_BYTES - 5, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 3, 2 * PIECE_BYTES - 9] {
            let mut bytes = vec![b'.'; start];
            bytes.extend_from_slice(b"alpha-tree wt1");
            bytes.extend(vec![b'.'; PIECE_BYTES]);
            assert_eq!(scan(&bytes), ["alpha", "alpha-tree", "wt1"], "{start}");
            bytes[start + 14] = b'1';
            assert_eq!(scan(&bytes), ["alpha", "alpha-tree"], "{start}");
        }
    }

    #[test]
    fn key_07_the_real_path_of_a_root_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(real.join("r1/rust")).unwrap();
        std::os::unix::fs::symlink(real.join("r1"), real.join("now")).unwrap();
        let link = real.join("now/rust").to_str().unwrap().to_owned();
        let roots = Roots::new([root(Role::Workspace, &link)]);
        for (place, expected) in
            [("r1/rust/src", "ws-real"), ("r1/x", "ws-real"), ("now/rust", "ws"), ("now/x", "ws-up1")]
        {
            let text = real.join(place).to_str().unwrap().to_owned();
            assert_eq!(scan(&roots, &link, text.as_bytes()), [expected], "{place}");
        }
    }
}
