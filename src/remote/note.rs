//! Notes: bytes that a remote keeps under an action that makes no outputs.
//!
//! A short note rides in the metadata of the action's result, so that one request reads it on every server. A
//! longer one is a blob, because some servers refuse large results.

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::encoding::wire_digest;
use kache_cas::{Content, Digest, DigestFunction, Hash};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, ExecutedActionMetadata};
use kache_proto::well_known::Any;
use kache_remote::{Remote, RemoteError, RequestContext};

/// The longest note that rides in the metadata.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// The longest note that is read.
const BYTES_MAX: u64 = 8 << 20;

/// The digest of a note that is a blob, as the result under which it lies names it.
pub(super) fn note_blob(result: &ActionResult, function: DigestFunction) -> Option<Digest> {
    let WireDigest { hash, size_bytes } = result.stdout_digest.as_ref()?;
    let size = u64::try_from(*size_bytes).ok().filter(|size| (1..=BYTES_MAX).contains(size))?;
    Some(Digest::new(function, hash.parse::<Hash>().ok()?, size))
}

/// Reads the note of this type under an action; `None` if the remote has none.
pub(super) async fn read_note(
    remote: &dyn Remote,
    action: &Digest<ActionMessage>,
    type_url: &str,
    context: &RequestContext,
) -> Result<Option<Bytes>, RemoteError> {
    let Some(result) = remote.get_result(action, context).await? else { return Ok(None) };
    let inline = result.execution_metadata.iter().flat_map(|metadata| &metadata.auxiliary_metadata);
    let inline =
        inline.filter(|any| any.type_url == type_url).map(|any| Bytes::from(any.value.clone())).next();
    match (inline, note_blob(&result, action.function)) {
        (Some(bytes), _) => Ok(Some(bytes)),
        (None, Some(blob)) => {
            let read = remote.read_small(&[blob], context).await?;
            Ok(read.into_iter().next().flatten())
        }
        (None, None) => Ok(None),
    }
}

/// Writes a note under an action, in the place of an earlier one. The remote must have the action and its command.
pub(super) async fn write_note(
    remote: &dyn Remote,
    action: &Digest<ActionMessage>,
    type_url: &str,
    bytes: Bytes,
    context: &RequestContext,
) -> Result<(), RemoteError> {
    let mut metadata = ExecutedActionMetadata { worker: "kache".to_owned(), ..Default::default() };
    let mut result = ActionResult::default();
    if bytes.len() <= INLINE_BYTES_MAX {
        metadata.auxiliary_metadata.push(Any { type_url: type_url.to_owned(), value: bytes.to_vec() });
    } else {
        let digest = Digest::of(action.function, &bytes);
        let written = remote.write(&[(digest, Content::Memory(bytes))], context).await;
        written.into_iter().collect::<Result<(), RemoteError>>()?;
        result.stdout_digest = Some(wire_digest(&digest));
    }
    result.execution_metadata = Some(metadata);
    remote.put_result(action, &result, context).await
}
