//! [`ReapiRemote`], the remote for servers of the Remote Execution API.
//!
//! It distributes the requests of the trait [`Remote`] to the files beside this one, and bounds how many of
//! them are under way.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{Content, Digest};
use kache_proto::bytestream::byte_stream_client::ByteStreamClient;
use kache_proto::reapi::action_cache_client::ActionCacheClient;
use kache_proto::reapi::capabilities_client::CapabilitiesClient;
use kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use kache_proto::reapi::{
    ActionResult, GetActionResultRequest, GetCapabilitiesRequest, UpdateActionResultRequest,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tonic::Code;

use super::capabilities::Offer;
use super::connection::Connections;
use super::connector::Connector;
use super::metadata::Metadata;
use super::names;
use super::stall::WatchedChannel;
use super::statuses::of_status;
use crate::error::RemoteError;
use crate::location::ReapiLocation;
use crate::options::{Compression, OptionsError, RemoteOptions};
use crate::remote::{BlobStream, Capabilities, Remote, RequestContext};

/// The largest message that is read. Servers send at most 4 MiB, but results may be larger.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A remote that speaks the Remote Execution API.
///
/// Downloads and uploads each have `limits.concurrency` requests under way at most. Lookups do not count, so
/// that they never wait for blobs. The stream that [`Remote::read`] returns counts until it is dropped.
#[derive(Clone)]
pub struct ReapiRemote {
    shared: Arc<Shared>,
}

impl ReapiRemote {
    /// Makes a remote. It reads the files for TLS, and connects when the first request needs it.
    pub fn new(location: ReapiLocation, options: &RemoteOptions) -> Result<ReapiRemote, OptionsError> {
        let connector = Connector::new(location, options)?;
        let concurrency = options.limits.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            instance: options.instance.clone(),
            metadata: Metadata::new(options)?,
            connections: Connections::new(connector, options)?,
            compression: options.compression,
            downloads: Arc::new(Semaphore::new(concurrency)),
            uploads: Arc::new(Semaphore::new(concurrency)),
        };
        Ok(ReapiRemote { shared: Arc::new(shared) })
    }
}

/// Shows the location and nothing that may be secret.
impl fmt::Debug for ReapiRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReapiRemote({})", self.shared.connections.connector().location())
    }
}

/// The values that all requests of a remote share.
pub(super) struct Shared {
    /// The instance name that every request carries.
    pub(super) instance: String,
    /// The headers that every request carries.
    pub(super) metadata: Metadata,
    /// Whether blobs are compressed where the server can.
    pub(super) compression: Compression,
    connections: Connections,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Shared {
    /// Returns what the server offers, and asks it once for each connection.
    pub(super) async fn offer(&self) -> Result<Offer, RemoteError> {
        let connection = self.connections.get();
        let mut known = connection.offer.lock().await;
        let connects = || self.connections.connector().connects();
        if let Some((number, offer)) = *known
            && number == connects()
        {
            return Ok(offer);
        }
        let message = GetCapabilitiesRequest { instance_name: self.instance.clone() };
        let request = self.metadata.request(message, &RequestContext::default());
        let response = CapabilitiesClient::new(connection.channel.clone()).get_capabilities(request).await;
        let response = response.map_err(|status| of_status("GetCapabilities", &status))?;
        let offer = Offer::read(response.get_ref())?;
        *known = Some((connects(), offer));
        Ok(offer)
    }

    fn channel(&self) -> WatchedChannel {
        self.connections.get().channel.clone()
    }

    /// Returns a client of the action cache.
    fn actions(&self) -> ActionCacheClient<WatchedChannel> {
        ActionCacheClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Returns a client of the storage.
    pub(super) fn storage(&self) -> ContentAddressableStorageClient<WatchedChannel> {
        ContentAddressableStorageClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Returns a client for streams of bytes.
    pub(super) fn streams(&self) -> ByteStreamClient<WatchedChannel> {
        ByteStreamClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Waits until another download may begin.
    pub(super) async fn download(&self) -> OwnedSemaphorePermit {
        permit(&self.downloads).await
    }

    /// Waits until another upload may begin.
    pub(super) async fn upload(&self) -> OwnedSemaphorePermit {
        permit(&self.uploads).await
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        let message = GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(names::wire(action)),
            digest_function: names::function_field(action.function),
            ..GetActionResultRequest::default()
        };
        match self.actions().get_action_result(self.metadata.request(message, context)).await {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(of_status("GetActionResult", &status)),
        }
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        context: &RequestContext,
    ) -> Result<(), RemoteError> {
        let message = UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(names::wire(action)),
            action_result: Some(result.clone()),
            results_cache_policy: None,
            digest_function: names::function_field(action.function),
        };
        match self.actions().update_action_result(self.metadata.request(message, context)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(of_status("UpdateActionResult", &status)),
        }
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

/// Returns the outcome of a task. A panic goes on in the caller.
pub(super) fn joined<T>(outcome: Result<T, JoinError>) -> Result<T, RemoteError> {
    outcome.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => RemoteError::unavailable("this program is being stopped"),
    })
}

/// Runs a function that may block on a thread for such functions.
pub(super) async fn blocking<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RemoteError> {
    joined(tokio::task::spawn_blocking(function).await)
}

#[async_trait]
impl Remote for ReapiRemote {
    async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        Ok(self.shared.offer().await?.capabilities)
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        self.shared.get_result(action, context).await
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        context: &RequestContext,
    ) -> Result<(), RemoteError> {
        self.shared.put_result(action, result, context).await
    }

    async fn find_missing(
        &self,
        blobs: &[Digest],
        context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError> {
        super::missing::find_missing(&self.shared, blobs, context).await
    }

    async fn read_small(
        &self,
        blobs: &[Digest],
        context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError> {
        super::read_batch::read_small(&self.shared, blobs, context).await
    }

    async fn read(&self, blob: &Digest, context: &RequestContext) -> Result<Option<BlobStream>, RemoteError> {
        super::read_stream::read(&self.shared, blob, context).await
    }

    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>> {
        super::write_batch::write(&self.shared, blobs, context).await
    }
}
