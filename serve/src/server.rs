//! Serves a store on listeners that are already bound.

use std::sync::Arc;

use tokio::net::UnixListener;

use crate::accept::{AcceptLimits, Acceptor};
use crate::connection_threads::ConnectionThreads;
use crate::context::{Backend, ServerState};
use crate::limits::ServeLimits;
use crate::listen::Bound;
use crate::program::{ActivityCounter, DrainSignal};
use crate::protocol_router::ProtocolRouter;

/// Serves the store until draining has begun and the last connection is closed. The Unix listener
/// must belong to a socket that only the user of this process can reach.
pub async fn serve(
    store: Arc<dyn Backend>,
    tcp: Vec<Bound>,
    unix: Option<UnixListener>,
    activity: Arc<dyn ActivityCounter>,
    draining: DrainSignal,
) {
    let shared = ServerState::new(store, ServeLimits::default(), Arc::clone(&activity));
    let acceptor = Acceptor {
        metrics: Arc::clone(&shared.metrics),
        handler: ProtocolRouter::new(shared),
        activity,
        draining,
        limits: AcceptLimits::default(),
        threads: ConnectionThreads::default(),
    };
    acceptor.run(tcp, unix).await;
}
