//! An output whose content is known without reading it.

use std::path::PathBuf;

use kache_cas::{Digest, Seen};

/// A file that kache has stored or laid down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// How it looked when that was certain; `None` if it was written to meanwhile.
    pub seen: Option<Seen>,
}
