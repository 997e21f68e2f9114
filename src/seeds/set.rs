//! Sets of seeds in the store. A set that cannot be read counts as absent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Digest, Hash, StoreError};
use kache_proto::Message as _;
use kache_proto::seeds as wire;
use thiserror::Error;

use super::portable::{ChangedVariable, PortableCall};
use crate::cargo::{CargoUnit, Fingerprint};
use crate::lookup::{read_record, write_record};

/// The kind of the record and the version of its format.
const PURPOSE: &str = "kache seeds 1";

/// How many seeds a set holds at most; three times as many as the largest builds known have units.
const SEEDS_MAX: usize = 6000;

/// The largest set that is read, uncompressed.
const SET_BYTES_MAX: usize = 64 << 20;

/// A unit of an earlier build, which may be restored before cargo calls for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The hash of the action whose result alone may be restored for the unit.
    pub action: Hash,
    /// The unit's place in a target directory.
    pub unit: CargoUnit,
    /// The call that made the unit.
    pub call: PortableCall,
    /// Cargo's record of the unit.
    pub fingerprint: Fingerprint,
    /// The hashes in the names of the units that it depends on.
    pub depends_on: Vec<String>,
}

/// Seeds in dependency order: each comes after the seeds that it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedSet {
    /// Whether cargo asks for the compiler's version again after it has asked for properties.
    pub asks_version_again: bool,
    seeds: Vec<Seed>,
}

/// Why a set of seeds could not be stored. The set that was stored before is still there.
#[derive(Debug, Error)]
pub enum SaveSeedsError {
    /// The set could not be compressed.
    #[error("failed to compress a set of seeds: {0}")]
    Compress(#[from] io::Error),
    /// The store could not read or write.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SeedSet {
    /// The seeds in dependency order.
    pub fn iter(&self) -> impl Iterator<Item = &Seed> {
        self.seeds.iter()
    }

    /// For each seed, the indices of the seeds that it depends on.
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        let indices: HashMap<&str, usize> = self.seeds.iter().map(|seed| seed.unit.hash()).zip(0..).collect();
        let of =
            |seed: &Seed| seed.depends_on.iter().filter_map(|hash| indices.get(&**hash).copied()).collect();
        self.seeds.iter().map(of).collect()
    }

    /// Replaces the seeds of the same units and appends the rest. The new seeds must be in dependency
    /// order. Seeds beyond [`SEEDS_MAX`] are dropped.
    pub fn merge(&mut self, seeds: impl IntoIterator<Item = Seed>) {
        // The indices are of the seeds that were there before. Replacing a seed keeps its index, and appending
        // keeps the dependency order, because a new seed depends only on seeds before it.
        let indices: HashMap<CargoUnit, usize> =
            self.seeds.iter().enumerate().map(|(index, seed)| (seed.unit.clone(), index)).collect();
        for seed in seeds {
            match indices.get(&seed.unit) {
                Some(&index) => self.seeds[index] = seed,
                None if self.seeds.len() < SEEDS_MAX => self.seeds.push(seed),
                None => {}
            }
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let message = wire::Seeds {
            asks_again: self.asks_version_again,
            seeds: self.seeds.iter().map(message).collect(),
        };
        zstd::bulk::compress(&message.encode_to_vec(), zstd::DEFAULT_COMPRESSION_LEVEL)
    }

    fn decode(bytes: &[u8]) -> Option<SeedSet> {
        let bytes = zstd::bulk::decompress(bytes, SET_BYTES_MAX).ok()?;
        let message = wire::Seeds::decode(&*bytes).ok()?;
        let seeds = message.seeds.into_iter().map(seed).collect::<Option<_>>()?;
        Some(SeedSet { asks_version_again: message.asks_again, seeds })
    }
}

/// Reads the set with this name; `None` if there is none, or none that this version can read.
pub fn load(actions: &dyn ActionCache, name: &Digest<ActionMessage>) -> Result<Option<SeedSet>, StoreError> {
    let record = read_record(actions, PURPOSE, name)?;
    Ok(record.and_then(|bytes| SeedSet::decode(&bytes)))
}

/// Stores a set under this name, in the place of the old one.
pub fn save(
    actions: &dyn ActionCache,
    name: &Digest<ActionMessage>,
    seeds: &SeedSet,
) -> Result<(), SaveSeedsError> {
    Ok(write_record(actions, PURPOSE, name, seeds.encode()?)?)
}

fn message(seed: &Seed) -> wire::Seed {
    let variable = |changed: &ChangedVariable| wire::Variable {
        name: changed.name.clone().into(),
        before: changed.before.clone().map(Bytes::from),
        value: changed.value.clone().map(Bytes::from),
    };
    let file =
        |(name, bytes): &(String, Vec<u8>)| wire::File { name: name.clone(), bytes: bytes.clone().into() };
    wire::Seed {
        action: Bytes::copy_from_slice(&seed.action.0),
        profile: Bytes::copy_from_slice(seed.unit.profile.as_os_str().as_bytes()),
        unit: seed.unit.name.clone(),
        argv: seed.call.argv.iter().cloned().map(Bytes::from).collect(),
        cwd: seed.call.cwd.clone().into(),
        variables: seed.call.variables.iter().map(variable).collect(),
        files: seed.fingerprint.files.iter().map(file).collect(),
        depends_on: seed.depends_on.clone(),
    }
}

/// Decodes a seed; `None` if a path in it leads out of the target directory.
fn seed(message: wire::Seed) -> Option<Seed> {
    // The names become paths in a checkout. A damaged record must not make kache write elsewhere.
    let profile = PathBuf::from(OsString::from_vec(message.profile.into()));
    let is_plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    let is_below =
        |path: &PathBuf| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let files = message.files.into_iter().map(|file| (file.name, Vec::from(file.bytes)));
    let files: Vec<(String, Vec<u8>)> = files.collect();
    if !is_below(&profile) || !is_plain(&message.unit) || !files.iter().all(|(name, _)| is_plain(name)) {
        return None;
    }
    let variable = |variable: wire::Variable| ChangedVariable {
        name: variable.name.into(),
        before: variable.before.map(Vec::from),
        value: variable.value.map(Vec::from),
    };
    Some(Seed {
        action: Hash(message.action[..].try_into().ok()?),
        unit: CargoUnit { profile, name: message.unit },
        call: PortableCall {
            argv: message.argv.into_iter().map(Vec::from).collect(),
            cwd: message.cwd.into(),
            variables: message.variables.into_iter().map(variable).collect(),
        },
        fingerprint: Fingerprint { files },
        depends_on: message.depends_on,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_cas::DigestFunction;
    use kache_cas::memory::MemoryStore;

    fn seed(name: &str, action: u8) -> Seed {
        Seed {
            action: Hash([action; Hash::LEN]),
            unit: CargoUnit { profile: PathBuf::from("debug"), name: name.to_owned() },
            call: PortableCall {
                argv: vec![b"rustc".to_vec(), b"\xff".to_vec()],
                cwd: b"/kache/cargo/registry".to_vec(),
                variables: vec![
                    ChangedVariable { name: b"A".to_vec(), before: None, value: Some(Vec::new()) },
                    ChangedVariable { name: b"B".to_vec(), before: Some(b"1".to_vec()), value: None },
                ],
            },
            fingerprint: Fingerprint { files: vec![("lib-a".to_owned(), b"0".to_vec())] },
            depends_on: vec!["0".to_owned()],
        }
    }

    fn set(seeds: &[Seed]) -> SeedSet {
        let mut set = SeedSet { asks_version_again: true, ..SeedSet::default() };
        set.merge(seeds.iter().cloned());
        set
    }

    #[test]
    fn a_set_is_found_by_its_name() {
        let store = MemoryStore::new(std::sync::Arc::new(kache_cas::clock::SystemClock));
        let name = |text: &[u8]| Digest::new(DigestFunction::Blake3, DigestFunction::Blake3.hash(text), 1);
        let kept = set(&[seed("a-1", 1), seed("b-2", 2)]);
        save(&store, &name(b"x"), &kept).unwrap();
        assert_eq!(load(&store, &name(b"x")).unwrap(), Some(kept));
        assert_eq!(load(&store, &name(b"y")).unwrap(), None);
    }

    #[test]
    fn a_new_seed_replaces_the_old_one_of_its_unit() {
        let mut kept = set(&[seed("a-1", 1), seed("b-2", 2)]);
        kept.merge([seed("c-3", 3), seed("a-1", 4)]);
        let dependencies: Vec<_> = kept.dependencies();
        assert_eq!(dependencies, [[], [], []] as [[usize; 0]; 3], "no unit has that hash");
        let found: Vec<_> = kept.iter().map(|seed| (&*seed.unit.name, seed.action.0[0])).collect();
        assert_eq!(found, [("a-1", 4), ("b-2", 2), ("c-3", 3)]);
    }

    #[test]
    fn a_set_with_a_path_out_of_the_target_directory_is_not_read() {
        let with = |change: fn(&mut Seed)| {
            let mut one = seed("a-1", 1);
            change(&mut one);
            SeedSet::decode(&set(&[one]).encode().unwrap())
        };
        assert!(with(|_| ()).is_some());
        let changes: [fn(&mut Seed); 4] = [
            |seed| seed.unit.profile = PathBuf::from("../debug"),
            |seed| seed.unit.profile = PathBuf::from("/debug"),
            |seed| seed.unit.name = "../../x".to_owned(),
            |seed| seed.fingerprint.files[0].0 = "a/b".to_owned(),
        ];
        for change in changes {
            assert_eq!(with(change), None);
        }
        assert_eq!(SeedSet::decode(b"no set"), None);
    }
}
