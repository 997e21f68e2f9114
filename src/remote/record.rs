//! Keeps results in their form for remotes, beside the results of the store.
//!
//! Such a form needs the inputs of the compile, so it can only be made while they are as they were. With the
//! record, a result can be uploaded at any later time: when a remote answers again, after a restart of the
//! daemon, or to a remote that has lost it.

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{ActionCache, Digest, DigestFunction, Hash, StoreError};
use kache_proto::Message as _;
use kache_proto::reapi::ActionResult;
use kache_proto::upload as wire;

use super::result::SharedResult;
use super::upload::{ActionMessages, Upload, UploadInputs};
use crate::action::{PathSet, PathSets};
use crate::lookup::{is_quarantined, read_record, write_record};

/// The most bytes of a record before it is compressed.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Records have names of two kinds, because the same result has another form in each digest function. The
/// number is the version of the format.
const fn purpose(function: DigestFunction) -> &'static str {
    match function {
        DigestFunction::Blake3 => "kache upload 1 blake3",
        DigestFunction::Sha256 => "kache upload 1 sha256",
    }
}

/// Returns the digest of an action of the store by its hash alone. Records are found without the size.
pub fn own_action(hash: Hash) -> Digest<ActionMessage> {
    Digest::new(DigestFunction::Blake3, hash, 0)
}

/// Writes the record of the result that the store has for `own_action`.
pub fn save(
    actions: &dyn ActionCache,
    own_action: &Digest<ActionMessage>,
    upload: &Upload,
) -> Result<(), StoreError> {
    let bytes = message(upload).encode_to_vec();
    let compressed = zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL)
        .map_err(|error| StoreError::io("compress an upload's record", "", error))?;
    write_record(actions, purpose(upload.action.digest.function), own_action, compressed)
}

/// Reads the record of the store's result for `own_action`. `None` if there is none in this function, if this
/// version cannot read it, or if the action is quarantined: such a result is never shared.
pub fn load(
    actions: &dyn ActionCache,
    own_action: &Digest<ActionMessage>,
    function: DigestFunction,
) -> Result<Option<Upload>, StoreError> {
    if is_quarantined(actions, own_action)?.is_some() {
        return Ok(None);
    }
    let record = read_record(actions, purpose(function), own_action)?;
    Ok(record.and_then(|bytes| decode(&bytes, function)))
}

fn decode(bytes: &[u8], function: DigestFunction) -> Option<Upload> {
    let bytes = zstd::bulk::decompress(bytes, RECORD_BYTES_MAX).ok()?;
    let message = wire::Upload::decode(&*bytes).ok()?;
    Some(Upload {
        name: message.name,
        invocation_id: message.invocation_id,
        mnemonic: message.mnemonic.into(),
        query: action_messages(function, message.query?),
        action: action_messages(function, message.action?),
        path_set: path_set(&message.path_set)?,
        shared: SharedResult {
            result: ActionResult::decode(message.result).ok()?,
            messages: hashed(function, message.messages),
            stored: stored_blobs(function, &message.stored)?,
        },
        unstable: message.unstable_paths,
        is_leaf: message.is_leaf,
        inputs: match message.inputs {
            Some(inputs) => Some(UploadInputs {
                messages: hashed(function, inputs.messages),
                stored: stored_blobs(function, &inputs.stored)?,
            }),
            None => None,
        },
    })
}

fn hashed(function: DigestFunction, messages: Vec<Bytes>) -> Vec<(Digest, Bytes)> {
    messages.into_iter().map(|bytes| (Digest::of(function, &bytes), bytes)).collect()
}

fn stored_blobs(function: DigestFunction, blobs: &[wire::StoredBlob]) -> Option<Vec<(Digest, Digest)>> {
    let stored = blobs.iter().map(|blob| {
        let digest = |function, hash: &Bytes| {
            Some(Digest::new(function, Hash(hash[..].try_into().ok()?), blob.size_bytes))
        };
        Some((digest(function, &blob.shared)?, digest(DigestFunction::Blake3, &blob.own)?))
    });
    stored.collect()
}

fn path_set(bytes: &[u8]) -> Option<PathSet> {
    PathSets::decode(bytes).ok()?.sets.into_iter().next()
}

fn action_messages(function: DigestFunction, message: wire::ActionMessages) -> ActionMessages {
    let wire::ActionMessages { action, command } = message;
    ActionMessages {
        digest: Digest::of(function, &action),
        action,
        command: (Digest::of(function, &command), command),
    }
}

fn message(upload: &Upload) -> wire::Upload {
    let action = |messages: &ActionMessages| wire::ActionMessages {
        action: messages.action.clone(),
        command: messages.command.1.clone(),
    };
    wire::Upload {
        name: upload.name.clone(),
        invocation_id: upload.invocation_id.clone(),
        mnemonic: upload.mnemonic.to_string(),
        query: Some(action(&upload.query)),
        action: Some(action(&upload.action)),
        path_set: PathSets { sets: vec![upload.path_set.clone()] }.encode().into(),
        result: upload.shared.result.encode_to_vec().into(),
        messages: bytes_of(&upload.shared.messages),
        stored: wire_blobs(&upload.shared.stored),
        unstable_paths: upload.unstable.clone(),
        is_leaf: upload.is_leaf,
        inputs: upload.inputs.as_ref().map(|inputs| wire::UploadInputs {
            messages: bytes_of(&inputs.messages),
            stored: wire_blobs(&inputs.stored),
        }),
    }
}

fn bytes_of(messages: &[(Digest, Bytes)]) -> Vec<Bytes> {
    messages.iter().map(|(_, bytes)| bytes.clone()).collect()
}

fn wire_blobs(blobs: &[(Digest, Digest)]) -> Vec<wire::StoredBlob> {
    let blob = |(shared, own): &(Digest, Digest)| wire::StoredBlob {
        shared: Bytes::copy_from_slice(&shared.hash.0),
        own: Bytes::copy_from_slice(&own.hash.0),
        size_bytes: own.size_bytes,
    };
    blobs.iter().map(blob).collect()
}
