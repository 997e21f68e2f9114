//! Files that enter the store from this machine.
//!
//! A reflink is a snapshot: it is made first and hashed afterwards. A hardlink is the file
//! itself, so it is hashed, looked at again, and stamped, because others may write to it
//! later (RST-03). A copy is hashed while it is written. Files are streamed; several
//! callers ingest at the same time and meet only in the database.
//!
//! Invariant (KEY-05): what a caller is told is the digest of the file as it was before
//! and after. One that changed meanwhile is not stored.

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

/// A file outside, as it was when it was opened.
struct IngestedFile<'a> {
    path: &'a Path,
    file: File,
    before: Metadata,
}

impl<'a> IngestedFile<'a> {
    fn open(path: &'a Path) -> Result<IngestedFile<'a>, StoreError> {
        let open = || {
            // Opening a pipe that nobody writes to would wait for ever.
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

    /// How the file looks now, if nothing was written to it since it was opened and confirmed to have
    /// these names.
    fn stamp_if_unchanged(&self, names: &BlobNames) -> Option<FileStamp> {
        let now = FileStamp::of(&self.file.metadata().ok()?);
        let is_same = now.has_content_of(&FileStamp::of(&self.before)) && now.size_bytes == names.size_bytes;
        is_same.then_some(now)
    }

    /// Makes sure that the file is still what these names say.
    fn confirm(&self, names: &BlobNames) -> Result<(), StoreError> {
        let changed = || StoreError::Changed { path: self.path.to_owned() };
        let after = self.file.metadata().map_err(|error| self.failed(error))?;
        let times = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if times(&after) != times(&self.before) || names.size_bytes != after.len() {
            return Err(changed());
        }
        // Another link or another mode is no change, but a write whose date was set back
        // looks the same.
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
        if size_bytes <= INLINE_BYTES_MAX {
            let names = self.ingest_small(&source, function, room)?;
            return Ok((names, LinkedFile { link: Link::Copy, stamp: source.stamp_if_unchanged(&names) }));
        }
        let (names, draft, stamp, link) = self.make_draft(&source, function, sharing)?;
        let is_new = self.commit_file(&names, &draft, stamp, room)?;
        // A name in `tmp/` that is not needed goes before the last look: that changes the inode, too.
        drop(draft);
        // What the store had already shares nothing with this file.
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
        let mut limited = (&source.file).take(INLINE_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(|error| source.failed(error))?;
        let mut hasher = Hasher::new(function);
        hasher.update(&bytes);
        let names = hasher.finish();
        source.confirm(&names)?;
        self.commit_inline(&[(names, Bytes::from(bytes))], room)?;
        Ok(names)
    }

    /// The file in `tmp/`, by the cheapest means that works.
    fn make_draft(
        &self,
        source: &IngestedFile<'_>,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, Draft, Option<InodeStamp>, Link), StoreError> {
        let tmp = self.layout.tmp();
        let to = fs::metadata(&tmp).map_err(|error| StoreError::io("look at", &tmp, error))?;
        let pair = DevicePair::new(&source.before, &to);
        // Where only hardlinks work, no file is made in vain: ext4 takes a tenth of a
        // millisecond for one after others were deleted.
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

    /// Another name in `tmp/` for the file that was opened, and how it looks. `None` where
    /// it cannot have one.
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
        // A symbolic link has been linked itself, or the name is another file's by now.
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
            // It grows: more than the room that was reserved is not written.
            return Err(StoreError::Changed { path: source.path.to_owned() });
        }
        hasher.update(&buffer[..count]);
        draft
            .file()
            .write_all(&buffer[..count])
            .map_err(|error| StoreError::io("write to", draft.path(), error))?;
    }
}
