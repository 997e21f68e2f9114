//! `LocalFiles` in memory: files are copied in and out, which any filesystem can do.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::store::MemoryStore;
use crate::digest::{BlobNames, Digest, DigestFunction, Hasher};
use crate::error::StoreError;
use crate::store::{
    AccessKind, BlobStore, Content, FileStamp, Link, LinkedFile, LocalFiles, PlaceOptions, Sharing,
};

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 128 * 1024;

impl LocalFiles for MemoryStore {
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        _sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError> {
        let io = |doing| move |error| StoreError::io(doing, path, error);
        let mut file = File::open(path).map_err(io("open"))?;
        let stamp = |file: &File| file.metadata().map(|metadata| FileStamp::of(&metadata));
        let before = stamp(&file).map_err(io("look at"))?;
        let mut hasher = Hasher::new(function);
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let len = file.read(&mut chunk).map_err(io("read"))?;
            if len == 0 {
                break;
            }
            hasher.update(&chunk[..len]);
            bytes.extend_from_slice(&chunk[..len]);
        }
        let after = stamp(&file).map_err(io("look at"))?;
        if !after.has_content_of(&before) {
            let changed = std::io::Error::other("the file changed while it was read");
            return Err(StoreError::io("ingest", path, changed));
        }
        let names = hasher.finish();
        if names.size_bytes > 0 {
            let now_ms = self.now_ms();
            let mut state = self.state();
            state.reserve(names.size_bytes, self.limit_bytes())?;
            state.add_blob(&names, Bytes::from(bytes), now_ms);
            state.release(names.size_bytes);
        }
        Ok((names, LinkedFile { link: Link::Copy, stamp: Some(after) }))
    }

    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        let Some(Content::Memory(bytes)) = self.open(digest, AccessKind::Use)? else { return Ok(None) };
        let beside = placing.staging.zip(path.file_name()).map(|(staging, name)| staging.join(name));
        let draft = draft_path(beside.as_deref().unwrap_or(path));
        let written = write_draft(&draft, &bytes, placing)
            .and_then(|file| {
                let before = FileStamp::of(&file.metadata()?);
                fs::rename(&draft, path)?;
                let after = FileStamp::of(&file.metadata()?);
                Ok(Some(after).filter(|after| after.has_content_of(&before)))
            })
            .map_err(|error| StoreError::io("place", path, error));
        if written.is_err() {
            // The error has been kept. The draft may not even exist.
            let _ = fs::remove_file(&draft);
        }
        written.map(|stamp| Some(LinkedFile { link: Link::Copy, stamp }))
    }

    fn shares(&self, _directory: &Path) -> Result<Link, StoreError> {
        Ok(Link::Copy)
    }
}

fn draft_path(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(".kache-");
    name.push(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

fn write_draft(draft: &Path, bytes: &[u8], placing: &PlaceOptions<'_>) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    if let Some(modified) = placing.modified {
        file.set_modified(modified)?;
    }
    file.set_permissions(Permissions::from_mode(placing.mode))?;
    Ok(file)
}
