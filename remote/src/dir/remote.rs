//! [`DirRemote`], the remote for a shared folder.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest, DigestFunction, Hash};
use kache_proto::Message as _;
use kache_proto::reapi::{ActionResult, Digest as WireDigest, OutputFile};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

#[cfg(test)]
use super::collection::Collected;
use super::collector::Collector;
use super::folder::{Folder, PIECE_BYTES, Space, read_all};
use super::threads::Threads;
use crate::error::RemoteError;
use crate::options::{OptionsError, RemoteOptions};
use crate::remote::{BlobStream, Capabilities, Remote, RequestContext};

/// The largest result that is read.
const RESULT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How many blobs are looked for in one call.
const LOOKUPS_PER_CALL: usize = 200;

/// A remote that is a folder, such as one on a network file system. Its digests are SHA-256.
///
/// A folder that hangs keeps at most `limits.concurrency` threads. Those are threads of this remote, and
/// requests end within the stall limit.
#[derive(Clone)]
pub struct DirRemote {
    folder: Arc<Folder>,
    threads: Threads,
    collector: Arc<Collector>,
    dir: PathBuf,
}

impl DirRemote {
    /// Makes a remote of a folder, whose path is absolute. Nothing is opened yet.
    pub fn new(dir: &Path, options: &RemoteOptions) -> Result<DirRemote, OptionsError> {
        if !dir.is_absolute() {
            return Err(OptionsError::Location {
                location: dir.display().to_string(),
                why: "the path of a folder begins with `/`, as in `file:///mnt/cache`".to_owned(),
            });
        }
        let threads = Threads::new(options.limits.concurrency, options.limits.stall);
        let collector = Collector::new(options.size_bytes_max);
        Ok(DirRemote {
            folder: Arc::new(Folder::new(dir.to_owned())),
            threads,
            collector,
            dir: dir.to_owned(),
        })
    }

    /// Reads a blob into memory; `None` if there is none with this length.
    async fn read_blob(&self, digest: Digest) -> Result<Option<Bytes>, RemoteError> {
        let folder = Arc::clone(&self.folder);
        let call = move |progress: &_| {
            let Some(mut found) = folder.open(Space::Blobs, digest.hash)? else { return Ok(None) };
            if found.size_bytes != digest.size_bytes {
                return Ok(None);
            }
            let bytes = read_all(&mut found.file, digest.size_bytes, progress)
                .map_err(|error| cannot_read(&digest, &error))?;
            if Digest::of(DigestFunction::Sha256, &bytes) != digest {
                return Err(RemoteError::malformed(format!("the file of {digest} has other bytes")));
            }
            Ok(Some(bytes))
        };
        self.threads.run(call).await
    }

    async fn write_blob(&self, digest: Digest, content: Content) -> Result<(), RemoteError> {
        check_function(&digest)?;
        let size_bytes = content.size_bytes();
        if size_bytes != digest.size_bytes {
            return Err(RemoteError::local(format!("{digest} has {size_bytes} bytes here")));
        }
        let folder = Arc::clone(&self.folder);
        let call = move |progress: &_| {
            let mut offset = 0;
            let next = || {
                let piece = content.read_at(offset, PIECE_BYTES);
                let piece = piece.map_err(|error| RemoteError::local(format!("{digest}: {error}")))?;
                offset += piece.len() as u64;
                Ok(piece)
            };
            folder.write(Space::Blobs, digest.hash, progress, next)
        };
        self.threads.run(call).await
    }

    /// Notes in the background that the blobs of a result are used. A reader that has some of the blobs already
    /// reads only the others, so reads alone do not show which blobs are in use.
    fn note_uses_of_blobs(&self, result: &ActionResult) {
        let of_file = |file: &OutputFile| file.digest.clone();
        let messages = [&result.stdout_digest, &result.stderr_digest].into_iter().flatten().cloned();
        let digests = result.output_files.iter().filter_map(of_file).chain(messages);
        let parsed = |digest: WireDigest| {
            Digest::<()>::parse(DigestFunction::Sha256, &digest.hash, digest.size_bytes).ok()
        };
        let hashes: Vec<Hash> = digests.filter_map(parsed).map(|digest| digest.hash).collect();
        let (folder, threads) = (Arc::clone(&self.folder), self.threads.clone());
        let call = move |progress: &super::threads::Progress| {
            for hash in hashes {
                folder.open(Space::Blobs, hash)?;
                progress.step();
            }
            Ok(())
        };
        // A use that is not noted only makes the blob go sooner.
        tokio::spawn(async move { threads.run(call).await });
    }

    /// Collects now, unless a machine has done so lately.
    #[cfg(test)]
    pub(crate) async fn collect(&self) -> Option<Collected> {
        let (folder, collector) = (Arc::clone(&self.folder), Arc::clone(&self.collector));
        let call =
            move |_: &_| collector.collect(folder).map_err(|e| RemoteError::unavailable(e.to_string()));
        self.threads.run(call).await.unwrap()
    }

    /// Returns which of these blobs are missing, or have another length.
    async fn look(&self, digests: Vec<Digest>) -> Result<Vec<(Digest, bool)>, RemoteError> {
        let folder = Arc::clone(&self.folder);
        let call = move |progress: &super::threads::Progress| {
            let look = |digest: &Digest| {
                let found = folder.open(Space::Blobs, digest.hash)?;
                progress.step();
                Ok((*digest, found.is_none_or(|found| found.size_bytes != digest.size_bytes)))
            };
            digests.iter().map(look).collect()
        };
        self.threads.run(call).await
    }
}

impl fmt::Debug for DirRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirRemote({})", self.dir.display())
    }
}

fn check_function<K>(digest: &Digest<K>) -> Result<(), RemoteError> {
    match digest.function {
        DigestFunction::Sha256 => Ok(()),
        DigestFunction::Blake3 => Err(RemoteError::refused(format!("{digest}: folders hold SHA-256 only"))),
    }
}

fn cannot_read<K>(digest: &Digest<K>, error: &std::io::Error) -> RemoteError {
    RemoteError::unavailable(format!("failed to read the file of {digest}: {error}"))
}

fn stopped() -> RemoteError {
    RemoteError::unavailable("this program is being stopped")
}

#[async_trait]
impl Remote for DirRemote {
    async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        Ok(Capabilities { function: DigestFunction::Sha256, takes_results: true })
    }

    fn fixed_function(&self) -> Option<DigestFunction> {
        Some(DigestFunction::Sha256)
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        _context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        check_function(action)?;
        let (folder, action) = (Arc::clone(&self.folder), *action);
        let call = move |progress: &_| {
            let Some(mut found) = folder.open(Space::Results, action.hash)? else { return Ok(None) };
            let size = found.size_bytes;
            if size > RESULT_BYTES_MAX {
                let message = format!("the file of the result of {action} has {size} bytes");
                return Err(RemoteError::malformed(message));
            }
            let bytes =
                read_all(&mut found.file, size, progress).map_err(|error| cannot_read(&action, &error))?;
            let decoded = ActionResult::decode(bytes);
            let wrong =
                |error| RemoteError::malformed(format!("the file of the result of {action}: {error}"));
            decoded.map(|result| Some((result, found.was_idle))).map_err(wrong)
        };
        let Some((result, was_idle)) = self.threads.run(call).await? else { return Ok(None) };
        if was_idle {
            self.note_uses_of_blobs(&result);
        }
        Ok(Some(result))
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        _context: &RequestContext,
    ) -> Result<(), RemoteError> {
        check_function(action)?;
        let (folder, hash) = (Arc::clone(&self.folder), action.hash);
        let mut rest = Bytes::from(result.encode_to_vec());
        let collector = Arc::clone(&self.collector);
        let call = move |progress: &_| {
            let written = folder.write(Space::Results, hash, progress, || Ok(std::mem::take(&mut rest)));
            collector.after_write(&folder);
            written
        };
        self.threads.run(call).await
    }

    async fn find_missing(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError> {
        blobs.iter().try_for_each(check_function)?;
        let asked: Vec<Digest> = blobs.iter().filter(|digest| digest.size_bytes > 0).copied().collect();
        let mut calls = JoinSet::new();
        for digests in asked.chunks(LOOKUPS_PER_CALL) {
            let (remote, digests) = (self.clone(), digests.to_vec());
            calls.spawn(async move { remote.look(digests).await });
        }
        let mut missing = HashMap::new();
        while let Some(outcome) = calls.join_next().await {
            missing.extend(outcome.map_err(|_| stopped())??);
        }
        Ok(blobs.iter().map(|digest| missing.get(digest).copied().unwrap_or(false)).collect())
    }

    async fn read_small(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError> {
        blobs.iter().try_for_each(check_function)?;
        let mut found: HashMap<Digest, Option<Bytes>> = HashMap::new();
        let mut calls = JoinSet::new();
        for digest in blobs.iter().copied() {
            if digest.is_empty_blob() {
                found.insert(digest, Some(Bytes::new()));
            } else if found.insert(digest, None).is_none() {
                let remote = self.clone();
                calls.spawn(async move { Ok::<_, RemoteError>((digest, remote.read_blob(digest).await?)) });
            }
        }
        while let Some(outcome) = calls.join_next().await {
            let (digest, bytes) = outcome.map_err(|_| stopped())??;
            found.insert(digest, bytes);
        }
        Ok(blobs.iter().map(|digest| found.get(digest).cloned().flatten()).collect())
    }

    async fn read(
        &self,
        blob: &Digest,
        _context: &RequestContext,
    ) -> Result<Option<BlobStream>, RemoteError> {
        check_function(blob)?;
        if blob.is_empty_blob() {
            return Ok(Some(Box::pin(tokio_stream::empty())));
        }
        let (folder, digest) = (Arc::clone(&self.folder), *blob);
        let opened = self.threads.run(move |_| folder.open(Space::Blobs, digest.hash)).await?;
        let Some(found) = opened.filter(|found| found.size_bytes == digest.size_bytes) else {
            return Ok(None);
        };
        let (sender, receiver) = mpsc::channel(1);
        let content = Content::File { file: Arc::new(found.file), size_bytes: digest.size_bytes };
        tokio::spawn(send_pieces(self.threads.clone(), digest, content, sender));
        Ok(Some(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        _context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>> {
        let mut outcomes = vec![Err(stopped()); blobs.len()];
        let mut calls = JoinSet::new();
        for (item, (digest, content)) in blobs.iter().cloned().enumerate() {
            if digest.is_empty_blob() {
                outcomes[item] = Ok(());
                continue;
            }
            let remote = self.clone();
            calls.spawn(async move { (item, remote.write_blob(digest, content).await) });
        }
        while let Some(finished) = calls.join_next().await {
            if let Ok((item, outcome)) = finished {
                outcomes[item] = outcome;
            }
        }
        outcomes
    }
}

/// Reads a file piece by piece, one ahead of what the receiver takes, until the end or the first error.
async fn send_pieces(
    threads: Threads,
    digest: Digest,
    content: Content,
    sender: mpsc::Sender<Result<Bytes, RemoteError>>,
) {
    let mut offset = 0;
    while offset < digest.size_bytes {
        let content = content.clone();
        let read =
            move |_: &_| content.read_at(offset, PIECE_BYTES).map_err(|error| cannot_read(&digest, &error));
        let piece = threads.run(read).await;
        let is_error = piece.is_err();
        offset += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if sender.send(piece).await.is_err() || is_error {
            return;
        }
    }
}
