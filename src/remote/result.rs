//! Results as remotes keep them.
//!
//! A stored result of this machine holds short messages itself and has BLAKE3 digests. A shared result names
//! every message as a blob, has digests of the remote's function, and carries the compiler's notes on the
//! outputs. Nothing that a remote returns is believed: [`check`] accepts a result only if it has exactly the
//! outputs that the call asks for (NET-02). Pure.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::encoding::wire_digest;
use kache_cas::{Digest, DigestFunction, Hash};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, ExecutedActionMetadata, OutputFile};
use kache_proto::well_known::{Any, Timestamp};
use thiserror::Error;

use crate::action::{OutputKind, Task};

/// The name of the worker in the metadata of shared results. An empty message would have no bytes, and some
/// servers refuse that.
const WORKER: &str = "kache";

/// The type of the notes in `auxiliary_metadata`.
const NOTES_TYPE: &str = "type.googleapis.com/kache.Notes";

/// The largest sum of the messages of a compile, a thousand times the usual size.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// The largest notes on the outputs of a compile.
const NOTES_BYTES_MAX: usize = 256 << 10;

/// Longer messages are blobs of their own in a stored result.
const RAW_BYTES_MAX: u64 = 64 << 10;

/// Why a result of a remote is not used. It counts as a miss.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnusableResult {
    /// The compile failed, or the result says nothing about it.
    #[error("its exit code is {0}")]
    ExitCode(i32),
    /// The result has directories, links or other things that no compile makes.
    #[error("it has {0}")]
    Foreign(&'static str),
    /// The result has a file that is no output of this call, or has one of them twice.
    #[error("it has a file `{0}` that is no output of the call")]
    Unexpected(String),
    /// The result lacks an output of this call.
    #[error("it has no file `{0}`")]
    Lacking(String),
    /// A digest is malformed.
    #[error("the digest of `{0}` is malformed")]
    Digest(String),
    /// The messages are too long.
    #[error("its messages are too long")]
    MessagesTooLong,
}

/// An output of a result that passed all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedOutput {
    /// The kind of the output, as the call names it.
    pub kind: OutputKind,
    /// The path in the result.
    pub path: String,
    /// The digest of the content in the remote's function.
    pub digest: Digest,
}

/// A result that passed all checks. Its digests have the remote's function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedResult {
    /// The outputs.
    pub outputs: Vec<SharedOutput>,
    /// The messages on standard output; `None` if there are none.
    pub stdout: Option<Digest>,
    /// The messages on standard error; `None` if there are none.
    pub stderr: Option<Digest>,
    /// Blobs that the remote sent along. Their bytes are not verified yet.
    pub inlined: Vec<(Digest, Bytes)>,
    /// The compiler's notes on the outputs.
    pub notes: Option<Bytes>,
    /// How long the compile took.
    pub compile_time: Duration,
}

impl CheckedResult {
    /// Returns every blob that the result needs, each of them once.
    pub fn blobs(&self) -> Vec<Digest> {
        let outputs = self.outputs.iter().map(|output| output.digest);
        let mut blobs: Vec<Digest> = outputs.chain(self.stdout).chain(self.stderr).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// Makes the result that this machine stores. `own` gives the digest by which the store names a blob, and
    /// `message` the bytes of a short message. `None` if one of them is not known.
    pub fn to_stored(
        &self,
        own: &dyn Fn(&Digest) -> Option<Digest>,
        message: &dyn Fn(&Digest) -> Option<Bytes>,
    ) -> Option<ActionResult> {
        let file = |output: &SharedOutput| {
            Some(OutputFile {
                path: output.path.clone(),
                digest: Some(wire_digest(&own(&output.digest)?)),
                is_executable: output.kind.is_executable(),
                ..Default::default()
            })
        };
        let mut result = ActionResult {
            output_files: self.outputs.iter().map(file).collect::<Option<_>>()?,
            execution_metadata: Some(metadata(self.compile_time, None)),
            ..Default::default()
        };
        for (said, raw, digest) in [
            (&self.stdout, &mut result.stdout_raw, &mut result.stdout_digest),
            (&self.stderr, &mut result.stderr_raw, &mut result.stderr_digest),
        ] {
            match said {
                None => {}
                Some(said) if said.size_bytes <= RAW_BYTES_MAX => *raw = message(said)?,
                Some(said) => *digest = Some(wire_digest(&own(said)?)),
            }
        }
        Some(result)
    }
}

/// Checks a result that a remote returned for a compile. All digests of it must be of this function.
pub fn check(
    task: &Task,
    result: &ActionResult,
    function: DigestFunction,
) -> Result<CheckedResult, UnusableResult> {
    if result.exit_code != 0 {
        return Err(UnusableResult::ExitCode(result.exit_code));
    }
    let foreign = [
        (!result.output_directories.is_empty(), "directories"),
        (!result.output_symlinks.is_empty(), "links"),
    ];
    if let Some((_, what)) = foreign.into_iter().find(|(is_there, _)| *is_there) {
        return Err(UnusableResult::Foreign(what));
    }
    let mut inlined = Vec::new();
    let outputs = outputs(task, result, function, &mut inlined)?;
    let mut message = |name: &str, raw: &Bytes, digest: &Option<WireDigest>| {
        let digest = match digest {
            Some(digest) => Some(read_digest(digest, function, name)?),
            None if raw.is_empty() => None,
            None => Some(Digest::of(function, raw)),
        };
        if let Some(digest) = digest.filter(|_| !raw.is_empty()) {
            inlined.push((digest, raw.clone()));
        }
        Ok(digest.filter(|digest| digest.size_bytes > 0))
    };
    let stdout = message("stdout", &result.stdout_raw, &result.stdout_digest)?;
    let stderr = message("stderr", &result.stderr_raw, &result.stderr_digest)?;
    let message_bytes: u64 = [stdout, stderr].iter().flatten().map(|digest| digest.size_bytes).sum();
    if message_bytes > MESSAGE_BYTES_MAX {
        return Err(UnusableResult::MessagesTooLong);
    }
    let metadata = result.execution_metadata.as_ref();
    Ok(CheckedResult {
        outputs,
        stdout,
        stderr,
        inlined,
        notes: metadata.and_then(notes),
        compile_time: metadata.and_then(compile_time).unwrap_or_default(),
    })
}

/// Returns the outputs of a result, which has to have each required output of the call and no other file.
fn outputs(
    task: &Task,
    result: &ActionResult,
    function: DigestFunction,
    inlined: &mut Vec<(Digest, Bytes)>,
) -> Result<Vec<SharedOutput>, UnusableResult> {
    let path = |output: &crate::action::Output| String::from_utf8(output.name.in_input_root()).ok();
    let mut expected: HashMap<String, _> =
        task.outputs.iter().filter_map(|output| Some((path(output)?, output))).collect();
    let mut outputs = Vec::with_capacity(result.output_files.len());
    for file in &result.output_files {
        let Some(output) = expected.remove(&file.path) else {
            return Err(UnusableResult::Unexpected(file.path.clone()));
        };
        let digest = file.digest.as_ref().ok_or_else(|| UnusableResult::Digest(file.path.clone()))?;
        let digest = read_digest(digest, function, &file.path)?;
        if !file.contents.is_empty() {
            inlined.push((digest, file.contents.clone()));
        }
        outputs.push(SharedOutput { kind: output.kind, path: file.path.clone(), digest });
    }
    match expected.into_iter().find(|(_, output)| output.is_required) {
        Some((path, _)) => Err(UnusableResult::Lacking(path)),
        None => Ok(outputs),
    }
}

/// Returns the blobs that a remote sent along with a result. Their bytes are not verified yet. `None` if a digest is
/// malformed.
pub(super) fn inlined_blobs(result: &ActionResult, function: DigestFunction) -> Option<Vec<(Digest, Bytes)>> {
    let files = result.output_files.iter().map(|file| (file.digest.as_ref(), &file.contents));
    let messages = [
        (result.stdout_digest.as_ref(), &result.stdout_raw),
        (result.stderr_digest.as_ref(), &result.stderr_raw),
    ];
    let inlined = files.chain(messages).filter(|(digest, bytes)| digest.is_some() && !bytes.is_empty());
    inlined.map(|(digest, bytes)| Some((read_digest(digest?, function, "").ok()?, bytes.clone()))).collect()
}

/// Returns a result without the bytes of blobs that it names.
pub(super) fn without_contents(mut result: ActionResult) -> ActionResult {
    for file in &mut result.output_files {
        file.contents = Bytes::new();
    }
    if result.stdout_digest.is_some() {
        result.stdout_raw = Bytes::new();
    }
    if result.stderr_digest.is_some() {
        result.stderr_raw = Bytes::new();
    }
    result
}

/// Returns all blobs that a shared result names; `None` if a digest is malformed.
pub(super) fn named_blobs(result: &ActionResult, function: DigestFunction) -> Option<Vec<Digest>> {
    let files = result.output_files.iter().map(|file| file.digest.as_ref());
    let messages = [result.stdout_digest.as_ref(), result.stderr_digest.as_ref()].into_iter().flatten();
    let digests = files.chain(messages.map(Some));
    digests.map(|digest| read_digest(digest?, function, "").ok()).collect()
}

fn read_digest(digest: &WireDigest, function: DigestFunction, name: &str) -> Result<Digest, UnusableResult> {
    let malformed = || UnusableResult::Digest(name.to_owned());
    let hash: Hash = digest.hash.parse().map_err(|_| malformed())?;
    Ok(Digest::new(function, hash, u64::try_from(digest.size_bytes).map_err(|_| malformed())?))
}

fn notes(metadata: &ExecutedActionMetadata) -> Option<Bytes> {
    let notes = metadata.auxiliary_metadata.iter().find(|any| any.type_url == NOTES_TYPE)?;
    (notes.value.len() <= NOTES_BYTES_MAX).then(|| notes.value.clone().into())
}

/// How long the compile took. The dates themselves are the other machine's and mean nothing here.
fn compile_time(metadata: &ExecutedActionMetadata) -> Option<Duration> {
    const COMPILE_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    let seconds = |time: &Option<Timestamp>| {
        let time = time.as_ref()?;
        Some(i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
    };
    let took =
        seconds(&metadata.execution_completed_timestamp)? - seconds(&metadata.execution_start_timestamp)?;
    Some(Duration::from_nanos(u64::try_from(took).ok()?).min(COMPILE_TIME_MAX))
}

/// The metadata of a result that took this long. The times begin at 1970, because no reader needs the date.
fn metadata(compile_time: Duration, notes: Option<&Bytes>) -> ExecutedActionMetadata {
    let end = Timestamp {
        seconds: i64::try_from(compile_time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(compile_time.subsec_nanos()).unwrap_or(0),
    };
    let any = |value: &Bytes| Any { type_url: NOTES_TYPE.to_owned(), value: value.to_vec() };
    ExecutedActionMetadata {
        worker: WORKER.to_owned(),
        execution_start_timestamp: Some(Timestamp::default()),
        execution_completed_timestamp: Some(end),
        auxiliary_metadata: notes.map(any).into_iter().collect(),
        ..Default::default()
    }
}

/// A result in the form for a remote, with the blobs that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedResult {
    /// The result. Its digests have the remote's function.
    pub result: ActionResult,
    /// The messages, which are no blobs of the store, with their digests in the remote's function.
    pub messages: Vec<(Digest, Bytes)>,
    /// The blobs of the store: the digest in the remote's function, and that of the store.
    pub stored: Vec<(Digest, Digest)>,
}

/// Makes the shared form of a stored result. `twin` gives the digest of a stored blob in the remote's
/// function. `None` if one is not known, or if the result is one that is never shared, such as a failure.
pub fn to_shared(
    result: &ActionResult,
    notes: Option<&Bytes>,
    function: DigestFunction,
    twin: &dyn Fn(&Digest) -> Option<Digest>,
) -> Option<SharedResult> {
    if result.exit_code != 0 {
        return None;
    }
    let (mut messages, mut stored) = (Vec::new(), Vec::new());
    let mut own = |digest: &WireDigest| {
        let own = read_digest(digest, DigestFunction::Blake3, "").ok()?;
        let shared = twin(&own)?;
        stored.push((shared, own));
        Some(wire_digest(&shared))
    };
    let mut message = |raw: &Bytes, digest: &Option<WireDigest>| {
        Some(match digest {
            Some(digest) => Some(own(digest)?),
            None if raw.is_empty() => None,
            None => {
                let digest: Digest = Digest::of(function, raw);
                messages.push((digest, raw.clone()));
                Some(wire_digest(&digest))
            }
        })
    };
    let stdout_digest = message(&result.stdout_raw, &result.stdout_digest)?;
    let stderr_digest = message(&result.stderr_raw, &result.stderr_digest)?;
    let file = |file: &OutputFile| {
        let digest = Some(own(file.digest.as_ref()?)?);
        let (path, is_executable) = (file.path.clone(), file.is_executable);
        Some(OutputFile { path, digest, is_executable, ..Default::default() })
    };
    let output_files = result.output_files.iter().map(file).collect::<Option<Vec<_>>>()?;
    let took = result.execution_metadata.as_ref().and_then(compile_time).unwrap_or_default();
    let result = ActionResult {
        output_files,
        stdout_digest,
        stderr_digest,
        execution_metadata: Some(metadata(took, notes)),
        ..Default::default()
    };
    Some(SharedResult { result, messages, stored })
}
