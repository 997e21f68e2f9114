//! The blobs that have other bytes on a remote than their digests say.
//!
//! The remote says that it has such a blob, so an upload would leave it there, and every machine would compile what
//! needs it. So what a download finds is remembered, and the next upload that has the blob replaces it.

use std::collections::HashSet;

use kache_cas::Digest;
use parking_lot::Mutex;

/// The most blobs that are remembered. More of them are found again by later downloads.
const BLOBS_MAX: usize = 65_536;

/// The blobs of one remote that have other bytes there, or may have.
#[derive(Debug, Default)]
pub struct DamagedBlobs(Mutex<HashSet<Digest>>);

impl DamagedBlobs {
    /// Remembers blobs of which at least one has other bytes.
    pub fn note(&self, blobs: &[Digest]) {
        let mut known = self.0.lock();
        let room = BLOBS_MAX.saturating_sub(known.len());
        known.extend(blobs.iter().take(room));
    }

    /// Returns those of the blobs that have other bytes there, or may have.
    pub fn among(&self, blobs: &[Digest]) -> HashSet<Digest> {
        let known = self.0.lock();
        blobs.iter().filter(|blob| known.contains(*blob)).copied().collect()
    }

    /// Forgets blobs that the remote has got again.
    pub fn forget(&self, blobs: &HashSet<Digest>) {
        self.0.lock().retain(|blob| !blobs.contains(blob));
    }
}
