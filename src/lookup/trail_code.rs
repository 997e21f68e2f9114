//! How a trail is written down.
//!
//! A version byte, the paths and names that occur, each once, then the sets, which refer to
//! them by number. Sets of one trail mostly name the same files. What is of another version
//! or does not parse to its end is no trail (STO-09).

use std::collections::HashMap;

use kache_cas::{Digest, DigestFunction, Hash};

use crate::action::{Observation, ObservationSet, SETS_MAX, Trail};
use crate::roles::{Role, RolePath};

const VERSION: u8 = 1;

const FILE: u8 = 0;
const ABSENT: u8 = 1;
const LISTING: u8 = 2;
const SET: u8 = 3;
const UNSET: u8 = 4;
const ROOT: u8 = 5;
const PRESENTATION: u8 = 6;

/// Writes a trail.
pub(super) fn encode(trail: &Trail) -> Vec<u8> {
    let mut texts = Texts::default();
    let mut body = Vec::new();
    put_number(&mut body, trail.sets.len());
    for set in &trail.sets {
        put_digest(&mut body, &set.action.coerce());
        put_number(&mut body, set.observations.len());
        for observation in &set.observations {
            put_observation(&mut body, &mut texts, observation);
        }
    }
    let mut encoded = vec![VERSION];
    put_number(&mut encoded, texts.list.len());
    for text in &texts.list {
        put_number(&mut encoded, text.len());
        encoded.extend_from_slice(text);
    }
    encoded.extend_from_slice(&body);
    encoded
}

#[derive(Default)]
struct Texts {
    list: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, usize>,
}

impl Texts {
    fn put(&mut self, body: &mut Vec<u8>, text: &[u8]) {
        let number = *self.numbers.entry(text.to_vec()).or_insert_with(|| {
            self.list.push(text.to_vec());
            self.list.len() - 1
        });
        put_number(body, number);
    }
}

fn put_observation(body: &mut Vec<u8>, texts: &mut Texts, observation: &Observation) {
    match observation {
        Observation::File { path, digest } => {
            body.push(FILE);
            texts.put(body, &path.in_input_root());
            put_digest(body, digest);
        }
        Observation::Absent { path } => {
            body.push(ABSENT);
            texts.put(body, &path.in_input_root());
        }
        Observation::Listing { path, digest } => {
            body.push(LISTING);
            texts.put(body, &path.in_input_root());
            put_digest(body, digest);
        }
        Observation::Env { name, value } => {
            body.push(if value.is_some() { SET } else { UNSET });
            texts.put(body, name.as_bytes());
            value.iter().for_each(|value| texts.put(body, value));
        }
        Observation::Root { role, path } => {
            body.push(ROOT);
            texts.put(body, role.dir_name().as_bytes());
            texts.put(body, path);
        }
        Observation::Presentation { options } => {
            body.push(PRESENTATION);
            texts.put(body, options);
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    // No trail has four thousand million of anything: it is made of what fits into memory.
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_digest(bytes: &mut Vec<u8>, digest: &Digest) {
    bytes.push(match digest.function {
        DigestFunction::Blake3 => 0,
        DigestFunction::Sha256 => 1,
    });
    bytes.extend_from_slice(&digest.hash.0);
    bytes.extend_from_slice(&digest.size_bytes.to_le_bytes());
}

/// Reads a trail. `None` for what is none of this version.
pub(super) fn decode(encoded: &[u8]) -> Option<Trail> {
    let mut fields = Fields { rest: encoded };
    if fields.byte()? != VERSION {
        return None;
    }
    let count = fields.number()?;
    let mut texts = Vec::new();
    for _ in 0..count {
        let len = fields.number()?;
        texts.push(fields.take(len)?);
    }
    let count = fields.number()?;
    let mut trail = Trail::default();
    if count > SETS_MAX {
        return None;
    }
    for _ in 0..count {
        let action = fields.digest()?.coerce();
        let mut observations = Vec::new();
        for _ in 0..fields.number()? {
            observations.push(fields.observation(&texts)?);
        }
        trail.sets.push(ObservationSet { observations, action });
    }
    fields.rest.is_empty().then_some(trail)
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<usize> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn digest(&mut self) -> Option<Digest> {
        let function = match self.byte()? {
            0 => DigestFunction::Blake3,
            1 => DigestFunction::Sha256,
            _ => return None,
        };
        let (hash, rest) = self.rest.split_first_chunk()?;
        let (size_bytes, rest) = rest.split_first_chunk()?;
        self.rest = rest;
        Some(Digest::new(function, Hash(*hash), u64::from_le_bytes(*size_bytes)))
    }

    fn text(&mut self, texts: &[&'a [u8]]) -> Option<&'a [u8]> {
        texts.get(self.number()?).copied()
    }

    fn path(&mut self, texts: &[&'a [u8]]) -> Option<RolePath> {
        RolePath::from_input_root(self.text(texts)?)
    }

    fn name(&mut self, texts: &[&'a [u8]]) -> Option<String> {
        String::from_utf8(self.text(texts)?.to_vec()).ok()
    }

    fn observation(&mut self, texts: &[&'a [u8]]) -> Option<Observation> {
        Some(match self.byte()? {
            FILE => Observation::File { path: self.path(texts)?, digest: self.digest()? },
            ABSENT => Observation::Absent { path: self.path(texts)? },
            LISTING => Observation::Listing { path: self.path(texts)?, digest: self.digest()? },
            SET => Observation::Env { name: self.name(texts)?, value: Some(self.text(texts)?.to_vec()) },
            UNSET => Observation::Env { name: self.name(texts)?, value: None },
            ROOT => Observation::Root {
                role: Role::from_dir_name(std::str::from_utf8(self.text(texts)?).ok()?)?,
                path: self.text(texts)?.to_vec(),
            },
            PRESENTATION => Observation::Presentation { options: self.text(texts)?.to_vec() },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths() -> impl Strategy<Value = RolePath> {
        let roles = prop_oneof![Just(Role::Workspace), Just(Role::Base(7)), Just(Role::Absolute)];
        (roles, "(|[ab]{1,2}(/[cd]{1,2}){0,2})")
            .prop_map(|(role, rest)| RolePath::new(role, rest).expect("it is in normal form"))
    }

    fn digests() -> impl Strategy<Value = Digest> {
        any::<(bool, [u8; 32], u64)>().prop_map(|(blake3, hash, size_bytes)| {
            let function = if blake3 { DigestFunction::Blake3 } else { DigestFunction::Sha256 };
            Digest::new(function, Hash(hash), size_bytes)
        })
    }

    fn observations() -> impl Strategy<Value = Observation> {
        let value = proptest::option::of(any::<Vec<u8>>());
        prop_oneof![
            (paths(), digests()).prop_map(|(path, digest)| Observation::File { path, digest }),
            paths().prop_map(|path| Observation::Absent { path }),
            (paths(), digests()).prop_map(|(path, digest)| Observation::Listing { path, digest }),
            ("[A-Z]{0,3}", value).prop_map(|(name, value)| Observation::Env { name, value }),
            any::<Vec<u8>>().prop_map(|path| Observation::Root { role: Role::Target, path }),
            any::<Vec<u8>>().prop_map(|options| Observation::Presentation { options }),
        ]
    }

    fn trails() -> impl Strategy<Value = Trail> {
        let set = (proptest::collection::vec(observations(), 0..6), digests())
            .prop_map(|(observations, action)| ObservationSet { observations, action: action.coerce() });
        proptest::collection::vec(set, 0..4).prop_map(|sets| Trail { sets })
    }

    proptest! {
        #[test]
        fn sto_09_a_trail_is_read_as_written_and_never_misread(trail in trails(), cut: prop::sample::Index) {
            let encoded = encode(&trail);
            prop_assert_eq!(decode(&encoded), Some(trail));
            prop_assert_eq!(decode(&encoded[..cut.index(encoded.len())]), None);
            prop_assert_eq!(decode(&[&encoded[..], &[0]].concat()), None);
            let newer = [&[VERSION + 1], &encoded[1..]].concat();
            prop_assert_eq!(decode(&newer), None);
        }

        #[test]
        fn sto_09_no_bytes_make_a_trail_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }
}
