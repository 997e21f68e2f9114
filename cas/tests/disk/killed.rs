//! A process that stores and evicts is killed at random moments, and the store is checked each time.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kache_cas::clock::ManualClock;
use kache_cas::disk::{DiskSettings, DiskStore};
use kache_cas::evict::Catalog;
use kache_cas::{
    AccessKind, ActionCache, BlobStore, Digest, DigestFunction, Hash, LocalFiles, PlaceOptions, Sharing,
};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, OutputFile};

use crate::support::{SHA256, bytes, files_below, key, open, read, upkeep, write};

/// The variable that tells the child its directory.
const DIRECTORY: &str = "KACHE_TEST_KILLED_DIR";

/// For each round, after how many builds the child is killed, and how many milliseconds later.
const LIVES: [(usize, u64); 10] =
    [(0, 0), (0, 7), (1, 1), (1, 13), (2, 0), (3, 5), (5, 2), (8, 0), (13, 9), (21, 4)];

fn sizes(seed: u8) -> [usize; 3] {
    [usize::from(seed) * 7, 5_000 + usize::from(seed), 150_000 + usize::from(seed)]
}

fn result_naming(digests: &[Digest]) -> ActionResult {
    let file = |digest: &Digest| OutputFile {
        path: digest.hash.to_hex(),
        digest: Some(WireDigest { hash: digest.hash.to_hex(), size_bytes: digest.size_bytes.cast_signed() }),
        ..Default::default()
    };
    ActionResult { output_files: digests.iter().map(file).collect(), ..Default::default() }
}

/// Stores blobs and results that name them, places files and evicts, without end.
#[expect(clippy::print_stdout, reason = "the parent waits for this line")]
fn work(dir: &Path, thread: u8) -> ! {
    // The clock advances half a minute with each build, so that leases end and eviction has
    // something to do.
    let clock = Arc::new(ManualClock::default());
    let settings = DiskSettings { clock: clock.clone(), ..DiskSettings::new(dir.join("store")) };
    let store = Arc::new(DiskStore::open(settings).unwrap());
    println!("open");
    let workers = (0..thread).map(|first| {
        let (store, clock, dir) = (store.clone(), clock.clone(), dir.to_owned());
        std::thread::spawn(move || {
            for seed in (first..).step_by(3).cycle() {
                clock.advance(Duration::from_secs(30));
                one_build(&store, &dir, seed);
                println!("built");
            }
        })
    });
    workers.collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
    unreachable!("the workers never return")
}

fn one_build(store: &DiskStore, dir: &Path, seed: u8) {
    let mut digests: Vec<Digest> = sizes(seed)
        .map(|size| write(store, DigestFunction::ALL[usize::from(seed % 2)], &bytes(seed, size)))
        .to_vec();
    let output = dir.join(format!("output-{seed}"));
    let placing = PlaceOptions { mode: 0o644, modified: None, sharing: Sharing::Hardlink, staging: None };
    store.place(&digests[2], &output, &placing).unwrap();
    let (names, _) = store.ingest(&output, SHA256, Sharing::Hardlink).unwrap();
    digests.push(names.digest(SHA256).unwrap());
    let function = digests[0].function;
    digests.retain(|digest| digest.function == function);
    store.put(&kache_cas::ActionKey { function, ..key(seed) }, &result_naming(&digests)).unwrap();
    evict_some(store, seed);
    store.upkeep().unwrap();
    if seed.is_multiple_of(16) {
        store.sync().unwrap();
    }
}

/// Deletes as eviction does: first results, then the blobs that they named.
fn evict_some(store: &DiskStore, seed: u8) {
    let from = Hash([seed.wrapping_mul(37); 32]);
    for entry in store.actions_after(Some(&kache_cas::ActionKey { hash: from, ..key(0) }), 2).unwrap() {
        let named = entry.result.decode().unwrap();
        if store.delete_action(&entry.key, entry.retention).unwrap() {
            for file in named.output_files {
                let digest = file.digest.unwrap();
                let digest: Digest =
                    Digest::parse(entry.key.function, &digest.hash, digest.size_bytes).unwrap();
                if let Some(blob) = store.blob_entry(&digest).unwrap() {
                    store.delete_blob(&blob.names.blake3, blob.retention).unwrap();
                }
            }
        }
    }
}

/// A child process, which is killed when this is dropped.
struct KilledChild {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for KilledChild {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts a child and waits until it has opened the store and made this many builds.
fn spawn(dir: &Path, builds: usize) -> KilledChild {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_child_works_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut killed = KilledChild { child, lines };
    let mut lines = killed.lines.by_ref().map(|line| line.unwrap());
    assert!(lines.any(|line| line.ends_with("open")), "the child opened the store");
    assert_eq!(lines.filter(|line| line.ends_with("built")).take(builds).count(), builds);
    killed
}

#[test]
fn the_child_works_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "a test speaks to itself in another process")]
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        work(Path::new(&dir), 3);
    }
}

#[test]
fn sto_01_a_kill_at_any_moment_leaves_a_consistent_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = 0;
    for (builds, later_ms) in LIVES {
        let child = spawn(dir.path(), builds);
        std::thread::sleep(Duration::from_millis(later_ms));
        drop(child);
        results += check(&dir.path().join("store"));
    }
    assert!(results > 0, "something was stored");
}

/// Checks that every blob that is served is whole. Returns how many results there are.
fn check(dir: &Path) -> usize {
    let store = open(dir);
    let results = store.actions_after(None, usize::MAX).unwrap();
    for entry in &results {
        for file in entry.result.decode().unwrap().output_files {
            let digest = file.digest.unwrap();
            let digest: Digest = Digest::parse(entry.key.function, &digest.hash, digest.size_bytes).unwrap();
            let missing = store.find_missing(&[digest], AccessKind::Promise).unwrap()[0];
            // The blob may have been evicted with another result: then the store says so.
            assert_eq!(read(&store, &digest).is_none(), missing);
        }
    }
    let blobs = store.blobs_after(None, usize::MAX).unwrap();
    for entry in &blobs {
        for digest in DigestFunction::ALL.into_iter().filter_map(|function| entry.names.digest(function)) {
            let bytes = read(&store, &digest).unwrap();
            assert_eq!(Digest::of(digest.function, &bytes), digest);
        }
    }
    upkeep(&store);
    let usage = store.usage().unwrap();
    let logical_bytes: u64 = blobs.iter().map(|entry| entry.names.size_bytes).sum();
    assert_eq!((usage.blobs, usage.logical_bytes), (blobs.len() as u64, logical_bytes));
    let counters = store.counters();
    assert_eq!((counters.damaged, counters.torn), (0, 0), "a kill damages no blob");
    let files = blobs.iter().filter(|entry| entry.names.size_bytes > 4_096).count();
    assert_eq!(files_below(&dir.join("blobs")), files, "no file without a record is left");
    assert_eq!(files_below(&dir.join("tmp")), 0);
    results.len()
}
