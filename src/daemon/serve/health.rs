//! `grpc.health.v1.Health`: whether this daemon takes requests.
//!
//! A daemon that is leaving says `NOT_SERVING` and ends the watches, which would otherwise
//! keep it from leaving.

use http::Response;
use hyper::body::Incoming;
use kache_proto::health::health_check_response::ServingStatus;
use kache_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::Status;

use super::context::Context;
use super::message;
use super::reply::{self, Body};

/// The services that can be asked about; the empty name is the server as a whole.
const SERVICES: [&str; 5] = [
    "",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "google.bytestream.ByteStream",
];

/// `Check`.
pub(super) async fn check(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<HealthCheckRequest, _>(body, &context.shared).await?;
    if !SERVICES.contains(&request.service.as_str()) {
        return Err(Status::not_found("there is no such service here"));
    }
    Ok(reply::message(&response(now(context))))
}

/// `Watch`: the state now, and its one change.
pub(super) async fn watch(context: &Context, body: Incoming) -> Result<Response<Body>, Status> {
    let (request, _room) = message::only::<HealthCheckRequest, _>(body, &context.shared).await?;
    let mut draining = context.draining.clone();
    let is_known = SERVICES.contains(&request.service.as_str());
    let first = if is_known { now(context) } else { ServingStatus::ServiceUnknown };
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let mut status = first;
        loop {
            if sender.send(Ok(reply::framed(&response(status)))).await.is_err() {
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
    Ok(reply::messages(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
}

fn now(context: &Context) -> ServingStatus {
    if context.draining.has_begun() { ServingStatus::NotServing } else { ServingStatus::Serving }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}
