//! The format version of a store on disk, and what happens to stores of another version.
//!
//! | found                               | done                                          |
//! |-------------------------------------|-----------------------------------------------|
//! | nothing                             | a store of the current version is begun       |
//! | the current version                 | it is read                                    |
//! | a newer version                     | refused: it is good, only not for us          |
//! | an unknown older version            | set aside, a fresh one is begun               |
//! | no or no legible `VERSION`          | set aside, a fresh one is begun               |
//! | a database that RocksDB calls corrupt | set aside, a fresh one is begun             |
//! | an I/O error                        | reported; nothing is touched (STO-08)         |
//!
//! A store that was set aside does not count towards the limit. It is kept as evidence, and the
//! message says where it is, so that the user can delete it.
//!
//! History: version 1 is the first. A change of the bytes of a record, a key or a file name has to
//! raise `CURRENT`, and add a line here and a fixture under `tests/fixtures`. So does a new table:
//! RocksDB does not open a database with a table that it was not told of, and an older kache would
//! take that for damage.
//!
//! Invariant (STO-09): a store is never read by other rules than those it was written by.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::layout::{Layout, exists};
use crate::error::StoreError;

/// The version that this code writes, and the only one that it reads.
pub(super) const CURRENT: u32 = 1;

/// The beginning of the one line of `VERSION`.
const HEADING: &str = "kache store ";

/// How much of a `VERSION` file is looked at. A valid one is a short line.
const VERSION_BYTES_MAX: usize = 256;

/// The store that [`prepare`] leaves in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreparedStore {
    /// The store of the current version that was there.
    Current,
    /// A new, empty store.
    Fresh,
}

/// Makes sure that the directory has a store of the current version, or fails. The text, if any,
/// tells the user that an unreadable store was set aside.
pub(super) fn prepare(layout: &Layout) -> Result<(PreparedStore, Option<String>), StoreError> {
    let (found, trouble) = match read_version(layout)? {
        StoredVersion::Known(CURRENT) => (PreparedStore::Current, None),
        StoredVersion::Known(version) if version > CURRENT => return Err(newer(layout.root(), version)),
        StoredVersion::Absent if !has_remains(layout)? => {
            begin(layout)?;
            (PreparedStore::Fresh, None)
        }
        StoredVersion::Known(version) => {
            (PreparedStore::Fresh, Some(format!("it has the unknown format {version}")))
        }
        StoredVersion::Absent => (PreparedStore::Fresh, Some("its `VERSION` is missing".to_owned())),
        StoredVersion::Illegible => (PreparedStore::Fresh, Some("its `VERSION` is illegible".to_owned())),
    };
    let trouble = trouble.map(|why| set_aside(layout, &why)).transpose()?;
    layout.make_directories()?;
    Ok((found, trouble))
}

/// Moves the store to `set-aside`, in place of any store there, and makes a new one. Returns the
/// message for the user.
pub(super) fn set_aside(layout: &Layout, why: &str) -> Result<String, StoreError> {
    let aside = layout.set_aside();
    let former = exists(&aside)?.then(|| layout.root().join("set-aside-former"));
    if let Some(former) = &former {
        rename(&aside, former)?;
    }
    fs::create_dir(&aside).map_err(|error| StoreError::io("make the directory", &aside, error))?;
    for part in [layout.db(), layout.blobs(), layout.version()] {
        let name = part.file_name().expect("a part of the store has a name");
        if exists(&part)? {
            rename(&part, &aside.join(name))?;
        }
    }
    begin(layout)?;
    layout.make_directories()?;
    if let Some(former) = &former {
        // Files in `tmp/` are deleted in small steps by upkeep: this store may be large.
        rename(former, &layout.tmp_name().with_extension("former"))?;
    }
    let message = format!(
        "the store could not be read ({why}); it was moved to `{}` and a fresh one begun",
        aside.display()
    );
    tracing::warn!("{message}");
    Ok(message)
}

enum StoredVersion {
    Absent,
    Illegible,
    Known(u32),
}

fn read_version(layout: &Layout) -> Result<StoredVersion, StoreError> {
    let path = layout.version();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StoredVersion::Absent),
        Err(error) => return Err(StoreError::io("read", path, error)),
    };
    let version = std::str::from_utf8(&bytes[..bytes.len().min(VERSION_BYTES_MAX)])
        .ok()
        .and_then(|text| text.lines().next())
        .and_then(|line| line.strip_prefix(HEADING))
        .and_then(|number| number.parse().ok());
    Ok(version.map_or(StoredVersion::Illegible, StoredVersion::Known))
}

/// Tells whether the directory has a database, although it has no `VERSION`. Without a database,
/// the other directories hold nothing that could be lost.
fn has_remains(layout: &Layout) -> Result<bool, StoreError> {
    exists(&layout.db())
}

/// Writes `VERSION`. This comes first, so that a store never has a format that `VERSION` does not
/// name.
fn begin(layout: &Layout) -> Result<(), StoreError> {
    let path = layout.version();
    let partial = layout.root().join("VERSION.partial");
    let write = || {
        let mut file = fs::File::create(&partial)?;
        writeln!(file, "{HEADING}{CURRENT}")?;
        file.sync_all()
    };
    write().map_err(|error| StoreError::io("write", &partial, error))?;
    rename(&partial, &path)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, error))
}

fn newer(root: &Path, version: u32) -> StoreError {
    let why = format!(
        "has format {version}, and this kache knows formats up to {CURRENT}: use the newer kache that wrote it, \
         or another directory"
    );
    StoreError::Unusable { path: root.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &Path) -> Layout {
        Layout::lock(dir).unwrap()
    }

    #[test]
    fn sto_09_a_new_store_names_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        assert_eq!(prepare(&layout).unwrap(), (PreparedStore::Fresh, None));
        assert_eq!(fs::read_to_string(layout.version()).unwrap(), "kache store 1\n");
        assert_eq!(prepare(&layout).unwrap(), (PreparedStore::Current, None));
    }

    #[test]
    fn sto_09_a_newer_store_is_refused_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::write(layout.version(), "kache store 2\n").unwrap();
        fs::create_dir(layout.db()).unwrap();
        let error = prepare(&layout).unwrap_err().to_string();
        assert!(error.contains("format 2") && error.contains("up to 1"), "{error}");
        assert!(layout.db().exists() && !layout.set_aside().exists());
        assert_eq!(fs::read_to_string(layout.version()).unwrap(), "kache store 2\n");
    }

    #[test]
    fn sto_09_an_unreadable_store_is_set_aside_and_only_the_latest_is_kept() {
        for (round, version) in ["kache store 0\n", "garbage", "", "kache store x\n"].iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let layout = layout(dir.path());
            for name in ["first", "second"] {
                fs::create_dir_all(layout.db()).unwrap();
                fs::write(layout.db().join(name), name).unwrap();
                fs::write(layout.version(), version).unwrap();
                let (found, trouble) = prepare(&layout).unwrap();
                assert_eq!(found, PreparedStore::Fresh, "{round}");
                assert!(trouble.unwrap().contains("set-aside"));
                assert_eq!(fs::read_to_string(layout.set_aside().join("db").join(name)).unwrap(), name);
                assert_eq!(fs::read_to_string(layout.set_aside().join("VERSION")).unwrap(), *version);
                assert!(!layout.db().exists());
            }
            assert!(!layout.set_aside().join("db/first").exists(), "only the latest is kept");
        }
    }

    #[test]
    fn sto_09_a_store_without_a_version_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::create_dir(layout.db()).unwrap();
        assert!(prepare(&layout).unwrap().1.unwrap().contains("missing"));
        assert!(layout.set_aside().join("db").exists());
    }

    #[test]
    fn sto_08_an_error_while_reading_the_version_sets_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::create_dir(layout.version()).unwrap();
        fs::create_dir(layout.db()).unwrap();
        assert!(matches!(prepare(&layout), Err(StoreError::Io { .. })));
        assert!(layout.db().exists() && !layout.set_aside().exists());
    }
}
