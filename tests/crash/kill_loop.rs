//! Kills the daemon with `kill -9` at any moment, hundreds of times, under concurrent load: uploads by gRPC, and
//! compiles whose outputs the daemon ingests.
//!
//! After each kill: everything that was acknowledged is there, every result that is served is complete and has the
//! right bytes, every blob file has the name of its content, and there are no other files. Sometimes the machine
//! loses power as well, which destroys some data that was not synced: torn blobs are not served.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::compiles::{Client, Life, Stage};
use crate::daemon::{Daemon, Home};
use crate::load::{Found, Ledger, check, file_bytes, missing, upload_until_death};
use crate::tree::{Tree, Which};

const KILLS: u64 = 300;
const UPLOADERS: usize = 6;
const COMPILERS: u64 = 4;
/// A daemon runs between zero and this many milliseconds before it is killed.
const LIFE_MS_MAX: u64 = 160;
/// How long the first compile may take to begin, and how long a daemon may take to remove what its predecessor
/// left.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of actions that are checked after each kill: this many old ones, and at most this many of the last
/// life, which were in flight or just stored.
const CHECK_OLD: u64 = 8;
const CHECK_LATEST_MAX: u64 = 64;
/// The number of checks that run at the same time.
const CHECKERS: usize = 4;
/// The number of latest compiles that are repeated for each client, which has one in flight.
const COMPILES_LATEST: u64 = 2;
/// One of this many checks hashes all blobs, and not only those that were written since the last check.
const ALL_EVERY: u64 = 20;
/// One of this many kills is a loss of power.
const CUT_EVERY: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_01_nothing_but_work_in_flight_is_lost_to_300_kills() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(&dir.path().join("home"), &dir.path().join("cache"));
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut under_test = UnderTest::new(&home, &[dir.path(), elsewhere.path()]).await;
    for round in 0..KILLS {
        let daemon = Daemon::start(&home).await;
        under_test.check_some(&daemon, round).await;
        under_test.await_tidiness(&daemon).await;
        under_test.load_then_kill(daemon, round).await;
        let which = if round % ALL_EVERY == 0 { Which::All } else { Which::Touched };
        under_test.tree.check_blobs(which);
        under_test.tree.check_names();
        if round % CUT_EVERY == 1 {
            under_test.cut_power(round);
        }
    }
    let mut daemon = Daemon::start(&home).await;
    under_test.check_all(&daemon).await;
    assert!(daemon.is_running());
    daemon.kill();
    under_test.check_proof(has_reflinks(dir.path()));
}

/// The state that outlives a daemon.
struct UnderTest {
    ledger: Arc<Ledger>,
    clients: Vec<Arc<Mutex<Client>>>,
    tree: Tree,
    /// The number of actions at the last check.
    checked: u64,
    seen: Counts,
}

/// Counts of what happened. If they are low, the test has proved nothing.
#[derive(Debug, Default)]
struct Counts {
    /// Actions that were checked and complete.
    whole: u64,
    /// Compiles that were repeated and came from the store.
    hits: u64,
    /// Daemons that died while a compiler was running for them.
    died_compiling: u64,
    /// Daemons that died while they ingested outputs.
    died_storing: u64,
    /// Files that were being written into the store when a daemon died.
    left: usize,
    /// Blobs of which a part was not on the disk.
    torn: u64,
}

impl UnderTest {
    /// Runs and stops a daemon once, so that later ones know the toolchain.
    async fn new(home: &Home, dirs: &[&Path]) -> UnderTest {
        let daemon = Daemon::start(home).await;
        let clients = (0..COMPILERS).map(|number| {
            // Some worktrees are on another volume than the store, so that the store must copy their outputs.
            let dir = dirs[usize::from(number == COMPILERS - 1)].join(format!("worktree-{number}"));
            Arc::new(Mutex::new(Client::new(home.address(), dir, &home.dir, number)))
        });
        let clients = clients.collect();
        daemon.stop();
        let (ledger, checked, seen) = Default::default();
        UnderTest { ledger, clients, tree: Tree::new(&home.cache_dir), checked, seen }
    }

    /// Checks the latest and some old actions. Those that were acknowledged must be there.
    async fn check_some(&mut self, daemon: &Daemon, round: u64) {
        let compiles = self.on_clients(move |client| client.check(COMPILES_LATEST, round));
        let attempted = self.ledger.attempted();
        let checked = std::mem::replace(&mut self.checked, attempted);
        let latest = checked.max(attempted.saturating_sub(CHECK_LATEST_MAX))..attempted;
        let old = (0..CHECK_OLD.min(attempted)).map(|i| (round * 7919 + i * 104_729) % attempted);
        let seeds = latest.chain(old).collect();
        self.seen.whole += check_these(daemon, &self.ledger, seeds, round).await;
        self.seen.hits += join(compiles).await.iter().sum::<u64>();
    }

    /// Checks everything that must not be lost.
    async fn check_all(&mut self, daemon: &Daemon) {
        let compiles = self.on_clients(Client::check_all);
        let acknowledged = self.ledger.acknowledged();
        self.seen.whole += check_these(daemon, &self.ledger, acknowledged, KILLS).await;
        self.seen.hits += join(compiles).await.iter().sum::<u64>();
    }

    /// Waits until the daemon has removed what its predecessor left, and knows every blob that has a file.
    async fn await_tidiness(&mut self, daemon: &Daemon) {
        // Records of compiles are removed when another compile begins.
        if !self.tree.records_of_others(daemon.pid()).is_empty() {
            join(self.on_clients(Client::compile_another)).await;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut untidy = self.untidy(daemon).await;
        while !untidy.is_empty() {
            assert!(Instant::now() < deadline, "it is still there: {untidy:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
            untidy = self.untidy(daemon).await;
        }
        self.tree.is_asked();
    }

    /// Files that should not be there.
    async fn untidy(&self, daemon: &Daemon) -> BTreeSet<String> {
        let on_their_way = self.tree.on_their_way().into_iter();
        let records = self.tree.records_of_others(daemon.pid()).into_iter();
        let paths = on_their_way.chain(records).map(|path| path.display().to_string());
        let unknown = missing(daemon.channel.clone(), &self.tree.unasked()).await.expect("it answers");
        let unknown = unknown.iter().filter(|blob| self.tree.has_blob(blob)).map(ToString::to_string);
        paths.chain(unknown).collect()
    }

    async fn load_then_kill(&mut self, daemon: Daemon, round: u64) {
        let life = Arc::new(Life::default());
        let uploaders = (0..UPLOADERS).map(|_| {
            let (channel, ledger) = (daemon.channel.clone(), Arc::clone(&self.ledger));
            tokio::spawn(async move { upload_until_death(channel, &ledger).await })
        });
        let uploaders = uploaders.collect();
        let of_compilers = Arc::clone(&life);
        let compilers = self.on_clients(move |client| client.compile_until_death(&of_compilers));
        // Before its first compile a daemon tests the compiler, which takes longer than many lives.
        if round % 2 == 1 {
            life.await_a_compile(PATIENCE).await;
        }
        tokio::time::sleep(length(round)).await;
        daemon.kill();
        life.end();
        for uploaded in join(uploaders).await {
            uploaded.expect("the daemon refused an upload");
        }
        let stages = join(compilers).await;
        self.seen.died_compiling += u64::from(stages.contains(&Stage::Compiling));
        self.seen.died_storing += u64::from(stages.contains(&Stage::Storing));
        self.seen.left += self.tree.on_their_way().len();
    }

    /// Simulates a loss of power: parts of an upload and of a compile of the last life never reached the disk, so
    /// the daemon must not serve them. For a complete blob, the record in the database was lost.
    fn cut_power(&mut self, round: u64) {
        let since = self.checked;
        let stored = self.ledger.acknowledged().into_iter().rev().take_while(|seed| *seed >= since);
        let upload = stored.filter_map(|seed| Some((seed, file_bytes(seed)?))).next();
        if let Some((seed, bytes)) = upload {
            self.ledger.forget_output(seed);
            self.seen.torn += u64::from(self.tree.tear(&bytes));
        }
        self.tree.leave_unknown(format!("{round:5000}").as_bytes());
        let at = (round / CUT_EVERY) as usize % self.clients.len();
        let library = self.clients[at].lock().lose_the_latest();
        self.seen.torn += u64::from(library.is_some_and(|bytes| self.tree.tear(&bytes)));
    }

    /// Runs `act` with every client at the same time.
    fn on_clients<R: Send + 'static>(
        &self,
        work: impl Fn(&mut Client) -> R + Clone + Send + 'static,
    ) -> Vec<JoinHandle<R>> {
        let one = |client: &Arc<Mutex<Client>>| {
            let (client, work) = (Arc::clone(client), work.clone());
            tokio::task::spawn_blocking(move || work(&mut client.lock()))
        };
        self.clients.iter().map(one).collect()
    }

    fn check_proof(&mut self, has_reflinks: bool) {
        let compiled: usize = self.clients.iter().map(|client| client.lock().stored()).sum();
        let uploaded = self.ledger.acknowledged().len();
        let blobs = self.tree.check_blobs(Which::All);
        let Counts { whole, hits, died_compiling, died_storing, left, torn } = self.seen;
        eprintln!("{blobs} blobs, {uploaded} uploads, {compiled} compiles: {:?}", self.seen);
        let kills = KILLS as usize;
        assert!(blobs > 0, "the layout has changed");
        assert!(uploaded > kills && compiled > kills, "hardly anything was stored: this proves nothing");
        assert!(
            whole > KILLS * CHECK_OLD && hits > KILLS * COMPILERS,
            "hardly anything was checked: this proves nothing"
        );
        assert!(
            died_storing > KILLS / 4 && died_compiling > 0 && left > 0 && torn > KILLS / CUT_EVERY,
            "hardly anything was in flight: this proves nothing"
        );
        assert!(has_reflinks || self.tree.shared > kills, "no output is shared with the store");
    }
}

/// A pseudo-random time, so that kills come at every moment between the start and a busy store.
fn length(round: u64) -> Duration {
    Duration::from_millis((round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % LIFE_MS_MAX)
}

/// Checks these actions. Those that were acknowledged must be there. Returns how many were complete.
async fn check_these(daemon: &Daemon, ledger: &Ledger, seeds: Vec<u64>, round: u64) -> u64 {
    let acknowledged = Arc::new(ledger.acknowledged());
    let checkers = seeds.chunks(seeds.len().div_ceil(CHECKERS).max(1)).map(|some| {
        let (channel, some, acknowledged) =
            (daemon.channel.clone(), some.to_vec(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut whole = 0;
            for seed in some {
                let found = check(channel.clone(), seed).await.expect("a fresh daemon answers");
                let owed = acknowledged.binary_search(&seed).is_ok();
                assert!(
                    found == Found::Whole || !owed,
                    "action {seed} was acknowledged and lost in round {round}"
                );
                whole += u64::from(found == Found::Whole);
            }
            whole
        })
    });
    join(checkers.collect()).await.iter().sum()
}

async fn join<R>(tasks: Vec<JoinHandle<R>>) -> Vec<R> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a client found something wrong"));
    }
    results
}

/// Whether files here can share blocks, so that no file of the store is shared.
fn has_reflinks(dir: &Path) -> bool {
    let [from, to] = ["from", "to"].map(|name| dir.join(name));
    fs::write(&from, [1; 5000]).unwrap();
    let cp = Command::new("cp").arg("--reflink=always").args([from, to]).stderr(Stdio::null()).status();
    cp.is_ok_and(|status| status.success())
}
