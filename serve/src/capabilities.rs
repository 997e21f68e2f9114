//! REAPI `Capabilities`: the versions, digest functions and limits of this server, and whether
//! the caller may store action results.

use http::Response;
use hyper::body::Incoming;
use kache_cas::DigestFunction;
use kache_proto::reapi::symlink_absolute_path_strategy::Value as Symlinks;
use kache_proto::reapi::{
    ActionCacheUpdateCapabilities, CacheCapabilities, GetCapabilitiesRequest, ServerCapabilities, compressor,
};
use kache_proto::semver::SemVer;
use tonic::Status;

use super::context::RequestContext;
use super::grpc_response::{self as response, ResponseBody};
use super::{message, wire_digest};

/// The lowest API version. Bazel before 5 refuses a server whose lowest version is higher.
const LOW: (i32, i32) = (2, 0);

/// The newest API version of which everything that a cache needs is implemented.
const HIGH: (i32, i32) = (2, 11);

/// Handles a `GetCapabilities` request.
pub(super) async fn get(context: &RequestContext, body: Incoming) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<GetCapabilitiesRequest, _>(body, &context.shared).await?;
    wire_digest::check(&request.instance_name)?;
    Ok(response::message(&capabilities(context)))
}

fn version((major, minor): (i32, i32)) -> SemVer {
    SemVer { major, minor, ..SemVer::default() }
}

/// The capabilities for this caller. `execution_capabilities` stay unset, because some clients
/// take `exec_enabled = false` for an error.
fn capabilities(context: &RequestContext) -> ServerCapabilities {
    let limits = context.limits();
    // SHA-256 comes first: a client that takes the first function it knows then shares results
    // with the clients that know no other.
    let functions = [DigestFunction::Sha256, DigestFunction::Blake3];
    let compressors = vec![compressor::Value::Zstd as i32];
    let cache = CacheCapabilities {
        digest_functions: functions.map(wire_digest::function_value).to_vec(),
        action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
            update_enabled: context.access.may_write(),
        }),
        max_batch_total_size_bytes: i64::try_from(limits.batch_bytes_max).unwrap_or(i64::MAX),
        symlink_absolute_path_strategy: Symlinks::Allowed as i32,
        supported_compressors: compressors.clone(),
        supported_batch_update_compressors: compressors,
        max_cas_blob_size_bytes: i64::try_from(limits.blob_bytes_max).unwrap_or(i64::MAX),
        ..CacheCapabilities::default()
    };
    ServerCapabilities {
        cache_capabilities: Some(cache),
        low_api_version: Some(version(LOW)),
        high_api_version: Some(version(HIGH)),
        ..ServerCapabilities::default()
    }
}
