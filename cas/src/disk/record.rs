//! The encoding of the database's keys and values, format version 1.
//!
//! Numbers are little-endian and fixed in width. This module knows no database and no file. A
//! value of the wrong length is an error, never a guess (STO-09). Every change here has to raise
//! `format::CURRENT`.

use crate::digest::{Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::store::ActionKey;

/// Where a blob's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlobLocation {
    /// In the column family `inline`.
    Inline,
    /// In a file under `blobs/`.
    File,
}

/// The inode and dates of a blob's file when its bytes were last known to be right. Recorded only
/// for files whose inode has names outside the store, where another process may write to it
/// (RST-03).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InodeStamp {
    pub(super) inode: u64,
    pub(super) modified_ns: i64,
    /// No process can set this date, so a write whose modification date was set back still shows.
    pub(super) changed_ns: i64,
    /// When the stamp was taken.
    pub(super) taken_ns: i64,
}

/// Two writes within this time may give a file the same date, because the clocks of filesystems
/// are coarse.
const GRAIN_NS: i64 = 2_000_000_000;

impl InodeStamp {
    /// Tells whether a file with the stamp `now` still has the bytes that it had at this stamp. A
    /// stamp taken within [`GRAIN_NS`] after the last write proves nothing: a second write right
    /// after it could have left the same date.
    pub(super) fn is_unchanged_in(&self, now: &InodeStamp) -> bool {
        let same =
            (self.inode, self.modified_ns, self.changed_ns) == (now.inode, now.modified_ns, now.changed_ns);
        same && self.taken_ns.saturating_sub(self.modified_ns) >= GRAIN_NS
    }
}

/// The index's record of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobRecord {
    pub(super) size_bytes: u64,
    /// The space that the blob occupies on the volume; an estimate for an inline blob.
    pub(super) physical_bytes: u64,
    /// The epoch in which the blob was written, which tells whether an unclean stop may have left
    /// it incomplete.
    pub(super) epoch: u64,
    pub(super) created_ms: u64,
    pub(super) location: BlobLocation,
    /// Whether the bytes are known to be wrong. Such a blob is not served; it remains until it is
    /// evicted or stored again.
    pub(super) damaged: bool,
    /// The blob's SHA-256, if it was stored under that name.
    pub(super) sha256: Option<Hash>,
    pub(super) stamp: Option<InodeStamp>,
}

const INLINE: u8 = 1;
const DAMAGED: u8 = 2;
const HAS_SHA256: u8 = 4;
const HAS_STAMP: u8 = 8;
const FLAGS: u8 = INLINE | DAMAGED | HAS_SHA256 | HAS_STAMP;

impl BlobRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        flags |= if self.location == BlobLocation::Inline { INLINE } else { 0 };
        flags |= if self.damaged { DAMAGED } else { 0 };
        flags |= if self.sha256.is_some() { HAS_SHA256 } else { 0 };
        flags |= if self.stamp.is_some() { HAS_STAMP } else { 0 };
        let mut bytes = Vec::with_capacity(97);
        bytes.push(flags);
        for number in [self.size_bytes, self.physical_bytes, self.epoch, self.created_ms] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.sha256.iter().flat_map(|hash| hash.0));
        if let Some(stamp) = &self.stamp {
            bytes.extend(stamp.inode.to_le_bytes());
            for number in [stamp.modified_ns, stamp.changed_ns, stamp.taken_ns] {
                bytes.extend(number.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<BlobRecord, StoreError> {
        let mut fields = FieldReader { bytes, doing: "decode a blob's record" };
        let flags = fields.take::<1>()?[0];
        if flags & !FLAGS != 0 {
            return Err(fields.wrong());
        }
        let record = BlobRecord {
            size_bytes: fields.u64()?,
            physical_bytes: fields.u64()?,
            epoch: fields.u64()?,
            created_ms: fields.u64()?,
            location: if flags & INLINE != 0 { BlobLocation::Inline } else { BlobLocation::File },
            damaged: flags & DAMAGED != 0,
            sha256: if flags & HAS_SHA256 != 0 { Some(fields.hash()?) } else { None },
            stamp: if flags & HAS_STAMP != 0 { Some(fields.stamp()?) } else { None },
        };
        fields.end()?;
        Ok(record)
    }
}

/// The blob that a SHA-256 names. An alias exists exactly as long as its blob can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) blake3: Hash,
    pub(super) size_bytes: u64,
}

impl Alias {
    pub(super) fn encode(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&self.blake3.0);
        bytes[32..].copy_from_slice(&self.size_bytes.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Alias, StoreError> {
        let mut fields = FieldReader { bytes, doing: "decode an alias" };
        let alias = Alias { blake3: fields.hash()?, size_bytes: fields.u64()? };
        fields.end()?;
        Ok(alias)
    }
}

/// Encodes the last use and the end of the lease of an entry.
pub(super) fn encode_retention(retention: Retention) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&retention.used_ms.to_le_bytes());
    bytes[8..].copy_from_slice(&retention.leased_until_ms.to_le_bytes());
    bytes
}

pub(super) fn decode_retention(bytes: &[u8]) -> Result<Retention, StoreError> {
    let mut fields = FieldReader { bytes, doing: "decode a record of use" };
    let retention = Retention { used_ms: fields.u64()?, leased_until_ms: fields.u64()? };
    fields.end()?;
    Ok(retention)
}

/// Sums over all blobs. The database keeps them by merging differences, so that opening a store
/// need not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The space of all files. Inline blobs count as part of the database.
    pub(super) file_bytes: i64,
    pub(super) logical_bytes: i64,
    pub(super) blobs: i64,
}

impl Totals {
    /// Returns what one blob adds to the totals.
    pub(super) fn of(record: &BlobRecord) -> Totals {
        let file_bytes = if record.location == BlobLocation::File { record.physical_bytes } else { 0 };
        Totals { file_bytes: signed(file_bytes), logical_bytes: signed(record.size_bytes), blobs: 1 }
    }

    pub(super) fn plus(self, other: Totals) -> Totals {
        Totals {
            file_bytes: self.file_bytes.saturating_add(other.file_bytes),
            logical_bytes: self.logical_bytes.saturating_add(other.logical_bytes),
            blobs: self.blobs.saturating_add(other.blobs),
        }
    }

    pub(super) fn minus(self, other: Totals) -> Totals {
        self.plus(Totals {
            file_bytes: other.file_bytes.saturating_neg(),
            logical_bytes: other.logical_bytes.saturating_neg(),
            blobs: other.blobs.saturating_neg(),
        })
    }

    pub(super) fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.logical_bytes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.blobs.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Totals, StoreError> {
        let mut fields = FieldReader { bytes, doing: "decode the totals" };
        let totals = Totals { file_bytes: fields.i64()?, logical_bytes: fields.i64()?, blobs: fields.i64()? };
        fields.end()?;
        Ok(totals)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the number of a digest function in keys, which is that of the protocol.
fn function_number(function: DigestFunction) -> u8 {
    match function {
        DigestFunction::Sha256 => 1,
        DigestFunction::Blake3 => 9,
    }
}

fn function_of(number: u8) -> Option<DigestFunction> {
    DigestFunction::ALL.into_iter().find(|&function| function_number(function) == number)
}

/// Encodes the database's key of an action: function, hash, instance name. The hash comes before
/// the name so that keys are spread evenly.
pub(super) fn encode_action_key(key: &ActionKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + Hash::LEN + key.instance.len());
    bytes.push(function_number(key.function));
    bytes.extend(key.hash.0);
    bytes.extend(key.instance.as_bytes());
    bytes
}

pub(super) fn decode_action_key(bytes: &[u8]) -> Result<ActionKey, StoreError> {
    let mut fields = FieldReader { bytes, doing: "decode an action's key" };
    let number = fields.take::<1>()?[0];
    let function = function_of(number).ok_or_else(|| fields.wrong())?;
    let hash = fields.hash()?;
    let instance = std::str::from_utf8(fields.bytes).map_err(|_| fields.wrong())?.into();
    Ok(ActionKey { instance, function, hash })
}

/// Encodes an action result for the database: the date, then the encoded message.
pub(super) fn encode_action(created_ms: u64, encoded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + encoded.len());
    bytes.extend(created_ms.to_le_bytes());
    bytes.extend(encoded);
    bytes
}

pub(super) fn decode_action(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    let mut fields = FieldReader { bytes, doing: "decode a stored action result" };
    let created_ms = fields.u64()?;
    Ok((created_ms, fields.bytes))
}

pub(super) fn decode_hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    let mut fields = FieldReader { bytes, doing: "decode a blob's key" };
    let hash = fields.hash()?;
    fields.end()?;
    Ok(hash)
}

/// Tells whether a record has the size that the digest names, and its blob may be served.
pub(super) fn is_servable_as(record: &BlobRecord, digest: &Digest) -> bool {
    record.size_bytes == digest.size_bytes && !record.damaged
}

struct FieldReader<'a> {
    bytes: &'a [u8],
    doing: &'static str,
}

impl FieldReader<'_> {
    fn wrong(&self) -> StoreError {
        StoreError::Database { doing: self.doing, message: "it is malformed".to_owned() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (field, rest) = self.bytes.split_first_chunk().ok_or_else(|| self.wrong())?;
        self.bytes = rest;
        Ok(*field)
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, StoreError> {
        self.take().map(i64::from_le_bytes)
    }

    fn hash(&mut self) -> Result<Hash, StoreError> {
        self.take().map(Hash)
    }

    fn stamp(&mut self) -> Result<InodeStamp, StoreError> {
        Ok(InodeStamp {
            inode: self.u64()?,
            modified_ns: self.i64()?,
            changed_ns: self.i64()?,
            taken_ns: self.i64()?,
        })
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamps() -> impl Strategy<Value = InodeStamp> {
        (any::<u64>(), any::<i64>(), any::<i64>(), any::<i64>()).prop_map(
            |(inode, modified_ns, changed_ns, taken_ns)| InodeStamp {
                inode,
                modified_ns,
                changed_ns,
                taken_ns,
            },
        )
    }

    fn records() -> impl Strategy<Value = BlobRecord> {
        let numbers = any::<[u64; 4]>();
        let flags = any::<(bool, bool)>();
        let sha256 = proptest::option::of(any::<[u8; 32]>().prop_map(Hash));
        (numbers, flags, sha256, proptest::option::of(stamps())).prop_map(
            |([size_bytes, physical_bytes, epoch, created_ms], (inline, damaged), sha256, stamp)| {
                let location = if inline { BlobLocation::Inline } else { BlobLocation::File };
                BlobRecord { size_bytes, physical_bytes, epoch, created_ms, location, damaged, sha256, stamp }
            },
        )
    }

    proptest! {
        #[test]
        fn sto_09_a_record_is_read_as_written_and_never_misread(record in records(), cut in 0usize..97) {
            let bytes = record.encode();
            prop_assert_eq!(BlobRecord::decode(&bytes).unwrap(), record);
            if cut < bytes.len() {
                prop_assert!(BlobRecord::decode(&bytes[..cut]).is_err());
            }
            prop_assert!(BlobRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn sto_09_an_action_key_is_read_as_written(hash: [u8; 32], instance in ".{0,20}", blake3: bool) {
            let function = if blake3 { DigestFunction::Blake3 } else { DigestFunction::Sha256 };
            let key = ActionKey { instance: instance.as_str().into(), function, hash: Hash(hash) };
            prop_assert_eq!(decode_action_key(&encode_action_key(&key)).unwrap(), key);
        }
    }

    #[test]
    fn aliases_retentions_and_totals_are_read_as_written() {
        let alias = Alias { blake3: Hash([7; 32]), size_bytes: 9 };
        assert_eq!(Alias::decode(&alias.encode()).unwrap(), alias);
        assert!(Alias::decode(&alias.encode()[1..]).is_err());
        let retention = Retention { used_ms: 3, leased_until_ms: 4 };
        assert_eq!(decode_retention(&encode_retention(retention)).unwrap(), retention);
        let totals = Totals { file_bytes: -1, logical_bytes: 2, blobs: 3 };
        assert_eq!(Totals::decode(&totals.encode()).unwrap(), totals);
        assert_eq!(totals.plus(totals).minus(totals), totals);
    }

    #[test]
    fn rst_03_a_stamp_proves_nothing_about_a_file_that_was_just_written() {
        let stamp = InodeStamp { inode: 1, modified_ns: 0, changed_ns: 5, taken_ns: GRAIN_NS };
        assert!(stamp.is_unchanged_in(&InodeStamp { taken_ns: i64::MAX, ..stamp }));
        assert!(!stamp.is_unchanged_in(&InodeStamp { changed_ns: 6, ..stamp }));
        assert!(!stamp.is_unchanged_in(&InodeStamp { modified_ns: 6, ..stamp }));
        assert!(!stamp.is_unchanged_in(&InodeStamp { inode: 6, ..stamp }));
        let young = InodeStamp { taken_ns: GRAIN_NS - 1, ..stamp };
        assert!(!young.is_unchanged_in(&young), "a second write with the same date would not show");
    }
}
