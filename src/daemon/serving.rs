//! Connects the store with `serve`, the served protocols: the driver calls it once the store is open.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use kache_cas::Store;
use tokio::net::UnixListener;

use super::activity::Activity;
use super::draining::Draining;
use super::driver::ServeFn;
use super::serve::accept::{self, Acceptor};
use super::serve::connection_threads::ConnectionThreads;
use super::serve::context::ServerState;
use super::serve::limits::ServeLimits;
use super::serve::listen::Bound;
use super::serve::protocol_router::ProtocolRouter;
use crate::config::Settings;
use crate::lookup::Uploads;

/// Returns whether compiles use results that clients have uploaded.
pub(super) fn uploads(settings: &Settings) -> Uploads {
    if settings.serve.trust_uploads { Uploads::Trusted } else { Uploads::Ignored }
}

/// Returns the function that serves the store on these TCP and Unix listeners.
pub(super) fn on(tcp: Vec<Bound>, unix: StdUnixListener) -> ServeFn {
    Box::new(move |store, activity, draining| Box::pin(serve(tcp, unix, store, activity, draining)))
}

async fn serve(
    tcp: Vec<Bound>,
    unix: StdUnixListener,
    store: Arc<Store>,
    activity: Arc<Activity>,
    draining: Draining,
) {
    let unix = match unix.set_nonblocking(true).and_then(|()| UnixListener::from_std(unix)) {
        Ok(unix) => Some(unix),
        Err(error) => {
            tracing::error!("failed to serve on the Unix socket: {error}");
            None
        }
    };
    let shared = ServerState::new(store, ServeLimits::default(), Arc::clone(&activity));
    let acceptor = Acceptor {
        metrics: Arc::clone(&shared.metrics),
        handler: ProtocolRouter::new(shared),
        activity,
        draining,
        limits: accept::AcceptLimits::default(),
        threads: ConnectionThreads::default(),
    };
    acceptor.run(tcp, unix).await;
}
