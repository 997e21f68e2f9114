//! `grpc.health.v1.Health`: whether this server takes requests.
//!
//! While the daemon drains, the answer is `NOT_SERVING`, and watches are ended: an open request
//! would keep the daemon from leaving.

use http::Response;
use hyper::body::Incoming;
use kache_proto::health::health_check_response::ServingStatus;
use kache_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::Status;

use super::context::RequestContext;
use super::grpc_response::{self as response, ResponseBody};
use super::message;

/// The services with a health status. The empty name is the server as a whole.
const SERVICES: [&str; 5] = [
    "",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "google.bytestream.ByteStream",
];

/// Handles a `Check` request of the health protocol.
pub(super) async fn check(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<HealthCheckRequest, _>(body, &context.shared).await?;
    if !SERVICES.contains(&request.service.as_str()) {
        return Err(Status::not_found("this server does not offer the service"));
    }
    Ok(response::message(&response(now(context))))
}

/// `Watch`: sends the status now, and once more when draining begins.
pub(super) async fn watch(
    context: &RequestContext,
    body: Incoming,
) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<HealthCheckRequest, _>(body, &context.shared).await?;
    let mut draining = context.draining.clone();
    let is_known = SERVICES.contains(&request.service.as_str());
    let first = if is_known { now(context) } else { ServingStatus::ServiceUnknown };
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let mut status = first;
        loop {
            if sender.send(Ok(response::framed(&response(status)))).await.is_err() {
                return;
            }
            if status == ServingStatus::NotServing {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = draining.begun() => status = ServingStatus::NotServing,
            }
        }
    });
    Ok(response::messages(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
}

fn now(context: &RequestContext) -> ServingStatus {
    if context.draining.has_begun() { ServingStatus::NotServing } else { ServingStatus::Serving }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}
