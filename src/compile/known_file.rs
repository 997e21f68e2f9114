//! An output whose content is known without reading it.

use std::path::PathBuf;

use kache_cas::{Digest, Seen};

/// A file that kache has stored or laid down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What is in it.
    pub digest: Digest,
    /// How it looked when that was certain; `None` if it was written to meanwhile.
    pub seen: Option<Seen>,
}
