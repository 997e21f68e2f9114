//! Where two results of one action part (KEY-23), all outputs of them.
//!
//! Only outputs are compared. Messages and dep-info may name the same things in another
//! order from run to run, which makes no program different.

use std::collections::{BTreeMap, BTreeSet};

use kache_cas::{AccessKind, BlobStore, Content, Digest, DigestFunction, StoreError};
use kache_proto::reapi::{ActionResult, OutputFile};

use crate::lookup::{DifferentBytes, Disagreement};

/// What is read of two blobs at a time.
const PIECE_BYTES: usize = 256 << 10;

/// An output of which two results differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Which, and how.
    pub at: Disagreement,
    /// Its size in the earlier result; none where it is not in it.
    pub before_bytes: Option<u64>,
    /// And in the later one.
    pub now_bytes: Option<u64>,
}

/// The outputs that differ, in order of their paths, not looking at these.
pub fn differing(
    function: DigestFunction,
    before: &ActionResult,
    now: &ActionResult,
    but: &[String],
    blobs: &dyn BlobStore,
) -> Result<Vec<Differing>, StoreError> {
    let by_path = |result: &ActionResult| -> BTreeMap<String, OutputFile> {
        let files = result.output_files.iter().filter(|file| !but.contains(&file.path));
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
        found.push(Differing { at, before_bytes: size(one), now_bytes: size(other) });
    }
    Ok(found)
}

/// How their bytes differ; `None` where one of the two cannot be read any more.
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
