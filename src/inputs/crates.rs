//! Which crates a crate uses, remembered for each crate that passed by.
//!
//! A linked output contains crates that its command line does not name: the dependencies of
//! its dependencies (KEY-14). Each compile names its own, so they are known for every crate
//! whose compile kache has seen. They are kept under the digest of what that compile made,
//! and, until that is there, under the place where it will be. Only direct uses are kept:
//! what a crate reaches is found by walking, which needs the files' digests anyway.
//!
//! It reads no file. For a crate that nobody has seen it has no answer, and then the caller
//! takes everything that could be meant.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use kache_cas::Digest;

use super::bytes::{Reader, Writer};
use crate::roles::normalise;

/// How many crates are remembered by digest.
pub const CRATES_MAX: usize = 50_000;

/// How many compiles are remembered by place. Those of one build are far fewer.
const PLACES_MAX: usize = 20_000;

/// The crate that a compile makes for others to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeCrate {
    /// Where it will lie, in normal form and without extension.
    place: PathBuf,
    uses: Arc<Uses>,
}

impl MadeCrate {
    /// Of a compile that makes `lib….rlib` and its like at this path, which has no extension.
    pub(super) fn new(path: &Path, uses: Uses) -> Self {
        MadeCrate { place: normalise(path), uses: Arc::new(uses) }
    }
}

/// What a crate uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// File names of crates as they are linked, such as `libserde-0123456789abcdef.rlib`.
    pub(super) crates: Vec<String>,
    /// Native libraries, as `-l` names them.
    pub(super) natives: Vec<String>,
}

/// What the crate in this file is called where it is linked: the compiler may have been given
/// its metadata only.
pub(super) fn linked_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".rmeta");
    Some(stem.map_or_else(|| name.to_owned(), |stem| format!("{stem}.rlib")))
}

impl Uses {
    pub(super) fn write(&self, writer: &mut Writer) {
        for list in [&self.crates, &self.natives] {
            writer.u64(list.len() as u64);
            list.iter().for_each(|name| {
                writer.bytes(name);
            });
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Uses> {
        let mut list = || {
            let mut names = Vec::new();
            for _ in 0..reader.u64()? {
                names.push(reader.text()?);
            }
            Some(names)
        };
        Some(Uses { crates: list()?, natives: list()? })
    }
}

/// By which a crate is known until its bytes are: however its directory is written.
fn place(path: &Path) -> PathBuf {
    normalise(&path.with_extension(""))
}

/// What every crate uses.
#[derive(Debug, Default)]
pub(super) struct Crates {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_digest: HashMap<Digest, Arc<Uses>>,
    by_place: HashMap<PathBuf, Arc<Uses>>,
}

impl Crates {
    /// What the crate in this file uses.
    pub(super) fn get(&self, path: &Path, digest: &Digest) -> Option<Arc<Uses>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.by_digest.get(digest);
        found.or_else(|| known.by_place.get(&place(path))).cloned()
    }

    /// A compile begins that will make this crate. Until its bytes are known, the crate is known by its
    /// place.
    pub(super) fn begin(&self, made: &MadeCrate) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_place.len() >= PLACES_MAX {
            known.by_place.clear();
        }
        known.by_place.insert(made.place.clone(), Arc::clone(&made.uses));
    }

    /// A compile has made this crate, or a result of it was restored, and a file of it has this content. Any
    /// other file is passed over. The uses are those of that compile: another one may have begun at the same
    /// place since.
    pub(super) fn note(&self, made: &MadeCrate, path: &Path, digest: &Digest) {
        if place(path) != made.place {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_digest.len() >= CRATES_MAX {
            known.by_digest.clear();
        }
        known.by_digest.insert(*digest, Arc::clone(&made.uses));
    }

    /// Takes up what was kept.
    pub(super) fn load(&self, kept: Vec<(Digest, Arc<Uses>)>) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).by_digest.extend(kept);
    }

    /// A copy of what is known by digest.
    pub(super) fn all(&self) -> Vec<(Digest, Arc<Uses>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_digest.iter().map(|(digest, uses)| (*digest, uses.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    #[test]
    fn key_14_a_crate_is_known_however_its_directory_is_written() {
        let crates = Crates::default();
        let uses = Uses { crates: vec!["libb-2.rlib".to_owned()], natives: Vec::new() };
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
    fn key_14_two_compiles_at_one_place_keep_their_own_uses() {
        let crates = Crates::default();
        let place = Path::new("/t/deps/liba-1");
        let uses = ["libb-1.rlib", "libc-1.rlib"]
            .map(|name| Uses { crates: vec![name.to_owned()], natives: Vec::new() });
        let [first, second] = uses.clone().map(|uses| MadeCrate::new(place, uses));
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
