//! The files of a checkout in memory, where they are changed before they are written to several checkouts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Entries that builds create, which are not part of a checkout.
const LEFT_OUT: &str = "target";

/// An entry of a directory tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    File(Vec<u8>),
    /// A symbolic link with its target.
    Link(PathBuf),
    Directory,
}

/// All entries by their paths relative to the checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files(pub(crate) BTreeMap<PathBuf, Entry>);

impl Files {
    /// Reads a directory recursively.
    pub(crate) fn read(top: &Path) -> Result<Files> {
        let mut files = Files::default();
        files.add(top, Path::new("")).with_context(|| format!("failed to read `{}`", top.display()))?;
        Ok(files)
    }

    fn add(&mut self, top: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(top.join(below))? {
            let entry = entry?;
            let (path, kind) = (below.join(entry.file_name()), entry.file_type()?);
            if kind.is_symlink() {
                self.0.insert(path, Entry::Link(fs::read_link(entry.path())?));
            } else if kind.is_file() {
                self.0.insert(path, Entry::File(fs::read(entry.path())?));
            } else if kind.is_dir() && entry.file_name() != LEFT_OUT {
                self.0.insert(path.clone(), Entry::Directory);
                self.add(top, &path)?;
            }
        }
        Ok(())
    }

    /// Makes a directory contain exactly these entries and those that builds create. Does not write entries that are
    /// unchanged, so that their dates stay.
    pub(crate) fn write(&self, top: &Path) -> Result<()> {
        fs::create_dir_all(top)?;
        let found = Files::read(top)?;
        let failed = |path: &Path| format!("failed to write `{}`", top.join(path).display());
        // A directory precedes its entries in this order, so the reverse order removes the entries first.
        for (path, entry) in found.0.iter().rev() {
            let is_needless = match (entry, self.0.get(path)) {
                (Entry::Directory, now) => now != Some(&Entry::Directory),
                // An existing file is overwritten, because a change without a new inode is the hardest to detect.
                (Entry::File(_), Some(Entry::File(_))) => false,
                (now, wanted) => Some(now) != wanted,
            };
            if is_needless {
                remove(&top.join(path), entry).with_context(|| failed(path))?;
            }
        }
        for (path, entry) in &self.0 {
            if found.0.get(path) != Some(entry) {
                place(&top.join(path), entry).with_context(|| failed(path))?;
            }
        }
        Ok(())
    }

    /// Whether there is no entry at this path.
    pub(crate) fn is_free(&self, path: &Path) -> bool {
        !self.0.contains_key(path)
    }

    /// Removes the entry at this path with everything below it.
    pub(crate) fn remove(&mut self, path: &Path) {
        self.0.retain(|other, _| !other.starts_with(path));
    }

    /// Puts an entry at a path and creates the directories above it. Replaces entries that are in the way.
    pub(crate) fn put(&mut self, path: &Path, entry: Entry) {
        self.remove(path);
        let above: Vec<_> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
        // From the top down, because removing an entry removes everything below it.
        for above in above.into_iter().rev() {
            if self.0.get(above) != Some(&Entry::Directory) {
                self.remove(above);
                self.0.insert(above.to_owned(), Entry::Directory);
            }
        }
        self.0.insert(path.to_owned(), entry);
    }
}

/// Keeps a directory that contains entries which builds created.
fn remove(path: &Path, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Directory => match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        },
        _ => fs::remove_file(path),
    }
}

fn place(path: &Path, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::File(bytes) => fs::write(path, bytes),
        Entry::Link(to) => symlink(to, path),
        Entry::Directory => fs::create_dir_all(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_written_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        files.put(Path::new("a/b/c"), Entry::File(b"text".to_vec()));
        files.put(Path::new("a/link"), Entry::Link("b/c".into()));
        files.write(dir.path()).unwrap();
        assert_eq!(Files::read(dir.path()).unwrap(), files);
        // A directory becomes a file, a file becomes a directory, and a link is removed.
        fs::create_dir_all(dir.path().join("target/debug")).unwrap();
        files.put(Path::new("a/b"), Entry::File(b"other".to_vec()));
        files.put(Path::new("a/link/x"), Entry::File(b"x".to_vec()));
        files.write(dir.path()).unwrap();
        assert_eq!(Files::read(dir.path()).unwrap(), files);
        assert!(dir.path().join("target/debug").exists());
    }
}
