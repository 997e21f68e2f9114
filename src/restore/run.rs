//! Laying down a result: files first, then what the call is to say.
//!
//! Everything that can be known to be wrong is found out before the first file is touched.
//! What fails after that is undone: files that were laid down go, and the compiler makes all
//! of them (RST-05). The metadata is laid down first, because it is what others wait for.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::{AccessKind, BlobStore, Link, LinkedFile, LocalFiles, PlaceOptions, Sharing};
use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::{ActionResult, Digest as WireDigest};

use super::dates::{self, Dating, place_of};
use super::dep_info::DepInfo;
use super::error::RestoreError;
use super::staging::Staging;
use super::{messages, paths};
use crate::action::{Output, OutputKind, Task};
use crate::compile::{KnownFile, MessagePiece, MessageStream};
use crate::roles::{Form, Roots};

/// The largest dep-info or message that is read into memory: a thousand times the usual.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A result that was laid down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the call is to say, in order.
    pub said: Vec<MessagePiece>,
    /// What it is to exit with.
    pub exit_code: i32,
    /// Bytes laid down.
    pub bytes: u64,
    /// Of these, bytes that take no room of their own.
    pub shared_bytes: u64,
    /// What lies where now, so that nobody has to read it to know.
    pub placed: Vec<KnownFile>,
    /// Of these, what is another name of an inode that other checkouts may have, too.
    pub shared: Vec<(PathBuf, Digest)>,
    /// What the compile took when it ran.
    pub compile_time: Duration,
}

/// Where a result comes from, and how much of it may be shared.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Files of the store.
    pub files: &'a dyn LocalFiles,
    /// Blobs of the store.
    pub blobs: &'a dyn BlobStore,
    /// What a file and the store's may share at most.
    pub most: Sharing,
}

/// Lays down a result.
pub fn restore(
    task: &Task,
    result: &ActionResult,
    source: Source<'_>,
    staging: &Staging,
) -> Result<Restored, RestoreError> {
    let restored = lay_down(task, result, source, staging);
    // Once the client has taken its staging directory away, every step fails for that reason alone.
    restored.map_err(|error| match error {
        RestoreError::NoStaging => RestoreError::NoStaging,
        _ if staging.dir().is_ok() && staging.is_gone() => RestoreError::TooLate,
        error => error,
    })
}

fn lay_down(
    task: &Task,
    result: &ActionResult,
    Source { files, blobs, most }: Source<'_>,
    staging: &Staging,
) -> Result<Restored, RestoreError> {
    let mut plan = plan(task, result)?;
    // A stable sort: what the metadata overtakes keeps its order.
    plan.sort_by_key(|(output, _)| output.kind != OutputKind::Metadata);
    let said = said(task, result, blobs)?;
    let dep_infos = plan.iter().filter(|(output, _)| output.kind == OutputKind::DepInfo);
    let dep_infos: Vec<(&Output, Vec<u8>)> = dep_infos
        .map(|(output, digest)| Ok((*output, dep_info(task, &read(blobs, digest)?)?)))
        .collect::<Result<_, RestoreError>>()?;
    let mut laid = Laid {
        task,
        files,
        staging,
        dating: Dating::Own(Sharing::Private),
        undo: Vec::new(),
        bytes: 0,
        shared_bytes: 0,
        placed: Vec::new(),
        shared: Vec::new(),
    };
    if !plan.is_empty() {
        let outputs: Vec<PathBuf> = plan.iter().map(|(output, _)| place_of(task, output)).collect();
        staging.announce(&outputs)?;
        laid.dating = dates::decide(task, files, dates::is_rebuild(task), Some(staging), most);
    }
    for (output, digest) in &plan {
        if output.kind != OutputKind::DepInfo {
            laid.place(output, digest)?;
        }
    }
    for (output, text) in &dep_infos {
        laid.write(output, text)?;
    }
    Ok(Restored { said, exit_code: result.exit_code, compile_time: compile_time(result), ..laid.done() })
}

/// Which blob goes to which output. Every output that the compile has to make is there, and
/// none that it was not asked for.
fn plan<'a>(task: &'a Task, result: &ActionResult) -> Result<Vec<(&'a Output, Digest)>, RestoreError> {
    let mut named: HashMap<Vec<u8>, Digest> = HashMap::new();
    for file in &result.output_files {
        let digest =
            file.digest.as_ref().ok_or(RestoreError::Malformed { what: "a file without a digest" })?;
        named.insert(file.path.clone().into_bytes(), parse(task.query.function, digest)?);
    }
    let mut plan = Vec::new();
    for output in &task.outputs {
        match named.remove(&output.name.in_input_root()) {
            Some(digest) => plan.push((output, digest)),
            None if output.is_required && result.exit_code == 0 => {
                return Err(RestoreError::Lacking { path: output.path.clone() });
            }
            None => {}
        }
    }
    match named.into_keys().next() {
        Some(path) => Err(RestoreError::Unexpected { path: String::from_utf8_lossy(&path).into_owned() }),
        None => Ok(plan),
    }
}

fn parse(function: DigestFunction, digest: &WireDigest) -> Result<Digest, RestoreError> {
    Digest::parse(function, &digest.hash, digest.size_bytes)
        .map_err(|_| RestoreError::Malformed { what: "a digest" })
}

fn read(blobs: &dyn BlobStore, digest: &Digest) -> Result<Bytes, RestoreError> {
    if digest.size_bytes > TEXT_BYTES_MAX {
        return Err(RestoreError::Malformed { what: "a text of unreasonable size" });
    }
    let content = blobs.open(digest, AccessKind::Use)?.ok_or(RestoreError::Gone { digest: *digest })?;
    content.read_all().map_err(|source| RestoreError::Io { path: digest.to_string().into(), source })
}

/// What the call is to say.
fn said(
    task: &Task,
    result: &ActionResult,
    blobs: &dyn BlobStore,
) -> Result<Vec<MessagePiece>, RestoreError> {
    let kept = |raw: &Bytes, digest: Option<&WireDigest>| match digest {
        Some(digest) if raw.is_empty() => read(blobs, &parse(task.query.function, digest)?),
        _ => Ok(raw.clone()),
    };
    let stdout = kept(&result.stdout_raw, result.stdout_digest.as_ref())?;
    let stderr = kept(&result.stderr_raw, result.stderr_digest.as_ref())?;
    let stderr = match result.exit_code {
        0 => messages::stderr(task, &stderr),
        _ => messages::localise(task, &stderr),
    };
    let unknown = || RestoreError::Malformed { what: "a message about an unknown root" };
    let stdout = messages::localise(task, &stdout).ok_or_else(unknown)?;
    let said = [(MessageStream::Stdout, stdout), (MessageStream::Stderr, stderr.ok_or_else(unknown)?)];
    let said = said.into_iter().filter(|(_, bytes)| !bytes.is_empty());
    Ok(said.map(|(stream, bytes)| MessagePiece { stream, bytes: Bytes::from(bytes) }).collect())
}

/// A stored dep-info in this checkout's paths, with the files that cargo is to watch too.
fn dep_info(task: &Task, stored: &[u8]) -> Result<Vec<u8>, RestoreError> {
    let mut info = localise(&task.roots, &DepInfo::parse(stored)?)?;
    for path in &task.extra_dep_info {
        info.add_file(path.as_os_str().as_bytes());
    }
    Ok(info.render())
}

fn localise(roots: &Roots, info: &DepInfo) -> Result<DepInfo, RestoreError> {
    info.map(|path| paths::localise_path(roots, path), |value| roots.localise(value, Form::Value))
        .ok_or(RestoreError::Malformed { what: "a path below an unknown root" })
}

fn compile_time(result: &ActionResult) -> Duration {
    let metadata = result.execution_metadata.as_ref();
    let time = |of: fn(
        &kache_proto::reapi::ExecutedActionMetadata,
    ) -> &Option<kache_proto::well_known::Timestamp>| {
        let stamp = of(metadata?).as_ref()?;
        Some(Duration::new(u64::try_from(stamp.seconds).ok()?, u32::try_from(stamp.nanos).ok()?))
    };
    let start = time(|metadata| &metadata.execution_start_timestamp);
    let end = time(|metadata| &metadata.execution_completed_timestamp);
    start.zip(end).map(|(start, end)| end.saturating_sub(start)).unwrap_or_default()
}

/// Files that were laid down. They go with this value unless it is done.
struct Laid<'a> {
    task: &'a Task,
    files: &'a dyn LocalFiles,
    staging: &'a Staging,
    dating: Dating,
    undo: Vec<PathBuf>,
    bytes: u64,
    shared_bytes: u64,
    placed: Vec<KnownFile>,
    shared: Vec<(PathBuf, Digest)>,
}

impl Laid<'_> {
    fn place(&mut self, output: &Output, digest: &Digest) -> Result<(), RestoreError> {
        let path = place_of(self.task, output);
        let staging = Some(self.staging.dir()?);
        let placing = PlaceOptions { staging, ..dates::placing(self.task, output, self.dating) };
        let linked = self.files.place(digest, &path, &placing)?;
        let LinkedFile { link, stamp: seen } = linked.ok_or(RestoreError::Gone { digest: *digest })?;
        self.undo.push(path.clone());
        if link == Link::Hardlink && placing.sharing == Sharing::Hardlink {
            self.shared.push((path.clone(), *digest));
        }
        self.placed.push(KnownFile { path, digest: *digest, seen });
        self.bytes += digest.size_bytes;
        if link != Link::Copy {
            self.shared_bytes += digest.size_bytes;
        }
        Ok(())
    }

    fn write(&mut self, output: &Output, text: &[u8]) -> Result<(), RestoreError> {
        let path = place_of(self.task, output);
        let mode = dates::placing(self.task, output, self.dating).mode;
        self.staging.write(&path, text, mode)?;
        self.undo.push(path);
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn done(mut self) -> Restored {
        self.undo.clear();
        Restored {
            said: Vec::new(),
            exit_code: 0,
            bytes: self.bytes,
            shared_bytes: self.shared_bytes,
            placed: std::mem::take(&mut self.placed),
            shared: std::mem::take(&mut self.shared),
            compile_time: Duration::ZERO,
        }
    }
}

impl Drop for Laid<'_> {
    fn drop(&mut self) {
        if !self.undo.is_empty() {
            self.staging.undo(&self.undo);
        }
    }
}
