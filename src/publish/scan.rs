//! Whether an output holds a path that is specific to this place (KEY-07): that of a root, in every
//! spelling, or of a directory above one.
//!
//! Outputs are read in pieces; a path across two of them is found too. A path that is hidden
//! (compressed, transformed) is not found: compiles that are known to do so are bound to
//! their place by other means (KEY-18).
//!
//! A path may stand between any other bytes: the texts of a program lie in it side by side. A
//! directory above a root that has one name only, such as `/work`, is the exception. It would be
//! found in the middle of many names, so it counts as a word by itself.
//!
//! A scanner also looks for single names of directories, where it is asked to: `dir_names.rs` says
//! which ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;

use crate::action::{Observation, Task};
use crate::inputs::World;
use crate::roles::{Role, Roots, is_common, normalise};

/// What is read at a time: fits into a second-level cache.
const PIECE_BYTES: usize = 256 << 10;

/// A directory whose path an output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Found {
    /// The root.
    pub(super) role: Role,
    /// How many levels above it the directory lies.
    pub(super) up: u8,
    /// Whether it was the root's real path, with every link followed.
    pub(super) is_real: bool,
}

impl Found {
    /// The directory's path; `None` where the call has no such root.
    pub(super) fn path(self, task: &Task, world: &dyn World) -> Option<PathBuf> {
        let dir = task.roots.dir_above(self.role, self.up)?;
        if self.is_real { world.real(dir) } else { Some(dir.to_owned()) }
    }

    /// That the directory lies where it lies.
    pub(super) fn observation(self, task: &Task, world: &dyn World) -> Option<Observation> {
        let Found { role, up, is_real } = self;
        let path = self.path(task, world)?;
        Some(Observation::Root { role, up, is_real, path: path.into_os_string().into_vec() })
    }
}

/// A path that is looked for.
#[derive(Debug, Default)]
struct Needle {
    /// The roots whose path it is.
    roots: BTreeSet<Found>,
    /// The directories above roots whose path it is.
    above: BTreeSet<Found>,
    /// Whether it has one name only.
    is_short: bool,
}

/// All needles that begin with one of them: what does not hold that one holds none of them.
struct Family {
    finder: Finder<'static>,
    /// The needles with this beginning, the longest first.
    needles: Vec<(Vec<u8>, Needle)>,
}

/// Shorter names only count as words by themselves.
pub(super) const PLAIN_BYTES_MIN: usize = 4;

/// A single name that is looked for.
struct NameNeedle {
    finder: Finder<'static>,
    /// Whether it only counts as a word by itself: three letters stand in the middle of many words.
    is_word: bool,
}

impl NameNeedle {
    fn new(name: &[u8]) -> Self {
        NameNeedle { finder: Finder::new(name).into_owned(), is_word: name.len() < PLAIN_BYTES_MIN }
    }

    /// Whether the name begins at `from` or behind it, and before `to`.
    fn is_in(&self, bytes: &[u8], from: usize, to: usize) -> bool {
        let len = self.finder.needle().len();
        let end = (to + len).saturating_sub(1).clamp(from, bytes.len());
        let mut places = self.finder.find_iter(&bytes[from..end]);
        places.any(|at| !self.is_word || is_name(bytes, from + at, len))
    }
}

/// Looks for all of them at once.
#[derive(Default)]
pub(super) struct Scanner {
    families: Vec<Family>,
    /// The names that were not found yet.
    names: Vec<NameNeedle>,
    found: BTreeSet<Found>,
    found_names: BTreeSet<Vec<u8>>,
    longest: usize,
    buffer: Vec<u8>,
}

impl Scanner {
    /// For these roots and a call in this directory.
    pub(super) fn new(roots: &Roots, cwd: &Path) -> Self {
        let needles = needles(roots, cwd);
        let longest = needles.keys().map(Vec::len).max().unwrap_or(0);
        // In byte order, what begins with a needle stands behind it.
        let mut families: Vec<Family> = Vec::new();
        for (path, needle) in needles {
            match families.last_mut() {
                Some(family) if path.starts_with(family.finder.needle()) => {
                    family.needles.push((path, needle));
                }
                _ => {
                    let finder = Finder::new(&path).into_owned();
                    families.push(Family { finder, needles: vec![(path, needle)] });
                }
            }
        }
        for family in &mut families {
            family.needles.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        Scanner { families, longest, ..Scanner::default() }
    }

    /// Looks for these names as well.
    pub(super) fn with_names<'n>(mut self, names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        self.names = names.into_iter().map(NameNeedle::new).collect();
        let longest = self.names.iter().map(|name| name.finder.needle().len()).max();
        self.longest = self.longest.max(longest.unwrap_or_default());
        self
    }

    /// Whether all that is looked for was found.
    pub(super) fn is_done(&self) -> bool {
        self.families.is_empty() && self.names.is_empty()
    }

    /// Reads one file.
    pub(super) fn scan(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        // The end of each piece is kept: one byte before, and as much as could begin a needle.
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
            // What begins before this is there as a whole, with a byte behind it.
            let to = filled.saturating_sub(self.longest).max(from);
            self.look_between(&buffer[..filled], from, to);
            let first = to.saturating_sub(1);
            buffer.copy_within(first..filled, 0);
            (kept, from) = (filled - first, to - first);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Looks at some bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        self.look_between(bytes, 0, bytes.len());
    }

    /// Looks for what begins at `from` or behind it, and before `to`.
    fn look_between(&mut self, bytes: &[u8], from: usize, to: usize) {
        let found_names = &mut self.found_names;
        self.names.retain(|name| {
            let is_found = name.is_in(bytes, from, to);
            found_names.extend(is_found.then(|| name.finder.needle().to_vec()));
            !is_found
        });
        let found = &mut self.found;
        self.families.retain(|family| {
            let end = (to + family.finder.needle().len()).saturating_sub(1).clamp(from, bytes.len());
            for at in family.finder.find_iter(&bytes[from..end]) {
                family.take(bytes, from + at, found);
            }
            let mut all =
                family.needles.iter().flat_map(|(_, needle)| needle.roots.iter().chain(&needle.above));
            !all.all(|one| found.contains(one))
        });
    }

    /// The names that were found.
    pub(super) fn found_names(&self) -> &BTreeSet<Vec<u8>> {
        &self.found_names
    }

    /// The directories whose paths were found.
    pub(super) fn found(self) -> BTreeSet<Found> {
        self.found
    }
}

impl Family {
    /// Takes what a path means that stands here: all roots that it lies in, or else the nearest
    /// directory above one.
    fn take(&self, bytes: &[u8], at: usize, found: &mut BTreeSet<Found>) {
        let mut is_below_others = false;
        for (path, needle) in &self.needles {
            if !bytes[at..].starts_with(path) {
                continue;
            }
            found.extend(&needle.roots);
            if !is_below_others && (!needle.is_short || is_word(bytes, at, path.len())) {
                found.extend(&needle.above);
            }
            is_below_others = true;
        }
    }
}

/// Whether no other name goes on before these bytes or behind them, and no path leads to them.
fn is_word(bytes: &[u8], at: usize, len: usize) -> bool {
    let is_path = at.checked_sub(1).is_some_and(|before| matches!(bytes.get(before), Some(b'.' | b'/')));
    !is_path && is_name(bytes, at, len)
}

/// Whether no other name goes on before these bytes or behind them.
fn is_name(bytes: &[u8], at: usize, len: usize) -> bool {
    let continues = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    !before.is_some_and(continues) && !bytes.get(at + len).is_some_and(continues)
}

/// The needles, by the path that each looks for.
#[derive(Default)]
struct Needles(BTreeMap<Vec<u8>, Needle>);

impl Needles {
    fn at(&mut self, path: &Path) -> &mut Needle {
        let needle = self.0.entry(path.as_os_str().as_bytes().to_vec()).or_default();
        needle.is_short = path.components().count() <= 2;
        needle
    }
}

fn needles(roots: &Roots, cwd: &Path) -> BTreeMap<Vec<u8>, Needle> {
    let mut needles = Needles::default();
    for (role, dir) in roots.spellings() {
        needles.at(dir).roots.insert(Found { role, up: 0, is_real: false });
    }
    for root in roots.iter() {
        let (role, normal) = (root.role, normalise(&root.dir));
        let is_toolchain = role == Role::Sysroot;
        for (up, dir) in above(&normal).filter(|_| !is_toolchain) {
            needles.at(dir).above.insert(Found { role, up, is_real: false });
        }
        let Some(real) = fs::canonicalize(&root.dir).ok().filter(|real| *real != normal) else { continue };
        // The directories above the real one follow from it.
        let found = Found { role, up: 0, is_real: true };
        needles.at(&real).roots.insert(found);
        for (_, dir) in above(&real).filter(|_| !is_toolchain) {
            needles.at(dir).above.insert(found);
        }
    }
    // The key names a directory that lies in no root as it is: what begins with it says nothing new.
    if roots.role_path(cwd, Path::new("")).role() == Role::Absolute && cwd.components().count() > 1 {
        needles.at(&normalise(cwd));
    }
    needles.0
}

/// The directories above one that are not common property, with their distance.
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
        let name = |found: &Found| {
            format!("{}{}", found.role.dir_name_above(found.up), if found.is_real { "-real" } else { "" })
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn key_07_a_root_is_found_wherever_it_lies_in_an_output() {
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
            // Everybody's.
            ("/home /home/b/x /opt/x", &[]),
            // All roots in which it lies, since it may have been put together from either.
            ("/home/a/r1/rust/target/x", &["ws", "out"]),
            ("/home/a/.rustup/x/lib", &["sysroot"]),
        ] {
            assert_eq!(scan(&roots, "/home/a/r1/rust", text.as_bytes()), expected, "{text}");
        }
        // A package that lies in no root: its key holds its directory.
        let scan = |text: &str| scan(&Roots::new([ws.clone()]), "/home/a/dep", text.as_bytes());
        assert_eq!(scan("/home/a/dep/src/lib.rs"), [""; 0]);
        assert_eq!(scan("/home/a/dep/src/lib.rs /home/a/x"), ["ws-up2"]);
    }

    #[test]
    fn key_07_a_short_directory_above_a_root_is_a_word_by_itself() {
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
        // The root itself is found in the middle of others, as ever.
        assert_eq!(scan(&roots, "/src/app", b"x/src/apples"), ["ws"]);
    }

    #[test]
    fn key_07_a_name_is_found_wherever_it_stands() {
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
            // Three letters stand in the middle of many words.
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
