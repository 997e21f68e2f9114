//! The encoding of a trail, and the action result that carries it.
//!
//! The sets of one trail have most observations in common. Therefore a table holds every observation
//! once, sorted, and a set is a list of numbers of table rows. Of a path only the part is written
//! that differs from the path before it. Format, after the version byte:
//!
//! ```text
//! count, observations: kind, fields     (paths: role, levels above it, shared length, rest)
//! count, sets: action, count, numbers   (each as the distance from the one before)
//! ```
//!
//! The bytes may come from a remote store. Bytes that do not decode are an error, never a panic.

use std::collections::BTreeSet;

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, DigestFunction, Hash};
use kache_proto::reapi::ActionResult;
use thiserror::Error;

use super::observation::{Observation, ObservationSet, SETS_MAX, Trail};
use super::varint::{VarintReader, VarintWriter};
use crate::roles::{Role, RolePath};

/// The version of this format. A trail of another version is not read, and its query counts as new.
pub const TRAIL_VERSION: u8 = 3;

/// The largest number of different observations in a trail. A compile with 6,000 files is the largest
/// one that was measured.
const OBSERVATIONS_MAX: usize = 1 << 20;

/// Why bytes cannot be read as a trail.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TrailError {
    /// They have another version of the format than [`TRAIL_VERSION`].
    #[error("the trail has version {0}")]
    Version(u8),
    /// They do not follow the format.
    #[error("the trail is malformed")]
    Malformed,
}

impl Trail {
    /// Returns the trail in its stored form.
    pub fn encode(&self) -> Vec<u8> {
        let observations: BTreeSet<&Observation> =
            self.sets.iter().flat_map(|set| &set.observations).collect();
        let table: Vec<&Observation> = observations.into_iter().collect();
        let mut writer = VarintWriter::default();
        writer.bytes.push(TRAIL_VERSION);
        writer.count(table.len());
        let mut before = Vec::new();
        table.iter().for_each(|observation| write_observation(&mut writer, observation, &mut before));
        writer.count(self.sets.len());
        for set in &self.sets {
            write_digest(&mut writer, &set.action);
            writer.count(set.observations.len());
            let mut numbers: Vec<usize> = set
                .observations
                .iter()
                .map(|one| table.binary_search(&one).expect("the table has every observation"))
                .collect();
            numbers.sort_unstable();
            // Rows of one set mostly follow each other, so distances are small and take one byte each.
            let mut last = 0;
            for number in numbers {
                writer.count(number - last);
                last = number;
            }
        }
        writer.bytes
    }

    /// Reads a trail from its stored form.
    pub fn decode(bytes: &[u8]) -> Result<Trail, TrailError> {
        let (version, rest) = bytes.split_first().ok_or(TrailError::Malformed)?;
        if *version != TRAIL_VERSION {
            return Err(TrailError::Version(*version));
        }
        read_trail(&mut VarintReader::new(rest)).ok_or(TrailError::Malformed)
    }

    /// Wraps the encoded trail in an action result, which is stored under the query's digest.
    pub fn to_result(&self) -> ActionResult {
        ActionResult { stdout_raw: Bytes::from(self.encode()), ..ActionResult::default() }
    }

    /// Decodes the trail that [`Trail::to_result`] wrapped.
    pub fn from_result(result: &ActionResult) -> Result<Trail, TrailError> {
        Trail::decode(&result.stdout_raw)
    }
}

fn write_observation(writer: &mut VarintWriter, observation: &Observation, before: &mut Vec<u8>) {
    match observation {
        Observation::File { path, digest } => {
            writer.bytes.push(0);
            write_path(writer, path, before);
            write_digest(writer, digest);
        }
        Observation::Absent { path } => {
            writer.bytes.push(1);
            write_path(writer, path, before);
        }
        Observation::Listing { path, digest } => {
            writer.bytes.push(2);
            write_path(writer, path, before);
            write_digest(writer, digest);
        }
        Observation::Directory { path } => {
            writer.bytes.push(7);
            write_path(writer, path, before);
        }
        Observation::Env { name, value } => {
            writer.bytes.push(if value.is_some() { 4 } else { 3 });
            writer.string(name.as_bytes());
            value.iter().for_each(|value| writer.string(value));
        }
        Observation::Root { role, up, is_real, path } => {
            writer.bytes.push(5);
            write_role(writer, *role, *up);
            writer.bytes.push(u8::from(*is_real));
            writer.string(path);
        }
        Observation::Environment { digest } => {
            writer.bytes.push(8);
            write_digest(writer, digest);
        }
        Observation::Link { path, text } => {
            writer.bytes.push(9);
            write_path(writer, path, before);
            writer.string(text);
        }
        Observation::Presentation { options } => {
            writer.bytes.push(6);
            writer.string(options);
        }
    }
}

/// A bit that is set in the byte of a role if a second byte follows, the number of levels above it.
const ABOVE: u8 = 0x10;

/// The number of levels of a path that is `RolePath::is_everywhere_above`.
const EVERY_LEVEL: u8 = u8::MAX;

fn write_role(writer: &mut VarintWriter, role: Role, up: u8) {
    let above = if up == 0 { 0 } else { ABOVE };
    match role {
        Role::Workspace => writer.bytes.push(above),
        Role::Target => writer.bytes.push(above | 1),
        Role::Cargo => writer.bytes.push(above | 2),
        Role::Sysroot => writer.bytes.push(above | 3),
        Role::Absolute => writer.bytes.push(above | 4),
        Role::Base(index) => writer.bytes.extend([above | 5, index]),
    }
    writer.bytes.extend((up != 0).then_some(up));
}

fn write_path(writer: &mut VarintWriter, path: &RolePath, before: &mut Vec<u8>) {
    write_role(writer, path.role(), if path.is_everywhere_above() { EVERY_LEVEL } else { path.up() });
    let shared = before.iter().zip(path.rest()).take_while(|(a, b)| a == b).count();
    writer.count(shared);
    writer.string(&path.rest()[shared..]);
    before.clear();
    before.extend_from_slice(path.rest());
}

fn write_digest<K>(writer: &mut VarintWriter, digest: &Digest<K>) {
    writer.bytes.push(match digest.function {
        DigestFunction::Sha256 => 0,
        DigestFunction::Blake3 => 1,
    });
    writer.bytes.extend_from_slice(&digest.hash.0);
    writer.number(digest.size_bytes);
}

fn read_trail(reader: &mut VarintReader<'_>) -> Option<Trail> {
    let count = reader.count().filter(|count| *count <= OBSERVATIONS_MAX)?;
    let mut before = Vec::new();
    let table =
        (0..count).map(|_| read_observation(reader, &mut before)).collect::<Option<Vec<Observation>>>()?;
    let sets = reader.count().filter(|count| *count <= SETS_MAX)?;
    let sets = (0..sets).map(|_| read_set(reader, &table)).collect::<Option<_>>()?;
    reader.is_at_end().then_some(Trail { sets })
}

fn read_set(reader: &mut VarintReader<'_>, table: &[Observation]) -> Option<ObservationSet> {
    let action: Digest<ActionMessage> = read_digest(reader)?;
    let count = reader.count().filter(|count| *count <= table.len())?;
    let mut at = 0;
    let mut observations = Vec::with_capacity(count);
    for _ in 0..count {
        at = usize::try_from(reader.number()?).ok()?.checked_add(at)?;
        observations.push(table.get(at)?.clone());
    }
    Some(ObservationSet { observations, action })
}

fn read_observation(reader: &mut VarintReader<'_>, before: &mut Vec<u8>) -> Option<Observation> {
    let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(match reader.byte()? {
        0 => Observation::File { path: read_path(reader, before)?, digest: read_digest(reader)? },
        1 => Observation::Absent { path: read_path(reader, before)? },
        2 => Observation::Listing { path: read_path(reader, before)?, digest: read_digest(reader)? },
        3 => Observation::Env { name: name(reader.string()?)?, value: None },
        4 => Observation::Env { name: name(reader.string()?)?, value: Some(reader.string()?.to_vec()) },
        5 => {
            let (role, up) = read_role(reader)?;
            let is_real = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            Observation::Root { role, up, is_real, path: reader.string()?.to_vec() }
        }
        6 => Observation::Presentation { options: reader.string()?.to_vec() },
        7 => Observation::Directory { path: read_path(reader, before)? },
        8 => Observation::Environment { digest: read_digest(reader)? },
        9 => Observation::Link { path: read_path(reader, before)?, text: reader.string()?.to_vec() },
        _ => return None,
    })
}

/// Reads a role and the number of levels above it. `None` if the bytes are malformed.
fn read_role(reader: &mut VarintReader<'_>) -> Option<(Role, u8)> {
    let number = reader.byte()?;
    let role = match number & !ABOVE {
        0 => Role::Workspace,
        1 => Role::Target,
        2 => Role::Cargo,
        3 => Role::Sysroot,
        4 => Role::Absolute,
        5 => Role::Base(reader.byte()?),
        _ => return None,
    };
    let up = if number & ABOVE == 0 { 0 } else { reader.byte().filter(|up| *up != 0)? };
    Some((role, up))
}

fn read_path(reader: &mut VarintReader<'_>, before: &mut Vec<u8>) -> Option<RolePath> {
    let (role, up) = read_role(reader)?;
    let shared = usize::try_from(reader.number()?).ok()?;
    if shared > before.len() {
        return None;
    }
    before.truncate(shared);
    before.extend_from_slice(reader.string()?);
    match up {
        EVERY_LEVEL => RolePath::everywhere_above(role, before.clone()),
        up => RolePath::above(role, up, before.clone()),
    }
}

fn read_digest<K>(reader: &mut VarintReader<'_>) -> Option<Digest<K>> {
    let function = match reader.byte()? {
        0 => DigestFunction::Sha256,
        1 => DigestFunction::Blake3,
        _ => return None,
    };
    let hash = Hash(reader.take(Hash::LEN)?.try_into().ok()?);
    Some(Digest::new(function, hash, reader.number()?))
}
