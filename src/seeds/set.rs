//! Sets of seeds in the store.
//!
//! A set is a record of its own kind. One that cannot be read is none.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Digest, Hash, StoreError};
use kache_proto::Message as _;
use kache_proto::seeds as wire;

use super::portable::{Changed, Portable};
use crate::cargo::{Fingerprint, Unit};
use crate::lookup::{read_record, write_record};

/// What record this is, and the version of its form.
const PURPOSE: &str = "kache seeds 1";

/// More units than this are not kept: the largest builds known have a third.
const SEEDS_MAX: usize = 6000;

/// The same as bytes.
const SET_BYTES_MAX: usize = 64 << 20;

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// What made it.
    pub action: Hash,
    /// Where it stands.
    pub unit: Unit,
    /// The call that made it.
    pub call: Portable,
    /// Cargo's record of it.
    pub fingerprint: Fingerprint,
    /// The hashes in the names of the units that it depends on.
    pub depends_on: Vec<String>,
}

/// Seeds in an order in which each stands behind those that it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Whether cargo asks for the compiler's version once more after its properties.
    pub asks_again: bool,
    seeds: Vec<Seed>,
}

impl Seeds {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Seed> {
        self.seeds.iter()
    }

    /// Of each, the places of those that it depends on.
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        let places: HashMap<&str, usize> = self.seeds.iter().map(|seed| seed.unit.hash()).zip(0..).collect();
        let of =
            |seed: &Seed| seed.depends_on.iter().filter_map(|hash| places.get(&**hash).copied()).collect();
        self.seeds.iter().map(of).collect()
    }

    /// Takes these in, which stand in such an order among themselves: in the place of what they
    /// replace, or behind the others.
    pub fn add(&mut self, seeds: impl IntoIterator<Item = Seed>) {
        let places: HashMap<Unit, usize> =
            self.seeds.iter().enumerate().map(|(place, seed)| (seed.unit.clone(), place)).collect();
        for seed in seeds {
            match places.get(&seed.unit) {
                Some(&place) => self.seeds[place] = seed,
                None if self.seeds.len() < SEEDS_MAX => self.seeds.push(seed),
                None => {}
            }
        }
    }

    fn encode(&self) -> std::io::Result<Vec<u8>> {
        let message =
            wire::Seeds { asks_again: self.asks_again, seeds: self.seeds.iter().map(message).collect() };
        zstd::bulk::compress(&message.encode_to_vec(), zstd::DEFAULT_COMPRESSION_LEVEL)
    }

    fn decode(bytes: &[u8]) -> Option<Seeds> {
        let bytes = zstd::bulk::decompress(bytes, SET_BYTES_MAX).ok()?;
        let message = wire::Seeds::decode(&*bytes).ok()?;
        let seeds = message.seeds.into_iter().map(seed).collect::<Option<_>>()?;
        Some(Seeds { asks_again: message.asks_again, seeds })
    }
}

/// The set of this name.
pub fn load(actions: &dyn ActionCache, name: &Digest<ActionMessage>) -> Result<Option<Seeds>, StoreError> {
    let kept = read_record(actions, PURPOSE, name)?;
    Ok(kept.and_then(|bytes| Seeds::decode(&bytes)))
}

/// Keeps it under this name.
pub fn save(actions: &dyn ActionCache, name: &Digest<ActionMessage>, seeds: &Seeds) -> anyhow::Result<()> {
    Ok(write_record(actions, PURPOSE, name, seeds.encode()?)?)
}

fn message(seed: &Seed) -> wire::Seed {
    let variable = |changed: &Changed| wire::Variable {
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

/// From its message; `None` if a name in it could lead out of the target directory.
fn seed(message: wire::Seed) -> Option<Seed> {
    let profile = PathBuf::from(OsString::from_vec(message.profile.into()));
    let is_plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    let is_below =
        |path: &PathBuf| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let files = message.files.into_iter().map(|file| (file.name, Vec::from(file.bytes)));
    let files: Vec<(String, Vec<u8>)> = files.collect();
    if !is_below(&profile) || !is_plain(&message.unit) || !files.iter().all(|(name, _)| is_plain(name)) {
        return None;
    }
    let variable = |variable: wire::Variable| Changed {
        name: variable.name.into(),
        before: variable.before.map(Vec::from),
        value: variable.value.map(Vec::from),
    };
    Some(Seed {
        action: Hash(message.action[..].try_into().ok()?),
        unit: Unit { profile, name: message.unit },
        call: Portable {
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
            unit: Unit { profile: PathBuf::from("debug"), name: name.to_owned() },
            call: Portable {
                argv: vec![b"rustc".to_vec(), b"\xff".to_vec()],
                cwd: b"/kache/cargo/registry".to_vec(),
                variables: vec![
                    Changed { name: b"A".to_vec(), before: None, value: Some(Vec::new()) },
                    Changed { name: b"B".to_vec(), before: Some(b"1".to_vec()), value: None },
                ],
            },
            fingerprint: Fingerprint { files: vec![("lib-a".to_owned(), b"0".to_vec())] },
            depends_on: vec!["0".to_owned()],
        }
    }

    fn set(seeds: &[Seed]) -> Seeds {
        let mut set = Seeds { asks_again: true, ..Seeds::default() };
        set.add(seeds.iter().cloned());
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
    fn a_new_seed_takes_the_place_of_the_old_one() {
        let mut kept = set(&[seed("a-1", 1), seed("b-2", 2)]);
        kept.add([seed("c-3", 3), seed("a-1", 4)]);
        let places: Vec<_> = kept.dependencies();
        assert_eq!(places, [[], [], []] as [[usize; 0]; 3], "there is no unit of that hash");
        let found: Vec<_> = kept.iter().map(|seed| (&*seed.unit.name, seed.action.0[0])).collect();
        assert_eq!(found, [("a-1", 4), ("b-2", 2), ("c-3", 3)]);
    }

    #[test]
    fn names_that_lead_elsewhere_make_no_set() {
        let with = |change: fn(&mut Seed)| {
            let mut one = seed("a-1", 1);
            change(&mut one);
            Seeds::decode(&set(&[one]).encode().unwrap())
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
        assert_eq!(Seeds::decode(b"no such thing"), None);
    }
}
