//! `kill -9` of the daemon at any moment, hundreds of times, under concurrent load.
//!
//! After each: what had been acknowledged is there, whatever is served is complete and
//! has the right bytes, every file in the store is what its name says.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kache_cas::digest::DigestFunction;

use crate::daemon::{Daemon, Home};
use crate::load::{Found, Ledger, check, upload_until_death};

const KILLS: u64 = 300;
const WORKERS: usize = 6;
/// A daemon lives between nothing and this long before it is killed.
const LIFE_MS_MAX: u64 = 160;
/// How many actions are looked at after each kill: the latest, which were in flight or
/// just stored, and some old ones.
const CHECK_LATEST: u64 = 24;
const CHECK_OLD: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_01_nothing_but_work_in_flight_is_lost_to_300_kills() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(&dir.path().join("home"), &dir.path().join("cache"));
    let ledger = Arc::new(Ledger::default());
    let mut whole = 0;
    for round in 0..KILLS {
        let daemon = Daemon::start(&home).await;
        whole += check_some(&daemon, &ledger, round).await;
        load_then_kill(daemon, &ledger, life(round)).await;
        if round % 20 == 0 {
            blob_files_that_are_their_names(&home.cache_dir);
        }
    }
    let mut daemon = Daemon::start(&home).await;
    for seed in ledger.acknowledged() {
        assert_eq!(
            check(daemon.channel.clone(), seed).await.unwrap(),
            Found::Whole,
            "action {seed} was lost"
        );
    }
    assert!(daemon.is_running());
    assert!(blob_files_that_are_their_names(&home.cache_dir) > 0, "the layout has changed");
    assert!(ledger.acknowledged().len() as u64 > KILLS, "hardly anything was stored: this proves nothing");
    assert!(whole > KILLS * CHECK_LATEST / 2, "hardly anything was checked: this proves nothing");
}

/// Pseudo-random, so that kills fall everywhere between the first byte and a busy store.
fn life(round: u64) -> Duration {
    Duration::from_millis((round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % LIFE_MS_MAX)
}

async fn load_then_kill(daemon: Daemon, ledger: &Arc<Ledger>, life: Duration) {
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (channel, ledger) = (daemon.channel.clone(), Arc::clone(ledger));
            tokio::spawn(async move { upload_until_death(channel, &ledger).await })
        })
        .collect();
    tokio::time::sleep(life).await;
    daemon.kill();
    for worker in workers {
        worker.await.expect("a worker found something wrong").expect("the daemon refused an upload");
    }
}

/// Looks at the latest and some old actions; those acknowledged must be there.
async fn check_some(daemon: &Daemon, ledger: &Ledger, round: u64) -> u64 {
    let acknowledged = ledger.acknowledged();
    let attempted = ledger.attempted();
    let latest = attempted.saturating_sub(CHECK_LATEST)..attempted;
    let old = (0..CHECK_OLD.min(attempted)).map(|i| (round * 7919 + i * 104_729) % attempted);
    let mut whole = 0;
    for seed in latest.chain(old) {
        let found = check(daemon.channel.clone(), seed).await.expect("a fresh daemon answers");
        let owed = acknowledged.binary_search(&seed).is_ok();
        assert!(found == Found::Whole || !owed, "action {seed} was acknowledged and lost in round {round}");
        whole += u64::from(found == Found::Whole);
    }
    whole
}

/// How many files are below `blobs/`. Panics unless each is named by the BLAKE3 of its bytes.
pub(crate) fn blob_files_that_are_their_names(cache_dir: &Path) -> usize {
    let store = fs::read_dir(cache_dir).unwrap().flatten().map(|entry| entry.path());
    let roots: Vec<_> = store.chain([cache_dir.to_owned()]).map(|path| path.join("blobs")).collect();
    let mut files = 0;
    for file in roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten() {
        for blob in fs::read_dir(file.path()).into_iter().flatten().flatten() {
            let bytes = fs::read(blob.path()).unwrap();
            let name = blob.file_name().into_string().unwrap();
            assert_eq!(DigestFunction::Blake3.hash(&bytes).to_hex(), name, "a blob file is not its name");
            files += 1;
        }
    }
    files
}
