//! A store of a million action results: how it starts, what it weighs, how it answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kache_proto::Message;
use kache_proto::reapi::ActionResult;

use crate::WrongBytes;
use crate::cells::Sequence;
use crate::content::{Contents, Random};
use crate::load::{Reply, Request, Session, Until, Windows, Workload};
use crate::report::Figure;
use crate::requests::{self, Actions};
use crate::rounds::percentile;
use crate::server::{Kind, Programs, Server};

pub(crate) const NAME: &str = "million";

/// How many blobs of 4 KiB the results name, two each.
const OUTPUTS: u64 = 20_000;
/// How many fill one batch.
const FILL_BATCH: u64 = 100;
/// How many clients load the store.
const LOADERS: usize = 64;
/// How many clients the answers are timed for.
const CLIENTS: usize = 16;
/// How long they ask before their answers are timed, and then while they are.
const WARM_UP: Duration = Duration::from_secs(2);
const TIMED: Duration = Duration::from_secs(10);
/// How many answers are checked in full.
const CHECKED: u64 = 2000;

const START_S_MAX: f64 = 1.0;
const MEMORY_MB_MAX: f64 = 300.0;
const P99_MS_MAX: f64 = 1.0;

/// Loads the store through `UpdateActionResult`, stops the daemon, and starts it again.
pub(crate) fn measure(results: u64, programs: &Programs) -> Result<Vec<Figure>> {
    let dir = tempfile::Builder::new().prefix("many").tempdir_in(&programs.dir)?;
    let loaded = load(results, programs, dir.path()).context("loading action results")?;
    let server = Server::on(Kind::Kached, programs, dir.path())?;
    let fresh = server.memory()?;
    let mut lookups = Lookups::new(results);
    let windows = Windows::default();
    let mut session = Session::open(server.address, lookups.method(), CLIENTS, CLIENTS, windows)?;
    session.run(&mut lookups, Until::Requests(CHECKED), true)?;
    session.run(&mut lookups, Until::Elapsed(WARM_UP), false)?;
    let before = server.processor_time()?;
    let mut run = session.run(&mut lookups, Until::Elapsed(TIMED), false)?;
    let processor = server.processor_time()?.saturating_sub(before);
    run.latencies_ns.sort_unstable();
    let busy = server.memory()?;
    let p99_ms = percentile(&run.latencies_ns, 99) as f64 / 1e6;
    let start_s = server.start.as_secs_f64();
    // A client that neither reads nor leaves would be waited for.
    drop(session);
    let stop = server.stop()?;
    let figure = |name, value, unit, limit| Figure { name, value, unit, limit };
    Ok(vec![
        figure("action results in the store", results as f64, "", None),
        figure("loading them through UpdateActionResult", loaded.as_secs_f64(), "s", None),
        figure("daemon start to first answer", start_s, "s", Some(START_S_MAX)),
        figure("resident memory after it", mb(fresh.resident_bytes), "MB", Some(MEMORY_MB_MAX)),
        figure("resident memory after the load", mb(busy.resident_bytes), "MB", Some(MEMORY_MB_MAX)),
        figure("of which its own", mb(busy.anonymous_bytes), "MB", None),
        figure("GetActionResult p99, 16 clients", p99_ms, "ms", Some(P99_MS_MAX)),
        figure("GetActionResult, 16 clients", run.requests as f64 / run.elapsed.as_secs_f64(), "/s", None),
        figure("server time for one", processor.as_secs_f64() * 1e6 / run.requests as f64, "µs", None),
        figure("daemon stop", stop.as_secs_f64(), "s", None),
    ])
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn contents() -> Contents {
    Contents::new(4096)
}

fn load(results: u64, programs: &Programs, dir: &std::path::Path) -> Result<Duration> {
    let started = Instant::now();
    let server = Server::on(Kind::Kached, programs, dir)?;
    let outputs = contents();
    let mut blobs = Sequence::new(requests::BATCH_UPDATE, OUTPUTS / FILL_BATCH, |batch| {
        requests::batch_update(&outputs, batch * FILL_BATCH..(batch + 1) * FILL_BATCH)
    });
    server.run(&mut blobs, LOADERS)?;
    let actions = Actions::new(contents(), OUTPUTS);
    let mut updates = Sequence::new(requests::UPDATE_ACTION_RESULT, results, |number| {
        Request::new(vec![actions.update(number)])
    });
    server.run(&mut updates, LOADERS)?;
    server.stop()?;
    Ok(started.elapsed())
}

/// Lookups of any of a great many results; too many to encode ahead.
struct Lookups {
    actions: Actions,
    results: u64,
    random: Random,
    last: [u64; CLIENTS],
    answer_bytes: u64,
}

impl Lookups {
    fn new(results: u64) -> Lookups {
        let actions = Actions::new(contents(), OUTPUTS);
        Lookups { actions, results, random: Random::new(1), last: [0; CLIENTS], answer_bytes: 0 }
    }
}

impl Workload for Lookups {
    fn method(&self) -> &'static str {
        requests::GET_ACTION_RESULT
    }

    fn request(&mut self, client: usize) -> Option<Request> {
        let number = self.random.next() % self.results;
        self.last[client] = number;
        let request: Bytes = self.actions.get(number);
        Some(Request::new(vec![request]))
    }

    fn looks_right(&self, _client: usize, reply: &Reply) -> bool {
        reply.messages == 1 && reply.message_bytes == self.answer_bytes
    }

    fn verify(&mut self, client: usize, reply: &Reply) -> Result<()> {
        let messages = crate::wire::messages(&reply.body);
        let result = ActionResult::decode(*messages.first().context("an answer without a message")?)?;
        let expected = self.actions.result(self.last[client]).output_files;
        ensure!(result.output_files == expected, WrongBytes(format!("another action's result: {result:?}")));
        self.answer_bytes = reply.message_bytes;
        Ok(())
    }
}
