//! Places blobs as files outside the store.
//!
//! A file is made in the staging directory, or beside its destination, with its mode and date, and
//! is then renamed over the destination: a reader sees the whole old file or the whole new one.
//!
//! A hard link shares the store's inode and therefore its mode and date, so these must be right
//! before the link is made. The blob is marked as shared before the link exists; a crash in
//! between only means that the blob is hashed once more. If the inode has other names and the
//! wrong mode or date, or another process has changed it, the store replaces its own file by a
//! copy and shares that.
//!
//! Invariants: a placed file has exactly the mode asked for (RST-04); files that were placed
//! earlier do not change (RST-02); a failure leaves the destination as it was (RST-05).

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use nix::unistd::Uid;
use rocksdb::WriteBatch;

use super::commit::RECORD_BYTES;
use super::database::DbTable;
use super::layout::draft_path_beside;
use super::link::{DevicePair, copy};
use super::record::BlobRecord;
use super::store::StoreInner;
use super::uses::blob_key;
use super::verify::{BlobCheck, damaged, hash_file, inode_stamp};
use super::writer::{INLINE_BYTES_MAX, room_bytes};
use crate::digest::{Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::store::{AccessKind, Content, FileStamp, Link, LinkedFile, PlaceOptions, Sharing};

/// The bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;

/// The size of the file that is cloned to find out whether reflinks work: one block, because an
/// empty file has nothing to share.
const PROBE_BYTES: usize = 4096;

/// A file in the staging directory or beside its destination. Dropping this value deletes the file,
/// unless it was renamed.
struct PlacedDraft {
    path: PathBuf,
}

impl PlacedDraft {
    fn of(destination: &Path) -> PlacedDraft {
        PlacedDraft { path: draft_path_beside(destination) }
    }

    fn for_placing(destination: &Path, placing: &PlaceOptions<'_>) -> PlacedDraft {
        match (placing.staging, destination.file_name()) {
            (Some(staging), Some(name)) => PlacedDraft::of(&staging.join(name)),
            _ => PlacedDraft::of(destination),
        }
    }

    fn create(&self) -> Result<File, StoreError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| StoreError::io("create", &self.path, error))
    }

    /// Sets the file's mode and date and renames it to its destination. Returns the file's stamp,
    /// or `None` if another process has written to it by then.
    fn finish(
        self,
        file: &File,
        destination: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<FileStamp>, StoreError> {
        set_mode_and_date(file, placing)
            .map_err(|error| StoreError::io("set the mode and date of", &self.path, error))?;
        let before = look(file, &self.path)?;
        self.rename(destination)?;
        let after = look(file, destination)?;
        Ok(Some(after).filter(|after| after.has_content_of(&before)))
    }

    /// Renames the file to its destination. If both are names of one inode already, the system
    /// leaves both, and the drop deletes the draft's.
    fn rename(self, destination: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, destination).map_err(|error| StoreError::io("rename to", destination, error))
    }
}

impl Drop for PlacedDraft {
    fn drop(&mut self) {
        // After a rename this name does not exist.
        let _ = fs::remove_file(&self.path);
    }
}

impl StoreInner {
    pub(super) fn place_blob(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        if digest.size_bytes <= INLINE_BYTES_MAX {
            let content = self.open_blob(digest, AccessKind::Use)?;
            return content.map(|content| place_small(&content, path, placing)).transpose();
        }
        let Some(blake3) = self.blake3(digest.function, digest.hash)? else { return Ok(None) };
        // From the cheapest to the dearest: a reflink, then a hard link where the caller allows it,
        // then a copy. The first two return `None` where they are not possible.
        let Some((file, before)) = self.open_file(blake3, digest)? else { return Ok(None) };
        self.note_access(&blob_key(&blake3), AccessKind::Use);
        let directory = directory_of(path);
        let to = fs::metadata(directory).map_err(|error| StoreError::io("look at", directory, error))?;
        let pair = DevicePair::new(&before, &to);
        if placing.sharing != Sharing::Copy
            && let Some(linked) = self.place_reflink(pair, &file, path, placing)?
        {
            return Ok(Some(linked));
        }
        if placing.sharing.may_share_inode()
            && self.pairs.may_hardlink(pair)
            && let Some(linked) = self.place_hardlink(pair, blake3, digest, path, placing)?
        {
            return Ok(Some(linked));
        }
        let stamp = self.place_copy(blake3, &file, &before, path, placing)?;
        Ok(Some(LinkedFile { link: Link::Copy, stamp }))
    }

    /// Returns the most that a file in this directory can share with the store.
    pub(super) fn best_link(&self, directory: &Path) -> Result<Link, StoreError> {
        let tmp = self.layout.tmp();
        let look = |path: &Path| fs::metadata(path).map_err(|error| StoreError::io("look at", path, error));
        let pair = DevicePair::new(&look(&tmp)?, &look(directory)?);
        if self.pairs.is_reflink_proven(pair) || self.try_reflink(pair, directory)? {
            return Ok(Link::Reflink);
        }
        let may_hardlink = pair.is_one_device() && self.pairs.may_hardlink(pair);
        Ok(if may_hardlink { Link::Hardlink } else { Link::Copy })
    }

    /// Tries whether a file of the store can be cloned into this directory.
    fn try_reflink(&self, pair: DevicePair, directory: &Path) -> Result<bool, StoreError> {
        if !self.pairs.may_reflink(pair) {
            return Ok(false);
        }
        let draft = self.draft()?;
        let written = draft.file().write_all(&[0; PROBE_BYTES]);
        written.map_err(|error| StoreError::io("write to", draft.path(), error))?;
        let target = PlacedDraft::of(&directory.join("probe"));
        let copy = target.create()?;
        Ok(self.pairs.reflink(pair, draft.file(), &copy))
    }

    fn place_reflink(
        &self,
        pair: DevicePair,
        file: &File,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        if !self.pairs.may_reflink(pair) {
            return Ok(None);
        }
        let draft = PlacedDraft::for_placing(path, placing);
        let copy = draft.create()?;
        if !self.pairs.reflink(pair, file, &copy) {
            return Ok(None);
        }
        let stamp = draft.finish(&copy, path, placing)?;
        Ok(Some(LinkedFile { link: Link::Reflink, stamp }))
    }

    fn place_copy(
        &self,
        blake3: Hash,
        file: &File,
        before: &Metadata,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<FileStamp>, StoreError> {
        let draft = PlacedDraft::for_placing(path, placing);
        let target = draft.create()?;
        copy(file, &target).map_err(|error| StoreError::io("copy to", &draft.path, error))?;
        let after = file.metadata().map_err(|error| StoreError::io("look at", path, error))?;
        // If the inode is shared, another process may have written to it during the copy.
        if (after.len(), after.mtime(), after.mtime_nsec())
            != (before.len(), before.mtime(), before.mtime_nsec())
        {
            return Err(StoreError::Changed { path: self.layout.blob(&blake3) });
        }
        draft.finish(&target, path, placing)
    }

    /// Places a hard link of the store's own file. Returns `None` if that is not possible; the
    /// caller then makes a copy.
    ///
    /// The inode's mode and date have to be those asked for. If they are not, there are three
    /// cases. An inode that has no other name is changed. One that has other names must not be
    /// changed, since files that were placed earlier would change with it: for
    /// `Sharing::Exclusive` nothing is placed, and otherwise the store first replaces its file by
    /// a copy (`replace_by_copy`).
    ///
    /// The lock of the hash is held all the while, so that no other placement and no deletion
    /// comes in between. The stamp is recorded twice: before the link is made, since the inode is
    /// shared from that moment, and after the rename, which has moved the inode's change date.
    fn place_hardlink(
        &self,
        pair: DevicePair,
        blake3: Hash,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        let _lock = self.locks.enter(blake3);
        let mut file = match self.examine_locked(blake3)? {
            BlobCheck::Whole(file) => file,
            BlobCheck::Absent => return Ok(None),
            BlobCheck::Damaged => return Err(damaged(digest)),
        };
        let source = self.layout.blob(&blake3);
        let look = |file: &File| file.metadata().map_err(|error| StoreError::io("look at", &source, error));
        let before = look(&file)?;
        let Some(mut record) = self.record(&blake3)? else { return Ok(None) };
        let is_fitting = match placing.sharing {
            Sharing::Hardlink => has_mode_and_date(&before, placing),
            Sharing::Anew { not } => before.ino() != not && has_mode_and_date(&before, placing),
            _ => false,
        };
        // The inode has names outside the store, so its mode and date must not change.
        if !is_fitting && before.nlink() > 1 {
            if placing.sharing == Sharing::Exclusive {
                return Ok(None);
            }
            match self.replace_by_copy(blake3, &record, &file, placing)? {
                Some(renewed) => (file, record) = renewed,
                None => return Ok(None),
            }
        }
        let before = look(&file)?;
        // From here on a crash may leave a link outside the store, so the record must say that the inode is shared.
        self.mark_shared(blake3, &record, &before)?;
        let draft = PlacedDraft::for_placing(path, placing);
        let linked = self.pairs.hardlink(pair, &source, &draft.path);
        if !linked.map_err(|error| StoreError::io("link", &source, error))? {
            return Ok(None);
        }
        // Changed only now that the link exists: without one, the file is copied, and the store's
        // inode need not change.
        if !is_fitting && set_mode_and_fresh_date(&file, placing).is_err() {
            return Ok(None);
        }
        let before = look(&file)?;
        draft.rename(path)?;
        let after = look(&file)?;
        let stamp = Some(FileStamp::of(&after)).filter(|stamp| stamp.has_content_of(&FileStamp::of(&before)));
        if stamp.is_some() {
            self.mark_shared(blake3, &record, &after)?;
        }
        Ok(Some(LinkedFile { link: Link::Hardlink, stamp }))
    }

    /// Replaces a blob's file, whose inode has names outside the store, by a copy with the mode and
    /// date asked for. The other names keep the old inode, and writes to it no longer concern the
    /// store. Returns `None` if there is no room for a copy. The caller holds the lock of the hash
    /// and has checked the bytes.
    fn replace_by_copy(
        &self,
        blake3: Hash,
        record: &BlobRecord,
        file: &File,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<(File, BlobRecord)>, StoreError> {
        let Ok(room) = self.ledger.reserve(room_bytes(record.size_bytes)) else { return Ok(None) };
        let draft = self.draft()?;
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::io(doing, path, error)
        };
        let source = self.layout.blob(&blake3);
        copy(file, draft.file()).map_err(io("copy to", draft.path()))?;
        let names = hash_file(draft.file(), DigestFunction::Blake3).map_err(io("read", draft.path()))?;
        // The source's inode is shared, so another process may have written to it during the copy.
        if names.blake3 != blake3 {
            return Err(StoreError::Changed { path: source });
        }
        set_mode_and_date(draft.file(), placing).map_err(io("set the mode and date of", draft.path()))?;
        let renewed = File::open(draft.path()).map_err(io("open", draft.path()))?;
        let entered = self.epochs.enter()?;
        fs::rename(draft.path(), &source).map_err(io("rename to", &source))?;
        let metadata = renewed.metadata().map_err(io("look at", &source))?;
        let physical_bytes = metadata.blocks() * 512;
        let after = BlobRecord {
            physical_bytes,
            epoch: entered.epoch(),
            stamp: Some(inode_stamp(&metadata)),
            ..*record
        };
        let mut batch = WriteBatch::default();
        let difference = self.put(&mut batch, &blake3, &after, Some(record));
        self.database.write(batch, "record that a blob has a file of its own again")?;
        room.settle(difference, RECORD_BYTES);
        Ok(Some((renewed, after)))
    }

    /// Records the stamp of a blob's file whose inode has, or is about to get, a name outside the
    /// store.
    fn mark_shared(&self, blake3: Hash, record: &BlobRecord, metadata: &Metadata) -> Result<(), StoreError> {
        let _entered = self.epochs.enter()?;
        let record = BlobRecord { stamp: Some(inode_stamp(metadata)), ..*record };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.database.table(DbTable::Blobs), blake3.0, record.encode());
        self.database.write(batch, "record that a blob's inode is shared")
    }
}

fn place_small(content: &Content, path: &Path, placing: &PlaceOptions<'_>) -> Result<LinkedFile, StoreError> {
    let draft = PlacedDraft::for_placing(path, placing);
    let mut file = draft.create()?;
    content
        .read_all()
        .and_then(|bytes| file.write_all(&bytes))
        .map_err(|error| StoreError::io("write to", &draft.path, error))?;
    let stamp = draft.finish(&file, path, placing)?;
    Ok(LinkedFile { link: Link::Copy, stamp })
}

fn look(file: &File, path: &Path) -> Result<FileStamp, StoreError> {
    let metadata = file.metadata().map_err(|error| StoreError::io("look at", path, error))?;
    Ok(FileStamp::of(&metadata))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Tells whether an inode has the mode and date asked for, and belongs to this user.
fn has_mode_and_date(metadata: &Metadata, placing: &PlaceOptions<'_>) -> bool {
    let dated = |time: SystemTime| metadata.modified().is_ok_and(|modified| modified == time);
    metadata.uid() == Uid::effective().as_raw()
        && metadata.mode() & PERMISSIONS == placing.mode & PERMISSIONS
        && placing.modified.is_none_or(dated)
}

/// Sets the mode and date of an existing inode as if it were new. If no date is asked for, the
/// filesystem sets its own time, as it does for files that are written before and after this
/// one: the system's clock is finer, and a date taken from it would be later than theirs.
fn set_mode_and_fresh_date(file: &File, placing: &PlaceOptions<'_>) -> io::Result<()> {
    set_mode_and_date(file, placing)?;
    match placing.modified {
        Some(_) => Ok(()),
        None => Ok(futimens(file, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW)?),
    }
}

fn set_mode_and_date(file: &File, placing: &PlaceOptions<'_>) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(placing.mode & PERMISSIONS))?;
    match placing.modified {
        Some(modified) => file.set_times(FileTimes::new().set_modified(modified)),
        None => Ok(()),
    }
}
