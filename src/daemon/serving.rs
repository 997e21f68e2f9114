//! Connects the daemon with the crate `kache-serve`: its store, its counters and its drain
//! signal become those of the server.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use kache_cas::Store;
use kache_serve::Bound;
use tokio::net::UnixListener;

use super::activity::Activity;
use super::draining::Draining;
use super::driver::ServeFn;
use crate::config::Settings;
use crate::lookup::Uploads;

/// Returns whether compiles use results that clients have uploaded.
pub(super) fn uploads(settings: &Settings) -> Uploads {
    if settings.trusts_uploads { Uploads::Trusted } else { Uploads::Ignored }
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
    kache_serve::serve(store, tcp, unix, activity, draining.into()).await;
}
