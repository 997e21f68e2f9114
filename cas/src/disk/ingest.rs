//! Takes files of this machine into the store.
//!
//! A reflink is a snapshot: it is made first and hashed afterwards. A hard link is the file itself,
//! so the file is hashed, its dates are compared, and its stamp is recorded, because another
//! process may write to it later (RST-03). A copy is hashed while it is written. Files are
//! streamed; calls for several files run in parallel until they write to the database.
//!
//! Invariant (KEY-05): the returned digest is that of the file both before and after the call. A
//! file that changes meanwhile is not stored.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use super::commit::Draft;
use super::ledger::Reservation;
use super::link::DevicePair;
use super::record::InodeStamp;
use super::store::StoreInner;
use super::verify::{READ_BYTES, hash_file, inode_stamp};
use super::writer::{INLINE_BYTES_MAX, room_bytes};
use crate::digest::{BlobNames, DigestFunction, Hasher};
use crate::error::StoreError;
use crate::store::{FileStamp, Link, LinkedFile, Sharing};

/// A file outside the store, with its metadata when it was opened.
struct IngestedFile<'a> {
    path: &'a Path,
    file: File,
    before: Metadata,
}

impl<'a> IngestedFile<'a> {
    fn open(path: &'a Path) -> Result<IngestedFile<'a>, StoreError> {
        let open = || {
            // Without this flag, opening a pipe that has no writer would block for ever.
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
            let before = file.metadata()?;
            if before.is_file() {
                Ok(IngestedFile { path, file, before })
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
            }
        };
        open().map_err(|error| StoreError::io("open", path, error))
    }

    fn failed(&self, error: io::Error) -> StoreError {
        StoreError::io("read", self.path, error)
    }

    /// Returns the file's stamp now, or `None` if the file was written to since it was opened.
    fn stamp_if_unchanged(&self, names: &BlobNames) -> Option<FileStamp> {
        let now = FileStamp::of(&self.file.metadata().ok()?);
        let is_same = now.has_content_of(&FileStamp::of(&self.before)) && now.size_bytes == names.size_bytes;
        is_same.then_some(now)
    }

    /// Fails if the file changed since it was opened, so that `names` may be wrong.
    fn confirm(&self, names: &BlobNames) -> Result<(), StoreError> {
        let changed = || StoreError::Changed { path: self.path.to_owned() };
        let after = self.file.metadata().map_err(|error| self.failed(error))?;
        let times = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if times(&after) != times(&self.before) || names.size_bytes != after.len() {
            return Err(changed());
        }
        // A new link or a new mode moves the change date and is harmless. But a write whose
        // modification date was set back moves only this date as well, so hash again.
        if (after.ctime(), after.ctime_nsec()) != (self.before.ctime(), self.before.ctime_nsec()) {
            let again = hash_file(&self.file, DigestFunction::Blake3).map_err(|error| self.failed(error))?;
            return if again.blake3 == names.blake3 { Ok(()) } else { Err(changed()) };
        }
        Ok(())
    }
}

impl StoreInner {
    pub(super) fn ingest_file(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError> {
        let source = IngestedFile::open(path)?;
        let size_bytes = source.before.len();
        self.check_size(size_bytes)?;
        let room = self.ledger.reserve(room_bytes(size_bytes))?;
        // A small file is copied into the database in any case, so there is nothing to share.
        if size_bytes <= INLINE_BYTES_MAX {
            let names = self.ingest_small(&source, function, room)?;
            return Ok((names, LinkedFile { link: Link::Copy, stamp: source.stamp_if_unchanged(&names) }));
        }
        let (names, draft, stamp, link) = self.make_draft(&source, function, sharing)?;
        let is_new = self.commit_file(&names, &draft, stamp, room)?;
        // An unused link in `tmp/` is deleted before the stamp is taken, because the deletion moves
        // the inode's change date.
        drop(draft);
        // A blob that the store had already shares nothing with this file.
        let link = if is_new { link } else { Link::Copy };
        Ok((names, LinkedFile { link, stamp: source.stamp_if_unchanged(&names) }))
    }

    fn ingest_small(
        &self,
        source: &IngestedFile<'_>,
        function: DigestFunction,
        room: Reservation,
    ) -> Result<BlobNames, StoreError> {
        let mut bytes = Vec::new();
        // One byte more than the limit, so that a file that has grown is noticed by `confirm` and is never stored
        // truncated.
        let mut limited = (&source.file).take(INLINE_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(|error| source.failed(error))?;
        let mut hasher = Hasher::new(function);
        hasher.update(&bytes);
        let names = hasher.finish();
        source.confirm(&names)?;
        self.commit_inline(&[(names, Bytes::from(bytes))], room)?;
        Ok(names)
    }

    /// Makes the file in `tmp/` and hashes it, by the cheapest means that works. Also returns the
    /// stamp to record, if the file is a hard link, and what the file shares with the source.
    fn make_draft(
        &self,
        source: &IngestedFile<'_>,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, Draft, Option<InodeStamp>, Link), StoreError> {
        let tmp = self.layout.tmp();
        let to = fs::metadata(&tmp).map_err(|error| StoreError::io("look at", &tmp, error))?;
        let pair = DevicePair::new(&source.before, &to);
        // Without the check for `may_reflink`, a file would be made for nothing where only hard links
        // work, and ext4 takes a tenth of a millisecond for a new file after deletions.
        if sharing != Sharing::Copy && self.pairs.may_reflink(pair) {
            let draft = self.draft()?;
            if self.pairs.reflink(pair, &source.file, draft.file()) {
                let names = hash_file(draft.file(), function)
                    .map_err(|error| StoreError::io("read", draft.path(), error))?;
                source.confirm(&names)?;
                return Ok((names, draft, None, Link::Reflink));
            }
        }
        if sharing.may_share_inode() && self.pairs.may_hardlink(pair) {
            let names = hash_file(&source.file, function).map_err(|error| source.failed(error))?;
            source.confirm(&names)?;
            if let Some((draft, stamp)) = self.hardlink_in_tmp(source, pair)? {
                return Ok((names, draft, Some(stamp), Link::Hardlink));
            }
        }
        let draft = self.draft()?;
        let names = copy_hashing(source, &draft, function)?;
        source.confirm(&names)?;
        Ok((names, draft, None, Link::Copy))
    }

    /// Makes a hard link in `tmp/` to the file that was opened, and returns it with its stamp.
    /// Returns `None` if the file cannot have one, or if `path` leads to another file by now.
    fn hardlink_in_tmp(
        &self,
        source: &IngestedFile<'_>,
        pair: DevicePair,
    ) -> Result<Option<(Draft, InodeStamp)>, StoreError> {
        let path = self.layout.tmp_name();
        let file = source.file.try_clone().map_err(|error| source.failed(error))?;
        if !self.pairs.hardlink(pair, source.path, &path).map_err(|error| source.failed(error))? {
            return Ok(None);
        }
        let draft = Draft::adopt(path, file);
        let linked = fs::symlink_metadata(draft.path())
            .map_err(|error| StoreError::io("look at", draft.path(), error))?;
        // The path is a symbolic link, which was linked itself, or it leads to another file by now.
        if linked.ino() != source.before.ino() {
            return Ok(None);
        }
        let stamp = inode_stamp(&linked);
        if stamp.modified_ns != inode_stamp(&source.before).modified_ns || linked.len() != source.before.len()
        {
            return Err(StoreError::Changed { path: source.path.to_owned() });
        }
        Ok(Some((draft, stamp)))
    }
}

fn copy_hashing(
    source: &IngestedFile<'_>,
    draft: &Draft,
    function: DigestFunction,
) -> Result<BlobNames, StoreError> {
    use std::os::unix::fs::FileExt;

    let mut hasher = Hasher::new(function);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match source.file.read_at(&mut buffer, hasher.size_bytes()) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(source.failed(error)),
        };
        if hasher.size_bytes() + count as u64 > source.before.len() {
            // The file is growing, and room was reserved for its former size only.
            return Err(StoreError::Changed { path: source.path.to_owned() });
        }
        hasher.update(&buffer[..count]);
        draft
            .file()
            .write_all(&buffer[..count])
            .map_err(|error| StoreError::io("write to", draft.path(), error))?;
    }
}
