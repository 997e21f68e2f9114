//! Counts the bytes that directories occupy together.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The unit of `st_blocks`, which does not depend on the filesystem.
const BLOCK: u64 = 512;

/// The bytes that directories occupy, counted as `du` does: a file with several names counts once, and an extent that
/// files share on a copy-on-write filesystem counts for each of them.
pub(crate) fn bytes_on_disk(dirs: &[PathBuf]) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        add(dir, &mut seen, &mut bytes).with_context(|| format!("failed to measure `{}`", dir.display()))?;
    }
    Ok(bytes)
}

fn add(dir: &Path, seen: &mut HashSet<(u64, u64)>, bytes: &mut u64) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if seen.insert((found.dev(), found.ino())) {
            *bytes += found.blocks() * BLOCK;
        }
        if found.is_dir() {
            add(&entry.path(), seen, bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let once = dir.path().join("a");
        fs::write(&once, vec![1; 100_000]).unwrap();
        let dirs = [dir.path().to_owned()];
        let before = bytes_on_disk(&dirs).unwrap();
        assert!(before >= 100_000);
        fs::hard_link(&once, dir.path().join("b")).unwrap();
        assert_eq!(bytes_on_disk(&dirs).unwrap(), before);
    }
}
