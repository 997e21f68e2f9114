//! Connects the store with `serve`, the served protocols: the driver calls it once the store is open.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use kache_cas::Store;
use tokio::net::UnixListener;

use super::activity::Activity;
use super::draining::Draining;
use super::driver::ServeFn;
use super::serve::accept::{self, Reception};
use super::serve::context::Shared;
use super::serve::door::BothProtocols;
use super::serve::lanes::Lanes;
use super::serve::limits::Limits;
use super::serve::listen::Bound;
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
    let shared = Shared::new(store, Limits::default(), Arc::clone(&activity));
    let reception = Reception {
        metrics: Arc::clone(&shared.metrics),
        door: BothProtocols::new(shared),
        activity,
        draining,
        limits: accept::Limits::default(),
        lanes: Lanes::default(),
    };
    reception.run(tcp, unix).await;
}
