//! Remembers for each crate which other crates it uses.
//!
//! A linked output contains crates that its command line does not name: the dependencies of its
//! dependencies (KEY-14). But the compile of each crate names its own externs, so kache remembers them
//! for every compile that it sees: under the digest of the finished crate, and, until the crate is
//! finished, under its path. Only direct uses are kept. `reachable` walks from crate to crate, and it
//! needs the digest of each file anyway.
//!
//! This file reads nothing from disk. It has no answer for a crate that was compiled without kache; the
//! caller then takes every crate in the search paths as an input.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kache_cas::Digest;
use parking_lot::RwLock;

use super::bytes::{ByteReader, ByteWriter};
use crate::roles::normalise;

/// The largest number of crates that are remembered by digest.
pub const CRATES_MAX: usize = 50_000;

/// The largest number of crates that are remembered by path. One build has far fewer.
const PATHS_MAX: usize = 20_000;

/// The crate that a compile makes for other crates to use, with the uses of its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeCrate {
    /// The path of the crate without extension, as [`crate_path`] returns it.
    path: PathBuf,
    uses: Arc<CrateUses>,
}

impl MadeCrate {
    /// Creates it for a compile that makes `lib….rlib` or another crate file; `path` has no extension.
    pub(crate) fn new(path: &Path, uses: CrateUses) -> Self {
        MadeCrate { path: normalise(path), uses: Arc::new(uses) }
    }
}

/// The crates and native libraries that a crate names directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrateUses {
    /// File names of crates as they are linked, such as `libserde-0123456789abcdef.rlib`.
    pub(crate) crates: Vec<String>,
    /// Names of native libraries, as `-l` takes them.
    pub(crate) natives: Vec<String>,
}

/// The name of the file from which this crate is linked. An extern may be given as `.rmeta`; a linker
/// then reads the `.rlib` beside it.
pub(crate) fn linked_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".rmeta");
    Some(stem.map_or_else(|| name.to_owned(), |stem| format!("{stem}.rlib")))
}

impl CrateUses {
    pub(crate) fn write(&self, writer: &mut ByteWriter) {
        for list in [&self.crates, &self.natives] {
            writer.u64(list.len() as u64);
            list.iter().for_each(|name| {
                writer.bytes(name);
            });
        }
    }

    pub(crate) fn read(reader: &mut ByteReader<'_>) -> Option<CrateUses> {
        let mut list = || {
            let mut names = Vec::new();
            for _ in 0..reader.u64()? {
                names.push(reader.text()?);
            }
            Some(names)
        };
        Some(CrateUses { crates: list()?, natives: list()? })
    }
}

/// The path by which a crate is remembered: without extension and in normal form, so that the spelling
/// of its directory does not matter.
fn crate_path(path: &Path) -> PathBuf {
    normalise(&path.with_extension(""))
}

/// The uses of all crates that kache has seen.
#[derive(Debug, Default)]
pub(crate) struct UsesOfCrates {
    tables: RwLock<CrateTables>,
}

#[derive(Debug, Default)]
struct CrateTables {
    by_digest: HashMap<Digest, Arc<CrateUses>>,
    by_path: HashMap<PathBuf, Arc<CrateUses>>,
}

impl UsesOfCrates {
    /// Returns the uses of the crate in this file; `None` if kache did not see its compile.
    pub(crate) fn get(&self, path: &Path, digest: &Digest) -> Option<Arc<CrateUses>> {
        let tables = self.tables.read();
        let found = tables.by_digest.get(digest);
        found.or_else(|| tables.by_path.get(&crate_path(path))).cloned()
    }

    /// Remembers the uses of a crate whose compile begins, by its path: a compile that links the crate may
    /// begin before the content of the crate is known.
    pub(crate) fn begin(&self, made: &MadeCrate) {
        let mut tables = self.tables.write();
        if tables.by_path.len() >= PATHS_MAX {
            tables.by_path.clear();
        }
        tables.by_path.insert(made.path.clone(), Arc::clone(&made.uses));
    }

    /// Remembers the uses of a finished or restored crate by the digest of its file; other outputs of the
    /// compile are ignored. The uses come from `made` and not from the table by path, because another compile
    /// with the same path may have begun since.
    pub(crate) fn note(&self, made: &MadeCrate, path: &Path, digest: &Digest) {
        if crate_path(path) != made.path {
            return;
        }
        let mut tables = self.tables.write();
        if tables.by_digest.len() >= CRATES_MAX {
            tables.by_digest.clear();
        }
        tables.by_digest.insert(*digest, Arc::clone(&made.uses));
    }

    /// Adds the uses that an earlier daemon has saved.
    pub(crate) fn load(&self, kept: Vec<(Digest, Arc<CrateUses>)>) {
        self.tables.write().by_digest.extend(kept);
    }

    /// Copies the uses that are remembered by digest.
    pub(crate) fn all(&self) -> Vec<(Digest, Arc<CrateUses>)> {
        let tables = self.tables.read();
        tables.by_digest.iter().map(|(digest, uses)| (*digest, uses.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    #[test]
    fn key_14_a_crate_is_found_however_its_directory_is_spelled() {
        let crates = UsesOfCrates::default();
        let uses = CrateUses { crates: vec!["libb-2.rlib".to_owned()], natives: Vec::new() };
        let made = MadeCrate::new(Path::new("/ws/../t/./deps/liba-1"), uses.clone());
        crates.begin(&made);
        let digest = Digest::of(DigestFunction::Blake3, b"a");
        for path in ["/t/deps/liba-1.rmeta", "/ws/../t/deps/liba-1.rlib"] {
            assert_eq!(crates.get(Path::new(path), &digest).as_deref(), Some(&uses), "{path}");
        }
        crates.note(&made, Path::new("/t/deps/liba-1.rlib"), &digest);
        assert_eq!(crates.get(Path::new("/elsewhere/liba-1.rlib"), &digest).as_deref(), Some(&uses));
        // Another output of the same compile.
        let other = Digest::of(DigestFunction::Blake3, b"b");
        crates.note(&made, Path::new("/t/deps/a-1.d"), &other);
        assert_eq!(crates.get(Path::new("/elsewhere/liba-1.rlib"), &other), None);
    }

    #[test]
    fn key_14_two_compiles_with_one_path_keep_their_own_uses() {
        let crates = UsesOfCrates::default();
        let path = Path::new("/t/deps/liba-1");
        let uses = ["libb-1.rlib", "libc-1.rlib"]
            .map(|name| CrateUses { crates: vec![name.to_owned()], natives: Vec::new() });
        let [first, second] = uses.clone().map(|uses| MadeCrate::new(path, uses));
        let digests = [&b"first"[..], b"second"].map(|bytes| Digest::of(DigestFunction::Blake3, bytes));
        // The second begins before the first is stored.
        crates.begin(&first);
        crates.begin(&second);
        let path = Path::new("/t/deps/liba-1.rlib");
        crates.note(&first, path, &digests[0]);
        crates.note(&second, path, &digests[1]);
        for (digest, uses) in digests.iter().zip(&uses) {
            assert_eq!(crates.get(path, digest).as_deref(), Some(uses));
        }
    }
}
