//! Restores a result: puts its files into the checkout, and returns the messages.
//!
//! Everything that can be checked is checked before the first file is placed. If a later step fails,
//! the files that were placed are removed, and the compiler makes all of them (RST-05). The metadata
//! is placed first, because the build tool may start the compiles that depend on it when it is there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::{AccessKind, BlobStore, Link, LinkedFile, LocalFiles, PlaceOptions, Sharing};
use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::{ActionResult, Digest as WireDigest};

use super::error::RestoreError;
use crate::action::{CallEnv, Output, OutputKind, Task};
use crate::compile::{KnownFile, MessagePiece, MessageStream};
use crate::outputs::dates::{self, Dating};
use crate::outputs::dep_info::DepInfo;
use crate::outputs::{Staging, messages, paths};
use crate::roles::{Form, Roots};

/// The largest dep-info or message that is read into memory, a thousand times the usual size.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A result that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The messages that the client prints, in order.
    pub messages: Vec<MessagePiece>,
    /// The exit code of the compile.
    pub exit_code: i32,
    /// The size of all restored files.
    pub bytes: u64,
    /// The size of the files among them that use the same disk blocks as the store.
    pub shared_bytes: u64,
    /// The files that were placed, with their digests, so that no later call has to hash them.
    pub placed: Vec<KnownFile>,
    /// The files among them whose inode other checkouts may share.
    pub shared: Vec<(PathBuf, Digest)>,
    /// How long the compile took when it ran.
    pub compile_time: Duration,
}

/// The store that a result is restored from.
#[derive(Clone, Copy)]
pub struct RestoreSource<'a> {
    /// The store's interface that places files.
    pub files: &'a dyn LocalFiles,
    /// The store's interface that reads blobs.
    pub blobs: &'a dyn BlobStore,
    /// The closest sharing that is allowed between a restored file and the store.
    pub most: Sharing,
}

/// Restores a result for a call with these variables. After an error nothing of it is left in the checkout. This
/// blocks on the store and on the checkout.
pub fn restore(
    (task, env): (&Task, &dyn CallEnv),
    result: &ActionResult,
    source: RestoreSource<'_>,
    staging: &Staging,
) -> Result<Restored, RestoreError> {
    let restored = try_restore((task, env), result, source, staging);
    // If the client has removed its staging directory, every later step fails, whatever its error says.
    restored.map_err(|error| match error {
        RestoreError::NoStaging => RestoreError::NoStaging,
        _ if staging.dir().is_ok() && staging.is_gone() => RestoreError::TooLate,
        error => error,
    })
}

fn try_restore(
    (task, env): (&Task, &dyn CallEnv),
    result: &ActionResult,
    RestoreSource { files, blobs, most }: RestoreSource<'_>,
    staging: &Staging,
) -> Result<Restored, RestoreError> {
    let mut plan = plan(task, result)?;
    // The metadata comes first. The sort is stable, so the other outputs keep their order.
    plan.sort_by_key(|(output, _)| output.kind != OutputKind::Metadata);
    let messages = messages(task, result, blobs)?;
    // Messages and dep-infos are read and converted before the first file is placed, because that may
    // fail. A dep-info is written last.
    let dep_infos = plan.iter().filter(|(output, _)| output.kind == OutputKind::DepInfo);
    let dep_infos: Vec<(&Output, Vec<u8>)> = dep_infos
        .map(|(output, digest)| Ok((*output, dep_info(task, env, &read(blobs, digest)?)?)))
        .collect::<Result<_, RestoreError>>()?;
    let mut unfinished = UnfinishedRestore {
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
        let outputs: Vec<PathBuf> = plan.iter().map(|(output, _)| output.path.clone()).collect();
        staging.announce(&outputs)?;
        unfinished.dating = dates::decide(task, files, dates::is_rebuild(task), Some(staging), most);
    }
    for (output, digest) in &plan {
        if output.kind != OutputKind::DepInfo {
            unfinished.place(output, digest)?;
        }
    }
    for (output, text) in &dep_infos {
        unfinished.write(output, text)?;
    }
    let compile_time = compile_time(result);
    Ok(Restored { messages, exit_code: result.exit_code, compile_time, ..unfinished.finish() })
}

/// Returns the blob of each output. It is an error if a required output is missing, or if the result
/// has a file that is no output of the task.
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

/// Returns the messages that the compiler would print in this checkout.
fn messages(
    task: &Task,
    result: &ActionResult,
    blobs: &dyn BlobStore,
) -> Result<Vec<MessagePiece>, RestoreError> {
    let stored = |raw: &Bytes, digest: Option<&WireDigest>| match digest {
        Some(digest) if raw.is_empty() => read(blobs, &parse(task.query.function, digest)?),
        _ => Ok(raw.clone()),
    };
    let stdout = stored(&result.stdout_raw, result.stdout_digest.as_ref())?;
    let stderr = stored(&result.stderr_raw, result.stderr_digest.as_ref())?;
    let stderr = match result.exit_code {
        0 => messages::stderr(task, &stderr),
        _ => messages::localise(task, &stderr),
    };
    let unknown = || RestoreError::Malformed { what: "a message about an unknown root" };
    let stdout = messages::localise(task, &stdout).ok_or_else(unknown)?;
    let messages = [(MessageStream::Stdout, stdout), (MessageStream::Stderr, stderr.ok_or_else(unknown)?)];
    let messages = messages.into_iter().filter(|(_, bytes)| !bytes.is_empty());
    Ok(messages.map(|(stream, bytes)| MessagePiece { stream, bytes: Bytes::from(bytes) }).collect())
}

/// Returns a stored dep-info with the paths of this checkout and the values of the call's variables, and with the
/// declared files, so that the build tool watches them, too.
fn dep_info(task: &Task, env: &dyn CallEnv, stored: &[u8]) -> Result<Vec<u8>, RestoreError> {
    let mut info = localise(&task.roots, &DepInfo::parse(stored)?)?;
    info.fill_in_values(|name| env.value(name));
    info.add_files(&task.extra_dep_info);
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

/// A restore that has begun. Dropping it removes the files that were placed, unless it was finished.
struct UnfinishedRestore<'a> {
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

impl UnfinishedRestore<'_> {
    fn place(&mut self, output: &Output, digest: &Digest) -> Result<(), RestoreError> {
        let path = output.path.clone();
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
        let path = output.path.clone();
        let mode = dates::placing(self.task, output, self.dating).mode;
        self.staging.write(&path, text, mode)?;
        self.undo.push(path);
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Keeps the files. The caller fills in the messages, the exit code and the compile time.
    fn finish(mut self) -> Restored {
        self.undo.clear();
        Restored {
            messages: Vec::new(),
            exit_code: 0,
            bytes: self.bytes,
            shared_bytes: self.shared_bytes,
            placed: std::mem::take(&mut self.placed),
            shared: std::mem::take(&mut self.shared),
            compile_time: Duration::ZERO,
        }
    }
}

impl Drop for UnfinishedRestore<'_> {
    fn drop(&mut self) {
        if !self.undo.is_empty() {
            self.staging.undo(&self.undo);
        }
    }
}
