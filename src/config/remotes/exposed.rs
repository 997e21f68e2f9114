//! Finds files of the configuration that hold a secret of a remote and that other users can read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_remote::{Location, Secret};

use super::entry::RemoteEntry;
use crate::config::load::{Config, Origin};

/// Returns the files that hold a token, a password or a header of a remote and that users beside their owner can
/// read.
pub fn exposed_files(config: &Config) -> Vec<PathBuf> {
    let with_secrets = config.remotes.entries.iter().filter(|entry| holds_secret(entry));
    let files: BTreeSet<&PathBuf> = with_secrets.filter_map(file_of).collect();
    files.into_iter().filter(|path| is_exposed(path)).cloned().collect()
}

fn file_of(entry: &RemoteEntry) -> Option<&PathBuf> {
    match &entry.origin {
        Origin::File { path, .. } => Some(path),
        Origin::Variable(_) | Origin::Default => None,
    }
}

/// Whether an entry has a secret. A URL that cannot be understood may hold a password.
fn holds_secret(entry: &RemoteEntry) -> bool {
    let may_hold_password = |url: &Secret| !matches!(Location::parse(url.reveal()), Ok((_, None)));
    entry.token.is_some()
        || !entry.headers.is_empty()
        || entry.url.iter().chain(&entry.endpoint).any(may_hold_password)
}

fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o044 != 0)
}
