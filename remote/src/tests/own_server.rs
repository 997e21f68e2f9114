//! Our own server with a store in memory, on a Unix socket or on TCP.

use std::path::Path;
use std::sync::Arc;

use kache_cas::{Store, StoreSettings};
use kache_serve::{ActivityCounter, Backend, DrainSignal, ListenOptions};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Location, ReapiRemote, RemoteOptions};

#[derive(Debug)]
struct NoActivity;

impl ActivityCounter for NoActivity {
    fn request_begun(&self) {}
    fn request_ended(&self) {}
    fn connection_opened(&self) {}
    fn connection_closed(&self) {}
}

/// A server that runs until it is dropped.
pub(crate) struct OwnServer {
    pub(crate) store: Arc<Store>,
    task: JoinHandle<()>,
    _draining: watch::Sender<bool>,
}

impl OwnServer {
    /// Starts a server with an empty store on a Unix socket.
    pub(crate) fn on_socket(path: &Path) -> OwnServer {
        OwnServer::start(Vec::new(), Some(UnixListener::bind(path).unwrap()))
    }

    /// Starts a server with an empty store on a port, which it returns.
    pub(crate) async fn on_port(options: ListenOptions) -> (OwnServer, u16) {
        let options = ListenOptions { listen: Some("127.0.0.1:0".parse().unwrap()), ..options };
        let bound = kache_serve::bind(&options).await.unwrap();
        let port = bound[0].socket.local_addr().unwrap().port();
        (OwnServer::start(bound, None), port)
    }

    fn start(tcp: Vec<kache_serve::Bound>, unix: Option<UnixListener>) -> OwnServer {
        let store = Arc::new(Store::in_memory(StoreSettings::new("/nowhere")));
        let (sender, receiver) = watch::channel(false);
        let backend: Arc<dyn Backend> = Arc::<Store>::clone(&store);
        let serving =
            kache_serve::serve(backend, tcp, unix, Arc::new(NoActivity), DrainSignal::from(receiver));
        OwnServer { store, task: tokio::spawn(serving), _draining: sender }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the remote at a location.
pub(crate) fn open(location: &str, options: &RemoteOptions) -> ReapiRemote {
    let (location, _) = Location::parse(location).unwrap();
    let Location::Reapi(location) = location else { panic!("{location}") };
    ReapiRemote::new(location, options).unwrap()
}
