//! The driver with a store in memory and real sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kache_cas::{Digest, DigestFunction, Store, StoreError, StoreSettings};
use kache_client::control::{DaemonStatus, reply, request};
use kache_client::{DaemonAddress, DaemonConnection, Intent, PROTOCOL, VERSION};

use super::core::{Core, Identity};
use super::draining::Draining;
use super::driver::{Driver, ServeFn};
use super::gate::Gate;
use super::status::{DaemonInfo, STATUSES_MAX};
use super::upkeep::OpenStore;
use crate::lookup::Uploads;

struct Daemon {
    address: DaemonAddress,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

fn start(idle_timeout: Option<Duration>, open_store: OpenStore) -> Daemon {
    let serve = Box::new(|_, _, mut draining: Draining| Box::pin(async move { draining.begun().await }) as _);
    start_serving(idle_timeout, open_store, serve)
}

fn start_serving(idle_timeout: Option<Duration>, open_store: OpenStore, serve: ServeFn) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let address = DaemonAddress::new(&dir.path().join("cache"), Some(&dir.path().join("s")));
    address.prepare().unwrap();
    let listener = kache_client::os::listen(&address.control_socket()).unwrap();
    let identity = Identity { protocol: PROTOCOL, version: VERSION.into(), pid: std::process::id() };
    let (core, first) = Core::new(identity.clone(), idle_timeout);
    let info = DaemonInfo {
        identity,
        idle_timeout,
        cache_dir: "cache".into(),
        listening: vec!["here".into()],
        log_file: String::new(),
        troubles: vec!["no log".into()],
        limit_bytes: 7,
    };
    let sockets = vec![address.control_socket()];
    let store_dir = dir.path().join("cache");
    let driver = Driver {
        core,
        first,
        info,
        open_store,
        store_dir,
        uploads: Uploads::Ignored,
        serve: Some(serve),
        rejecting: None,
        sockets,
    };
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(driver.run(listener)).unwrap();
        runtime.shutdown_background();
    });
    Daemon { address, thread: Some(thread), _dir: dir }
}

impl Daemon {
    fn connection(&self) -> DaemonConnection {
        DaemonConnection::open(&self.address, Intent::Look, soon()).unwrap()
    }

    fn status(&self) -> DaemonStatus {
        match self.connection().request(request::Kind::Status(request::Status {}), soon()).unwrap() {
            reply::Kind::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn wait_for_state(&self, state: &str) -> DaemonStatus {
        let deadline = soon();
        loop {
            let status = self.status();
            if status.store_state == state || Instant::now() > deadline {
                assert_eq!(status.store_state, state);
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(mut self) {
        let stop = request::Kind::Stop(request::Stop::default());
        assert!(matches!(self.connection().request(stop, soon()), Ok(reply::Kind::Stopping(_))));
        self.thread.take().unwrap().join().unwrap();
        assert!(!self.address.control_socket().exists());
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn in_memory() -> OpenStore {
    Arc::new(|| Ok(Store::in_memory(StoreSettings::new("/unused"))))
}

fn unusable(path: &Path) -> StoreError {
    StoreError::Unusable { path: path.to_owned(), why: "was made by a newer kache".into() }
}

#[test]
fn the_daemon_answers_while_the_store_opens() {
    let slow: OpenStore = Arc::new(|| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(Store::in_memory(StoreSettings::new("/unused")))
    });
    let daemon = start(None, slow);
    assert_eq!(daemon.status().store_state, "opening");
    let status = daemon.wait_for_state("open");
    assert_eq!(status.store.unwrap().troubles, ["no log"]);
    daemon.stop();
}

#[test]
fn sto_07_the_daemon_answers_and_reports_why_the_store_cannot_be_used() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let broken_once: OpenStore = Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Err(unusable(Path::new("/cache"))),
        _ => Ok(Store::in_memory(StoreSettings::new("/unused"))),
    });
    let daemon = start(None, broken_once);
    let status = daemon.wait_for_state("unusable");
    assert_eq!(status.store.unwrap().troubles, ["the store at `/cache` was made by a newer kache", "no log"]);
    daemon.wait_for_state("open");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    daemon.stop();
}

/// A thread that stores a blob holds the lock of a store in memory while it asks for the time.
#[test]
fn dmn_03_a_store_that_hangs_does_not_hold_up_the_loop() {
    let clock = Arc::<Gate>::default();
    let (asked, closed) = (Arc::clone(&clock), Arc::clone(&clock));
    let open_store: OpenStore = Arc::new(move || {
        let settings = StoreSettings { clock: asked.clone(), ..StoreSettings::new("/unused") };
        Ok(Store::in_memory(settings))
    });
    let serve: ServeFn = Box::new(move |store, _, mut draining| {
        closed.set(true);
        let blob = (Digest::of(DigestFunction::Blake3, b"blob"), "blob".into());
        std::thread::spawn(move || drop(store.blobs().insert(&[blob])));
        Box::pin(async move { draining.begun().await })
    });
    let daemon = start_serving(None, open_store, serve);
    let status = daemon.wait_for_state("unusable");
    assert_eq!(status.store.unwrap().troubles, ["no log", "it does not answer in time"]);
    // More clients than there are threads that may wait for the store.
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..STATUSES_MAX + 4).map(|_| scope.spawn(|| daemon.status())).collect();
        for status in asking {
            assert_eq!(status.join().unwrap().store_state, "unusable");
        }
    });
    clock.set(false);
    daemon.wait_for_state("open");
    daemon.stop();
}

#[test]
fn the_daemon_leaves_when_it_is_idle() {
    let mut daemon = start(Some(Duration::from_millis(600)), in_memory());
    daemon.wait_for_state("open");
    daemon.thread.take().unwrap().join().unwrap();
    assert!(!daemon.address.control_socket().exists());
}

#[test]
fn the_daemon_leaves_when_its_socket_is_removed() {
    let mut daemon = start(None, in_memory());
    daemon.wait_for_state("open");
    std::fs::remove_file(daemon.address.control_socket()).unwrap();
    daemon.thread.take().unwrap().join().unwrap();
}

/// With nothing to wait for, the daemon ends at once, and the reply is sent all the same.
#[test]
fn a_client_that_stops_the_daemon_gets_a_reply() {
    for _ in 0..50 {
        let daemon = start(None, Arc::new(|| Err(unusable(Path::new("/cache")))));
        daemon.wait_for_state("unusable");
        daemon.stop();
    }
}
