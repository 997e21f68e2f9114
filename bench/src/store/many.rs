//! Measures a store of a million action results: start, memory and lookups.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kache_proto::Message;
use kache_proto::reapi::ActionResult;

use crate::WrongBytes;
use crate::cells::Sequence;
use crate::content::{Contents, Random};
use crate::load::{Request, Response, Session, Until, Windows, Workload};
use crate::report::Figure;
use crate::requests::{self, Actions};
use crate::rounds::percentile;
use crate::server::{Programs, Server, ServerKind};

pub(crate) const NAME: &str = "million";

/// The number of blobs of 4 KiB that the results name. Each result names two.
const OUTPUTS: u64 = 20_000;
/// The number of blobs in a batch.
const FILL_BATCH: u64 = 100;
/// The number of clients that fill the store.
const LOADERS: usize = 64;
/// The number of clients that are measured.
const CLIENTS: usize = 16;
// The time before the measurement, and that of the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
const TIMED: Duration = Duration::from_secs(10);
/// The number of responses that are checked in full.
const CHECKED: u64 = 2000;

const START_S_MAX: f64 = 1.0;
const MEMORY_MB_MAX: f64 = 300.0;
const P99_MS_MAX: f64 = 1.0;

/// Fills the store through `UpdateActionResult`, starts the daemon again, and measures it.
pub(crate) fn measure(results: u64, programs: &Programs) -> Result<Vec<Figure>> {
    let dir = tempfile::Builder::new().prefix("many").tempdir_in(&programs.dir)?;
    let loaded = load(results, programs, dir.path()).context("loading action results")?;
    let server = Server::on(ServerKind::Kached, programs, dir.path())?;
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
    // The server waits for open connections before it ends.
    drop(session);
    let stop = server.stop()?;
    let figure = |name, value, unit, limit| Figure { name, value, unit, limit };
    Ok(vec![
        figure("action results in the store", results as f64, "", None),
        figure("loading them through UpdateActionResult", loaded.as_secs_f64(), "s", None),
        figure("daemon start to first response", start_s, "s", Some(START_S_MAX)),
        figure("resident memory after the start", mb(fresh.resident_bytes), "MB", Some(MEMORY_MB_MAX)),
        figure("resident memory after the load", mb(busy.resident_bytes), "MB", Some(MEMORY_MB_MAX)),
        figure("of which anonymous memory", mb(busy.anonymous_bytes), "MB", None),
        figure("GetActionResult p99, 16 clients", p99_ms, "ms", Some(P99_MS_MAX)),
        figure("GetActionResult, 16 clients", run.requests as f64 / run.elapsed.as_secs_f64(), "/s", None),
        figure(
            "server processor time per request",
            processor.as_secs_f64() * 1e6 / run.requests as f64,
            "µs",
            None,
        ),
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
    let server = Server::on(ServerKind::Kached, programs, dir)?;
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

/// Lookups of random results, which are too many to encode in advance.
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

    fn has_expected_lengths(&self, _client: usize, response: &Response) -> bool {
        response.messages == 1 && response.message_bytes == self.answer_bytes
    }

    fn verify(&mut self, client: usize, response: &Response) -> Result<()> {
        let messages = crate::wire::messages(&response.body);
        let result = ActionResult::decode(*messages.first().context("an answer without a message")?)?;
        let expected = self.actions.result(self.last[client]).output_files;
        ensure!(result.output_files == expected, WrongBytes(format!("another action's result: {result:?}")));
        self.answer_bytes = response.message_bytes;
        Ok(())
    }
}
