//! Compares the outputs of two results of one action (KEY-23).
//!
//! Messages are not compared, and callers exclude the dep-info: both may name the same things in another
//! order from run to run, and no program differs by that.

use std::collections::{BTreeMap, BTreeSet};

use kache_cas::{AccessKind, BlobStore, Content, Digest, DigestFunction, StoreError};
use kache_proto::reapi::{ActionResult, OutputFile};

use crate::lookup::{DifferentBytes, Disagreement};

/// The number of bytes that are read from each blob at a time.
const PIECE_BYTES: usize = 256 << 10;

/// An output that differs between two results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputDifference {
    /// The path of the output and the bytes that differ.
    pub at: Disagreement,
    /// The size of the output in the earlier result; `None` if that result does not have it.
    pub before_bytes: Option<u64>,
    /// The size of the output in the later result; `None` if that result does not have it.
    pub now_bytes: Option<u64>,
}

/// The outputs that differ, in the order of their paths, except those with a path in `excluded`. Reads both
/// blobs of each output whose digests differ.
pub fn differing(
    function: DigestFunction,
    before: &ActionResult,
    now: &ActionResult,
    excluded: &[String],
    blobs: &dyn BlobStore,
) -> Result<Vec<OutputDifference>, StoreError> {
    let by_path = |result: &ActionResult| -> BTreeMap<String, OutputFile> {
        let files = result.output_files.iter().filter(|file| !excluded.contains(&file.path));
        files.map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, now) = (by_path(before), by_path(now));
    let size = |file: Option<&OutputFile>| {
        file.and_then(|file| u64::try_from(file.digest.as_ref()?.size_bytes).ok())
    };
    let mut found = Vec::new();
    for path in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let (one, other) = (before.get(path), now.get(path));
        let bytes = match (one, other) {
            (Some(one), Some(other)) if one.digest == other.digest => continue,
            (Some(one), Some(other)) => different_bytes(function, one, other, blobs)?,
            _ => None,
        };
        let at = Disagreement { output: path.clone(), bytes };
        found.push(OutputDifference { at, before_bytes: size(one), now_bytes: size(other) });
    }
    Ok(found)
}

/// The bytes at which two outputs differ; `None` if one of the two blobs was evicted or is damaged.
fn different_bytes(
    function: DigestFunction,
    one: &OutputFile,
    other: &OutputFile,
    blobs: &dyn BlobStore,
) -> Result<Option<DifferentBytes>, StoreError> {
    let open = |file: &OutputFile| -> Result<Option<Content>, StoreError> {
        let Some(digest) = &file.digest else { return Ok(None) };
        let digest: Digest = Digest::parse(function, &digest.hash, digest.size_bytes)?;
        match blobs.open(&digest, AccessKind::Peek) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            opened => opened,
        }
    };
    let (Some(one), Some(other)) = (open(one)?, open(other)?) else { return Ok(None) };
    // A blob may have gigabytes, so both are read in pieces. A byte that only the longer one has differs.
    let mut at = 0;
    let mut different: Option<DifferentBytes> = None;
    loop {
        let (Ok(a), Ok(b)) = (one.read_at(at, PIECE_BYTES), other.read_at(at, PIECE_BYTES)) else {
            return Ok(None);
        };
        let length = a.len().max(b.len());
        let differs = |place: &usize| a.get(*place) != b.get(*place);
        for place in (0..length).filter(differs) {
            let first = DifferentBytes { offset: at + place as u64, count: 0 };
            different.get_or_insert(first).count += 1;
        }
        if length == 0 {
            return Ok(different);
        }
        at += length as u64;
    }
}
