//! Where two results of one action part (KEY-23).
//!
//! Only outputs are compared. Messages and dep-info may name the same things in another
//! order from run to run, which makes no program different.

use std::collections::BTreeMap;

use kache_cas::{BlobStore, Content, Digest, DigestFunction, Mention, StoreError};
use kache_proto::reapi::{ActionResult, OutputFile};

use crate::lookup::Disagreement;

/// What is read of two blobs at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The first output that differs, not looking at these.
pub fn disagreement(
    function: DigestFunction,
    before: &ActionResult,
    now: &ActionResult,
    but: &[String],
    blobs: &dyn BlobStore,
) -> Result<Option<Disagreement>, StoreError> {
    let by_path = |result: &ActionResult| -> BTreeMap<String, OutputFile> {
        let files = result.output_files.iter().filter(|file| !but.contains(&file.path));
        files.map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, mut now) = (by_path(before), by_path(now));
    for (path, one) in before {
        let Some(other) = now.remove(&path) else {
            return Ok(Some(Disagreement { output: path, offset: None }));
        };
        if one.digest != other.digest {
            let offset = first_difference(function, &one, &other, blobs)?;
            return Ok(Some(Disagreement { output: path, offset }));
        }
    }
    Ok(now.into_keys().next().map(|output| Disagreement { output, offset: None }))
}

/// The first byte that differs; `None` where one of the two cannot be read any more.
fn first_difference(
    function: DigestFunction,
    one: &OutputFile,
    other: &OutputFile,
    blobs: &dyn BlobStore,
) -> Result<Option<u64>, StoreError> {
    let open = |file: &OutputFile| -> Result<Option<Content>, StoreError> {
        let Some(digest) = &file.digest else { return Ok(None) };
        let digest: Digest = Digest::parse(function, &digest.hash, digest.size_bytes)?;
        match blobs.open(&digest, Mention::Peek) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            opened => opened,
        }
    };
    let (Some(one), Some(other)) = (open(one)?, open(other)?) else { return Ok(None) };
    let mut offset = 0;
    loop {
        let (Ok(a), Ok(b)) = (one.read_at(offset, PIECE_BYTES), other.read_at(offset, PIECE_BYTES)) else {
            return Ok(None);
        };
        let equal = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        offset += equal as u64;
        if equal < a.len() || equal < b.len() || a.is_empty() {
            return Ok(Some(offset));
        }
    }
}
