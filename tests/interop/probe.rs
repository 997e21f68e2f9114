//! A gRPC client for operations that no tool offers: storing an action and its result, and filling the server.
//!
//! It uses the published protocol through generated code, and no type of kache.

use kache_proto::Message;
use kache_proto::reapi::action_cache_client::ActionCacheClient;
use kache_proto::reapi::batch_update_blobs_request::Request as Upload;
use kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use kache_proto::reapi::{
    ActionResult, BatchUpdateBlobsRequest, Digest, GetActionResultRequest, UpdateActionResultRequest,
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The size of blobs that fill a server, which fit in one message.
const FILL_BLOB_BYTES: usize = 3_000_000;

/// A connection and its async runtime.
pub(crate) struct Probe {
    runtime: Runtime,
    channel: Channel,
}

/// The outcomes of uploads.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) stored: u32,
    pub(crate) refused: u32,
}

/// The digest of some bytes, as a protocol message.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest { hash, size_bytes: bytes.len().try_into().expect("a size fits") }
}

impl Probe {
    /// Connects to a port of this machine.
    pub(crate) fn connect(port: u16) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let address = format!("http://127.0.0.1:{port}");
        let connecting = async { Channel::from_shared(address).expect("it is an address").connect().await };
        let channel = runtime.block_on(connecting).expect("the server answers");
        Probe { runtime, channel }
    }

    /// Stores a message as a blob.
    pub(crate) fn store(&self, message: &impl Message) -> Digest {
        let bytes = message.encode_to_vec();
        let digest = digest(&bytes);
        self.upload(bytes).expect("a small blob is stored");
        digest
    }

    /// Stores an action's result.
    pub(crate) fn update(&self, action: Digest, result: ActionResult) {
        let mut client = ActionCacheClient::new(self.channel.clone());
        let request = UpdateActionResultRequest {
            action_digest: Some(action),
            action_result: Some(result),
            ..UpdateActionResultRequest::default()
        };
        let answer = self.runtime.block_on(client.update_action_result(request));
        answer.expect("a complete result is stored");
    }

    /// Looks an action up.
    pub(crate) fn get(&self, action: Digest) -> Option<ActionResult> {
        let mut client = ActionCacheClient::new(self.channel.clone());
        let request =
            GetActionResultRequest { action_digest: Some(action), ..GetActionResultRequest::default() };
        match self.runtime.block_on(client.get_action_result(request)) {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => panic!("failed to look an action up: {status}"),
        }
    }

    /// Uploads this many bytes in different blobs.
    pub(crate) fn fill(&self, bytes: usize) -> Answers {
        let mut answers = Answers::default();
        for number in 0..bytes / FILL_BLOB_BYTES {
            let mut blob = vec![0; FILL_BLOB_BYTES];
            blob[..8].copy_from_slice(&number.to_le_bytes());
            match self.upload(blob) {
                Ok(()) => answers.stored += 1,
                Err(status) if status.code() == Code::ResourceExhausted => answers.refused += 1,
                Err(status) => panic!("failed to upload: {status}"),
            }
        }
        answers
    }

    fn upload(&self, bytes: Vec<u8>) -> Result<(), Status> {
        let mut client = ContentAddressableStorageClient::new(self.channel.clone());
        let upload = Upload { digest: Some(digest(&bytes)), data: bytes.into(), ..Upload::default() };
        let request =
            BatchUpdateBlobsRequest { requests: vec![upload], ..BatchUpdateBlobsRequest::default() };
        let answer = self.runtime.block_on(client.batch_update_blobs(request))?.into_inner();
        let status = answer.responses.into_iter().next().and_then(|response| response.status);
        let status = status.expect("each blob is answered");
        if status.code == 0 { Ok(()) } else { Err(Status::new(Code::from(status.code), status.message)) }
    }
}
