//! The requests of the benchmark as bytes: the fields of each message.
//!
//! They use SHA-256, no instance name and no compression, which every server supports.

use bytes::Bytes;
use kache_proto::reapi::{
    ActionResult, Digest, ExecutedActionMetadata, GetActionResultRequest, OutputFile,
    UpdateActionResultRequest,
};

use crate::content::{Content, Contents};
use crate::load::Request;
use crate::wire::Message;

pub(crate) const GET_ACTION_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
pub(crate) const UPDATE_ACTION_RESULT: &str =
    "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";
pub(crate) const FIND_MISSING: &str =
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
pub(crate) const BATCH_READ: &str =
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs";
pub(crate) const BATCH_UPDATE: &str =
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
pub(crate) const READ: &str = "/google.bytestream.ByteStream/Read";
pub(crate) const WRITE: &str = "/google.bytestream.ByteStream/Write";

fn digest(hash: &str, size: usize) -> Message {
    Message::default().bytes(1, hash.as_bytes()).number(2, size as u64)
}

fn framed(message: &impl kache_proto::Message) -> Bytes {
    Message::default()
        .framed_before(message.encoded_len())
        .iter()
        .copied()
        .chain(message.encode_to_vec())
        .collect()
}

/// A `FindMissingBlobsRequest` for these contents.
pub(crate) fn find_missing(contents: &Contents, numbers: impl Iterator<Item = u64>) -> Bytes {
    let ask =
        |message: Message, number| message.message(2, &digest(&contents.nth(number).hash, contents.size()));
    numbers.fold(Message::default(), ask).framed()
}

/// A `BatchReadBlobsRequest` for these contents, whose fields have the same numbers as those of
/// `FindMissingBlobsRequest`.
pub(crate) fn batch_read(contents: &Contents, numbers: impl Iterator<Item = u64>) -> Bytes {
    find_missing(contents, numbers)
}

/// A `BatchUpdateBlobsRequest` with these contents.
pub(crate) fn batch_update(contents: &Contents, numbers: std::ops::Range<u64>) -> Request {
    let mut blobs = Vec::new();
    let mut len = 0;
    for number in numbers {
        let content = contents.nth(number);
        let mut blob = Message::default().message(1, &digest(&content.hash, contents.size()));
        blob.open(2, contents.size());
        let mut opening = Message::default();
        opening.open(2, blob.len() + contents.size());
        len += opening.len() + blob.len() + contents.size();
        blobs.extend([opening.into_bytes(), blob.into_bytes(), contents.base().clone(), content.tail]);
    }
    let mut pieces = vec![Message::default().framed_before(len)];
    pieces.append(&mut blobs);
    Request::new(pieces)
}

/// A `ReadRequest` for the whole of this content.
pub(crate) fn read(contents: &Contents, number: u64) -> Bytes {
    let name = format!("blobs/{}/{}", contents.nth(number).hash, contents.size());
    Message::default().bytes(1, name.as_bytes()).framed()
}

/// `WriteRequest`s of contents of one size. The parts that are the same for all contents are encoded in advance.
pub(crate) struct Writes {
    contents: Contents,
    chunk: usize,
    /// The encoded fields before the data of each chunk except the first.
    openings: Vec<Bytes>,
}

impl Writes {
    /// Writes that send `chunk` bytes a message.
    pub(crate) fn new(contents: Contents, chunk: usize) -> Writes {
        let starts = (0..contents.size()).step_by(chunk);
        let openings = starts.map(|start| Writes::opening(&contents, chunk, start, "")).collect();
        Writes { contents, chunk, openings }
    }

    fn opening(contents: &Contents, chunk: usize, start: usize, name: &str) -> Bytes {
        let end = contents.size().min(start + chunk);
        let mut message = Message::default();
        if start == 0 {
            message = message.bytes(1, name.as_bytes());
        } else {
            message = message.number(2, start as u64);
        }
        if end == contents.size() {
            message = message.number(3, 1);
        }
        message.open(10, end - start);
        message.framed_before(end - start)
    }

    /// The write of the content of this number.
    pub(crate) fn nth(&self, number: u64) -> Request {
        let Content { hash, tail } = self.contents.nth(number);
        let size = self.contents.size();
        let name = format!("uploads/00000000-0000-4000-8000-{number:012x}/blobs/{hash}/{size}");
        let base = self.contents.base();
        let mut pieces = Vec::with_capacity(self.openings.len() * 2 + 1);
        for (position, opening) in self.openings.iter().enumerate() {
            let start = position * self.chunk;
            pieces.push(match position {
                0 => Writes::opening(&self.contents, self.chunk, 0, &name),
                _ => opening.clone(),
            });
            // The last chunk may begin inside the tail.
            pieces.push(base.slice(start.min(base.len())..base.len().min(start + self.chunk)));
            let end = size.min(start + self.chunk);
            if end > base.len() {
                pieces.push(tail.slice(start.saturating_sub(base.len())..end - base.len()));
            }
        }
        Request::new(pieces)
    }
}

/// Action results that name two contents each.
pub(crate) struct Actions {
    outputs: Contents,
    outputs_count: u64,
}

impl Actions {
    /// Results whose outputs are among the first `outputs_count` contents.
    pub(crate) fn new(outputs: Contents, outputs_count: u64) -> Actions {
        Actions { outputs, outputs_count }
    }

    fn action_digest(number: u64) -> Option<Digest> {
        use sha2::Digest as _;
        let hash = crate::content::hex(&sha2::Sha256::digest(number.to_le_bytes()));
        Some(Digest { hash, size_bytes: 142 })
    }

    /// The result of the action of this number.
    pub(crate) fn result(&self, number: u64) -> ActionResult {
        let output = |suffix: &str, content: u64| OutputFile {
            path: format!("target/debug/deps/libcrate-{number:016x}.{suffix}"),
            digest: Some(Digest {
                hash: self.outputs.nth(content % self.outputs_count).hash,
                size_bytes: self.outputs.size() as i64,
            }),
            ..OutputFile::default()
        };
        ActionResult {
            output_files: vec![output("rlib", number * 2), output("rmeta", number * 2 + 1)],
            execution_metadata: Some(ExecutedActionMetadata {
                worker: "bench".to_owned(),
                ..ExecutedActionMetadata::default()
            }),
            ..ActionResult::default()
        }
    }

    /// A `GetActionResultRequest` for this action.
    pub(crate) fn get(&self, number: u64) -> Bytes {
        framed(&GetActionResultRequest {
            action_digest: Actions::action_digest(number),
            ..GetActionResultRequest::default()
        })
    }

    /// An `UpdateActionResultRequest` for this action.
    pub(crate) fn update(&self, number: u64) -> Bytes {
        framed(&UpdateActionResultRequest {
            action_digest: Actions::action_digest(number),
            action_result: Some(self.result(number)),
            ..UpdateActionResultRequest::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use kache_proto::Message as _;
    use kache_proto::bytestream::WriteRequest;
    use kache_proto::reapi::{BatchUpdateBlobsRequest, FindMissingBlobsRequest};

    use super::*;

    #[test]
    fn requests_decode_to_the_given_contents() {
        let contents = Contents::new(4096);
        let asked = find_missing(&contents, 3..5);
        let asked = FindMissingBlobsRequest::decode(&asked[5..]).expect("well-formed");
        assert_eq!(asked.blob_digests[1].hash, contents.nth(4).hash);
        let update = batch_update(&contents, 0..3).to_vec();
        let update = BatchUpdateBlobsRequest::decode(&update[5..]).expect("well-formed");
        assert!(contents.is_nth(2, &update.requests[2].data));
    }

    #[test]
    fn a_write_sends_the_whole_content_at_every_chunk_size() {
        let contents = Contents::new(100_000);
        for chunk in [16_384, 99_950, 99_990, 100_000, 200_000] {
            let body = Writes::new(contents.clone(), chunk).nth(9).to_vec();
            let mut bytes = Vec::new();
            let messages = crate::wire::messages(&body);
            for (position, message) in messages.iter().enumerate() {
                let message = WriteRequest::decode(*message).expect("well-formed");
                assert_eq!(message.write_offset, bytes.len() as i64);
                assert_eq!(message.finish_write, position + 1 == messages.len());
                assert_eq!(message.resource_name.is_empty(), position > 0);
                bytes.extend_from_slice(&message.data);
            }
            assert!(contents.is_nth(9, &bytes));
        }
    }
}
