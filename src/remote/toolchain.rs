//! Uploads of toolchains, for remotes that get the inputs of actions.
//!
//! The files of a toolchain are not in the store, because no compile restores them. So the record of such an upload
//! has their paths, and the remote refuses those that have changed since they were hashed.

use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{ActionCache, Content, Digest, DigestFunction, Hash, Store, StoreError};
use kache_proto::Message as _;
use kache_proto::upload as wire;
use kache_remote::{RemoteError, RequestContext};
use tokio::task::spawn_blocking;

use super::blocking::with_store;
use super::handle::RemoteHandle;
use super::upload::{UploadError, write_all};
use crate::inputs::ToolchainFiles;
use crate::lookup::{read_record, write_record};

/// The most bytes of a record before it is compressed.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// The number of files that are open at once.
const FILES_MAX: usize = 64;

const fn purpose(function: DigestFunction) -> &'static str {
    match function {
        DigestFunction::Blake3 => "kache toolchain 1 blake3",
        DigestFunction::Sha256 => "kache toolchain 1 sha256",
    }
}

/// Writes the record of a toolchain, which [`upload`] reads.
pub(super) fn save(actions: &dyn ActionCache, toolchain: &ToolchainFiles) -> Result<(), StoreError> {
    let file = |(digest, path): &(Digest, PathBuf)| wire::ToolchainFile {
        hash: Bytes::copy_from_slice(&digest.hash.0),
        size_bytes: digest.size_bytes,
        path: Bytes::copy_from_slice(path.as_os_str().as_bytes()),
    };
    let message = wire::Toolchain {
        directories: toolchain.directories.iter().map(|(_, bytes)| bytes.clone()).collect(),
        files: toolchain.files.iter().map(file).collect(),
    };
    let compressed = zstd::bulk::compress(&message.encode_to_vec(), zstd::DEFAULT_COMPRESSION_LEVEL)
        .map_err(|error| StoreError::io("compress the record of a toolchain", "", error))?;
    write_record(actions, purpose(toolchain.tree.function), &toolchain.tree.coerce(), compressed)
}

fn load(
    actions: &dyn ActionCache,
    tree: Hash,
    function: DigestFunction,
) -> Result<Option<ToolchainFiles>, StoreError> {
    let tree = Digest::new(function, tree, 0);
    let record = read_record(actions, purpose(function), &tree)?;
    let decode = |bytes: Bytes| {
        let bytes = zstd::bulk::decompress(&bytes, RECORD_BYTES_MAX).ok()?;
        let wire::Toolchain { directories, files } = wire::Toolchain::decode(&*bytes).ok()?;
        let file = |file: wire::ToolchainFile| {
            let hash = Hash(file.hash[..].try_into().ok()?);
            let path = PathBuf::from(std::ffi::OsString::from_vec(file.path.to_vec()));
            Some((Digest::new(function, hash, file.size_bytes), path))
        };
        let directory = |bytes: Bytes| (Digest::of(function, &bytes), bytes);
        Some(ToolchainFiles {
            tree: tree.coerce(),
            directories: directories.into_iter().map(directory).collect(),
            files: files.into_iter().map(file).collect::<Option<_>>()?,
        })
    };
    Ok(record.and_then(decode))
}

/// Uploads the files of a toolchain that the remote does not have. Does nothing if there is no record of it.
pub(super) async fn upload(
    handle: &Arc<RemoteHandle>,
    store: &Arc<Store>,
    tree: Hash,
    function: DigestFunction,
) -> Result<(), UploadError> {
    let read = with_store(store, move |store| load(store.actions(), tree, function)).await?;
    let Some(toolchain) = read else { return Ok(()) };
    let (remote, context) = (&*handle.writer, RequestContext::default());
    let ToolchainFiles { directories, files, .. } = toolchain;
    let all: Vec<Digest> = directories
        .iter()
        .map(|(digest, _)| *digest)
        .chain(files.iter().map(|(digest, _)| *digest))
        .collect();
    let missing = remote.find_missing(&all, &context).await?;
    let (directories_missing, files_missing) =
        missing.split_at_checked(directories.len()).unwrap_or((&missing, &[]));
    let wanted: Vec<(Digest, PathBuf)> =
        files.into_iter().zip(files_missing).filter(|(_, missing)| **missing).map(|(file, _)| file).collect();
    for some in wanted.chunks(FILES_MAX) {
        let some = some.to_vec();
        let opened = spawn_blocking(move || some.into_iter().map(open).collect::<Result<Vec<_>, _>>()).await;
        let opened = opened.unwrap_or_else(|_| Err(RemoteError::local("a thread ended early")))?;
        write_all(remote, opened, &context).await?;
    }
    // A directory comes after the files in it.
    let wanted = directories.into_iter().zip(directories_missing).filter(|(_, missing)| **missing);
    let wanted = wanted.map(|((digest, bytes), _)| (digest, Content::Memory(bytes))).collect();
    Ok(write_all(remote, wanted, &context).await?)
}

fn open((digest, path): (Digest, PathBuf)) -> Result<(Digest, Content), RemoteError> {
    let open = || -> io::Result<Content> {
        let file = File::open(&path)?;
        match file.metadata()?.len() {
            size_bytes if size_bytes == digest.size_bytes => {
                Ok(Content::File { file: Arc::new(file), size_bytes })
            }
            _ => Err(io::Error::other("it has changed")),
        }
    };
    let content = open().map_err(|error| RemoteError::local(format!("`{}`: {error}", path.display())))?;
    Ok((digest, content))
}
