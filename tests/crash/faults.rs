//! A disk that fails while the daemon works: no space, I/O errors on reads and writes, no descriptors, short
//! writes.
//!
//! `faultfs.c` is preloaded into the daemon, and makes file calls of the daemon and of RocksDB fail. In all cases
//! the daemon keeps running, serves nothing wrong, and has everything that it acknowledged when the disk works
//! again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use crate::daemon::{Daemon, Home};
use crate::load::{Found, Ledger, check, is_death, upload};
use crate::tree::blob_files_that_are_their_names;

const KIND_ENOSPC: u32 = 1;
const KIND_EIO_WRITE: u32 = 2;
const KIND_EIO_READ: u32 = 4;
const KIND_EMFILE: u32 = 8;
const KIND_SHORT_WRITE: u32 = 16;

const WORKERS: u64 = 4;
/// How long the load runs with each kind of fault.
const FAULTY: Duration = Duration::from_secs(3);
/// How long the daemon may take to recover after the disk works again.
const RECOVERY: Duration = Duration::from_secs(30);
/// This many uploads in a row have all sizes.
const UPLOADS_WHEN_WELL: u32 = 12;

/// The settings that the test shares with the preloaded library. `faultfs.c` has the same layout.
struct Control {
    file: File,
    path: PathBuf,
}

impl Control {
    fn new(path: PathBuf) -> Control {
        fs::write(&path, [0; 16]).unwrap();
        Control { file: File::options().read(true).write(true).open(&path).unwrap(), path }
    }

    fn set(&self, kinds: u32, one_in: u32) {
        self.file.write_all_at(&one_in.to_ne_bytes(), 4).unwrap();
        self.file.write_all_at(&kinds.to_ne_bytes(), 0).unwrap();
    }

    fn injected(&self) -> u32 {
        let mut count = [0; 4];
        self.file.read_exact_at(&mut count, 8).unwrap();
        u32::from_ne_bytes(count)
    }
}

/// Compiles the library. A machine that built RocksDB has a C compiler.
fn build_library(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/faultfs.c");
    let library = dir.join("faultfs.so");
    let built = Command::new("cc")
        .args(["-Wall", "-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("a C compiler is installed");
    assert!(built.success(), "faultfs.c does not compile");
    library
}

/// Uploads and checks until the time is over. The daemon may refuse requests, and may be away for a moment to open
/// its store again. `check` panics if the daemon serves something incomplete.
async fn disturbed_load(channel: Channel, ledger: Arc<Ledger>, until: Instant) {
    while Instant::now() < until {
        let seed = ledger.next();
        let uploaded = upload(channel.clone(), seed).await;
        if uploaded.is_ok() {
            ledger.acknowledge(seed);
        }
        let checked = check(channel.clone(), seed / 2).await;
        if uploaded.is_err_and(|status| is_death(&status)) || checked.is_err_and(|status| is_death(&status)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn run_under(kinds: u32, one_in: u32) {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::new(dir.path().join("control"));
    let cache_dir = dir.path().join("cache");
    let mut home = Home::new(&dir.path().join("home"), &cache_dir);
    for (name, path) in [
        ("LD_PRELOAD", build_library(dir.path())),
        ("FAULTFS_CONTROL", control.path.clone()),
        ("FAULTFS_BELOW", cache_dir.clone()),
    ] {
        home.env.push((name.to_owned(), path.to_str().unwrap().to_owned()));
    }
    let ledger = Arc::new(Ledger::default());
    let mut daemon = Daemon::start(&home).await;

    control.set(kinds, one_in);
    let until = Instant::now() + FAULTY;
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(disturbed_load(daemon.channel.clone(), Arc::clone(&ledger), until)))
        .collect();
    for worker in workers {
        worker.await.unwrap_or_else(|error| panic!("{error}; the daemon said:\n{}", home.log_end()));
    }
    control.set(0, 0);
    assert!(control.injected() > 0, "no fault was injected: this proves nothing");
    assert!(daemon.is_running(), "the daemon left; it said:\n{}", home.log_end());

    await_recovery(&daemon, &ledger, &home).await;
    check_all(&daemon, &ledger).await;
    daemon.kill();
    home.env.clear();
    check_all(&Daemon::start(&home).await, &ledger).await;
    assert!(blob_files_that_are_their_names(&cache_dir) > 0, "the layout has changed");
}

/// Waits until the same process accepts uploads of every size, now that the disk works.
async fn await_recovery(daemon: &Daemon, ledger: &Ledger, home: &Home) {
    let deadline = Instant::now() + RECOVERY;
    let mut in_a_row = 0;
    while in_a_row < UPLOADS_WHEN_WELL {
        let seed = ledger.next();
        match upload(daemon.channel.clone(), seed).await {
            Ok(()) => {
                ledger.acknowledge(seed);
                in_a_row += 1;
            }
            Err(status) if Instant::now() > deadline => {
                panic!("the daemon did not recover: {status}; it said at the end:\n{}", home.log_end())
            }
            Err(_) => {
                in_a_row = 0;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Asserts that everything that was acknowledged is there and complete.
async fn check_all(daemon: &Daemon, ledger: &Ledger) {
    for seed in ledger.acknowledged() {
        let found = check(daemon.channel.clone(), seed).await.expect("the disk is well");
        assert_eq!(found, Found::Whole, "action {seed} was acknowledged and lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_07_a_disk_without_space() {
    run_under(KIND_ENOSPC, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_07_a_disk_that_cannot_write() {
    run_under(KIND_EIO_WRITE, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_08_an_unreadable_blob_is_not_an_absent_one() {
    run_under(KIND_EIO_READ, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_07_no_descriptors_left() {
    run_under(KIND_EMFILE, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_01_short_writes_are_continued() {
    run_under(KIND_SHORT_WRITE, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_01_all_kinds_of_faults_at_once() {
    run_under(KIND_ENOSPC | KIND_EIO_WRITE | KIND_EIO_READ | KIND_EMFILE | KIND_SHORT_WRITE, 20).await;
}
