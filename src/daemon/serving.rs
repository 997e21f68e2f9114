//! Connects the daemon with the crate `kache-serve`: its settings, its store, its counters and its
//! drain signal become those of the server.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use kache_cas::Store;
use kache_serve::{Bound, HostPort, ListenOptions, MetricsAddress, TlsOptions};
use tokio::net::UnixListener;

use super::activity::Activity;
use super::draining::Draining;
use super::driver::ServeFn;
use crate::config::Settings;
use crate::config::serve::{ListenAddress, MetricsListener, ServeSettings};
use crate::lookup::Uploads;

/// Returns whether compiles use results that clients have uploaded.
pub(super) fn uploads(settings: &Settings) -> Uploads {
    if settings.serve.trust_uploads { Uploads::Trusted } else { Uploads::Ignored }
}

/// Returns the server's options for these settings.
pub(super) fn listen_options(settings: &ServeSettings) -> ListenOptions {
    let address = |address: &Option<ListenAddress>| address.as_ref().map(host_port);
    ListenOptions {
        listen: address(&settings.listen),
        http_listen: address(&settings.http_listen),
        metrics: match &settings.metrics {
            MetricsListener::Shared => MetricsAddress::Shared,
            MetricsListener::Off => MetricsAddress::Off,
            MetricsListener::Own(address) => MetricsAddress::Own(host_port(address)),
        },
        hosts: settings.hosts.clone(),
        read_only: settings.read_only,
        tls: settings.tls.as_ref().map(|tls| TlsOptions {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
        }),
        tokens: settings.tokens.clone(),
        anonymous_reads: settings.anonymous_reads,
        allow_insecure: settings.allow_insecure,
        insecure_address: address(&settings.insecure_address),
    }
}

fn host_port(address: &ListenAddress) -> HostPort {
    HostPort { host: address.host().to_owned(), port: address.port() }
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
