//! What a server has, and what it expects of every request: the form of messages, and that nothing is named before it
//! is there.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kache_cas::DigestFunction;
use kache_proto::Message;
use kache_proto::bytestream::WriteRequest;
use kache_proto::reapi::digest_function::Value as Function;
use kache_proto::reapi::{
    Action, ActionCacheUpdateCapabilities, ActionResult, BatchUpdateBlobsRequest, CacheCapabilities, Command,
    Digest, RequestMetadata, ServerCapabilities, Tree,
};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::recording_server::Kind;

/// The limit of batches where a server does not say one.
const BATCH_BYTES_MAX: usize = 4_000_000;

/// A server's memory.
pub(crate) struct Recording {
    kind: Kind,
    blobs: HashMap<Digest, Bytes>,
    results: BTreeMap<String, ActionResult>,
    requests: usize,
    /// The blobs that came in batches, the blobs that came in streams, and the results.
    writes: [usize; 3],
    complaints: Vec<String>,
}

impl Recording {
    pub(crate) fn new(kind: Kind) -> Self {
        Recording {
            kind,
            blobs: HashMap::new(),
            results: BTreeMap::new(),
            requests: 0,
            writes: [0; 3],
            complaints: Vec::new(),
        }
    }

    /// Asserts that every request was as it should be.
    #[track_caller]
    pub(crate) fn expect_no_complaint(&self) {
        assert_eq!(self.complaints, [""; 0]);
    }

    /// The number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// The numbers of blobs in batches, of blobs in streams, and of results that were written.
    pub(crate) fn writes(&self) -> [usize; 3] {
        self.writes
    }

    /// Forgets every second blob.
    pub(crate) fn forget_half_of_the_blobs(&mut self) {
        let mut digests: Vec<Digest> = self.blobs.keys().cloned().collect();
        digests.sort_unstable_by(|one, other| one.hash.cmp(&other.hash));
        for digest in digests.iter().step_by(2) {
            self.blobs.remove(digest);
        }
    }

    /// Forgets every second result.
    pub(crate) fn forget_half_of_the_results(&mut self) {
        let mut index = 0;
        self.results.retain(|_, _| {
            index += 1;
            index % 2 == 0
        });
    }

    /// Begins a request: it must have the metadata of REAPI, and the header that this server demands.
    pub(super) fn begin(&mut self, headers: &MetadataMap) -> Result<(), Status> {
        self.requests += 1;
        if let Some((name, value)) = self.kind.header {
            let is_there = headers.get(name).is_some_and(|found| found == value);
            if !is_there {
                self.complaints.push(format!("a request without `{name}`"));
                return Err(Status::unauthenticated(format!("`{name}` is missing")));
            }
        }
        let metadata = headers.get_bin("build.bazel.remote.execution.v2.requestmetadata-bin");
        let metadata = metadata.and_then(|value| value.to_bytes().ok());
        let metadata = metadata.and_then(|bytes| RequestMetadata::decode(bytes).ok()).unwrap_or_default();
        let tool = metadata.tool_details.unwrap_or_default();
        self.expect(tool.tool_name == "kache" && !tool.tool_version.is_empty(), || {
            format!("the tool is {tool:?}")
        });
        Ok(())
    }

    pub(super) fn capabilities(&self) -> ServerCapabilities {
        let mut functions = vec![Function::Sha256 as i32];
        if self.kind.has_blake3 {
            functions.push(Function::Blake3 as i32);
        }
        let cache = CacheCapabilities {
            digest_functions: functions,
            max_batch_total_size_bytes: self.kind.batch_bytes_max,
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
                update_enabled: !self.kind.takes_no_results,
            }),
            ..CacheCapabilities::default()
        };
        ServerCapabilities { cache_capabilities: Some(cache), ..ServerCapabilities::default() }
    }

    fn expect(&mut self, is_true: bool, complaint: impl FnOnce() -> String) {
        if !is_true {
            self.complaints.push(complaint());
        }
    }

    fn function(&self) -> DigestFunction {
        if self.kind.has_blake3 { DigestFunction::Blake3 } else { DigestFunction::Sha256 }
    }

    /// Asserts that a message names BLAKE3 to a server that has it, and no function to others.
    pub(super) fn expect_function(&mut self, named: i32) {
        let expected = if self.kind.has_blake3 { Function::Blake3 as i32 } else { 0 };
        self.expect(named == expected, || format!("a message with the digest function {named}"));
    }

    /// Reads the digest out of a resource's name.
    pub(super) fn expect_name(&mut self, name: &str) -> Digest {
        let function = if self.kind.has_blake3 { "blobs/blake3/" } else { "blobs/" };
        let digest = name.split_once(function).and_then(|(_, rest)| rest.split_once('/'));
        let digest = digest
            .and_then(|(hash, size)| Some(Digest { hash: hash.to_owned(), size_bytes: size.parse().ok()? }));
        self.expect(digest.is_some(), || format!("a resource with the name `{name}`"));
        digest.unwrap_or_default()
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        if digest.size_bytes == 0 { Some(Bytes::new()) } else { self.blobs.get(digest).cloned() }
    }

    pub(super) fn result(&self, action: &Digest) -> Option<ActionResult> {
        self.results.get(&action.hash).cloned()
    }

    pub(super) fn expect_batch_to_fit(&mut self, batch: &BatchUpdateBlobsRequest) {
        let advertised = usize::try_from(self.kind.batch_bytes_max).unwrap_or_default();
        let limit = if advertised == 0 { BATCH_BYTES_MAX } else { advertised.min(BATCH_BYTES_MAX) };
        let size = batch.encoded_len();
        self.expect(size <= limit, || format!("a batch of {size} bytes"));
        self.writes[0] += batch.requests.len();
    }

    pub(super) fn put_blob(&mut self, digest: &Digest, bytes: &Bytes) {
        let hash = self.function().hash(bytes).to_hex();
        let size = i64::try_from(bytes.len()).unwrap_or_default();
        self.expect(digest.hash == hash && digest.size_bytes == size, || {
            format!("{digest:?} for {size} bytes with the hash {hash}")
        });
        self.blobs.insert(digest.clone(), bytes.clone());
    }

    /// Stores what came in a stream, and returns its length.
    pub(super) fn put_stream(&mut self, messages: &[WriteRequest]) -> i64 {
        self.writes[1] += 1;
        let name = messages.first().map(|message| message.resource_name.clone()).unwrap_or_default();
        let digest = self.expect_name(&name);
        self.expect(name.starts_with("uploads/"), || format!("an upload to `{name}`"));
        let mut bytes = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let is_last = index + 1 == messages.len();
            let is_in_order = usize::try_from(message.write_offset) == Ok(bytes.len());
            self.expect(is_in_order && message.finish_write == is_last, || {
                format!(
                    "message {index} of `{name}` is out of order, or ends the stream too early or too late"
                )
            });
            bytes.extend_from_slice(&message.data);
        }
        let size = i64::try_from(bytes.len()).unwrap_or_default();
        self.put_blob(&digest, &bytes.into());
        size
    }

    /// Stores a result, which must be complete.
    pub(super) fn put_result(&mut self, action: &Digest, result: ActionResult) {
        self.writes[2] += 1;
        self.expect_action(action);
        self.expect_outputs(&result);
        let named = [result.stdout_digest.clone(), result.stderr_digest.clone()];
        named.into_iter().flatten().for_each(|digest| self.expect_blob(&digest, "a stream"));
        let is_plain = result.stdout_raw.is_empty() && result.stderr_raw.is_empty() && result.exit_code == 0;
        self.expect(is_plain, || format!("a result with raw streams or an exit code: {result:?}"));
        let worker = result.execution_metadata.as_ref().map(|metadata| metadata.worker.clone());
        self.expect(worker.is_some_and(|worker| !worker.is_empty()), || "a result without worker".to_owned());
        self.results.insert(action.hash.clone(), result);
    }

    fn expect_outputs(&mut self, result: &ActionResult) {
        for file in &result.output_files {
            let is_plain =
                file.contents.is_empty() && !file.path.starts_with('/') && !file.path.contains("..");
            self.expect(is_plain, || format!("an output with contents or an odd path: `{}`", file.path));
            self.expect_blob(&file.digest.clone().unwrap_or_default(), &file.path);
        }
        for directory in &result.output_directories {
            let tree: Tree = self.message(&directory.tree_digest.clone().unwrap_or_default(), "a tree");
            let directories = tree.root.iter().chain(&tree.children);
            let files: Vec<_> = directories.flat_map(|directory| directory.files.clone()).collect();
            for file in files {
                self.expect_blob(&file.digest.unwrap_or_default(), &file.name);
            }
        }
    }

    /// Asserts that the Action of a key, and the Action's Command, are there in their canonical form.
    fn expect_action(&mut self, digest: &Digest) {
        let action: Action = self.message(digest, "an action");
        let command: Command = self.message(&action.command_digest.clone().unwrap_or_default(), "a command");
        let names = command.environment_variables.iter().map(|variable| &variable.name);
        let is_sorted = names.is_sorted() && command.output_paths.is_sorted();
        self.expect(is_sorted, || format!("a command in another order: {command:?}"));
        let properties = action.platform.iter().flat_map(|platform| &platform.properties);
        let is_sorted = properties.is_sorted_by_key(|property| (&property.name, &property.value));
        self.expect(is_sorted && !action.do_not_cache, || format!("an action in another form: {action:?}"));
    }

    /// Reads a message that must be there, encoded in the only way that has its digest everywhere.
    fn message<M: Message + Default>(&mut self, digest: &Digest, what: &str) -> M {
        self.expect_blob(digest, what);
        let bytes = self.blob(digest).unwrap_or_default();
        let message = M::decode(bytes.clone()).unwrap_or_default();
        self.expect(message.encode_to_vec() == bytes, || format!("{what} in another encoding"));
        message
    }

    fn expect_blob(&mut self, digest: &Digest, what: &str) {
        let is_there = !digest.hash.is_empty() && self.blob(digest).is_some();
        self.expect(is_there, || format!("a result before a blob: {what} {digest:?}"));
    }
}

/// What a server complains of after this request.
fn complaints(request: impl FnOnce(&mut Recording)) -> Vec<String> {
    let mut recording = Recording::new(Kind { batch_bytes_max: 65_536, ..Kind::default() });
    request(&mut recording);
    recording.complaints
}

#[test]
fn wrong_requests_are_noticed() {
    let digest = |bytes: &[u8]| Digest {
        hash: DigestFunction::Sha256.hash(bytes).to_hex(),
        size_bytes: bytes.len().try_into().unwrap_or_default(),
    };
    let piece = |finish_write| WriteRequest {
        resource_name: format!("uploads/1/blobs/{}/1", digest(b"x").hash),
        finish_write,
        data: Bytes::from_static(b"x"),
        ..WriteRequest::default()
    };
    let raw = ActionResult { stdout_raw: Bytes::from_static(b"x"), ..ActionResult::default() };
    let wrong: [Vec<String>; 7] = [
        complaints(|recording| drop(recording.begin(&MetadataMap::new()))),
        complaints(|recording| recording.expect_function(Function::Sha256 as i32)),
        complaints(|recording| drop(recording.expect_name("blobs/blake3/ab/1"))),
        complaints(|recording| recording.put_blob(&digest(b"x"), &Bytes::from_static(b"y"))),
        complaints(|recording| assert_eq!(recording.put_stream(&[piece(false)]), 1)),
        complaints(|recording| assert_eq!(recording.put_stream(&[piece(true), piece(true)]), 2)),
        complaints(|recording| recording.put_result(&digest(b"x"), raw)),
    ];
    for (index, complaints) in wrong.iter().enumerate() {
        assert!(!complaints.is_empty(), "wrong request {index} was not noticed");
    }
    assert_eq!(complaints(|recording| assert_eq!(recording.put_stream(&[piece(true)]), 1)), [""; 0]);
}
