//! Measures one cell: both servers are filled with the same contents, warmed up, and then loaded in turns.
//!
//! The order is A B, B A, A B …, so that other work of the machine affects both servers equally.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cells::{Cell, Scale};
use crate::load::{Run, Session, Until, Windows, Workload};
use crate::median::median;
use crate::server::{Programs, Server, ServerKind};

/// How a cell is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    /// How many connections the clients share. `None` means one each.
    pub(crate) connections: Option<usize>,
    pub(crate) chunk: usize,
    pub(crate) kinds: Vec<ServerKind>,
}

/// One server's figures, of one round or the medians of several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The server's processor time for one request.
    pub(crate) cpu_us: f64,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct TableLine {
    pub(crate) cell: Cell,
    pub(crate) clients: usize,
    pub(crate) figures: Vec<(ServerKind, Figures)>,
}

/// If the clients together move more bytes than this with one request each, a round is long, and [`LONG_ROUNDS`]
/// suffice.
const ROUND_BYTES_MAX: u64 = 2 << 30;
const LONG_ROUNDS: usize = 3;

/// Measures the cell with this number of clients.
pub(crate) fn measure(cell: Cell, clients: usize, plan: &Plan, programs: &Programs) -> Result<TableLine> {
    let scale = Scale { clients, chunk: plan.chunk };
    let begin_one = |&kind: &ServerKind| Bench::begin(cell, scale, plan, kind, programs);
    let begin = || plan.kinds.iter().map(begin_one).collect::<Result<Vec<Bench>>>();
    let mut benches = begin()?;
    let mut samples = vec![Vec::new(); benches.len()];
    let is_long = cell.bytes_per_request().unwrap_or_default() * clients as u64 > ROUND_BYTES_MAX;
    for round in 0..if is_long { plan.rounds.min(LONG_ROUNDS) } else { plan.rounds } {
        if round > 0 && cell.is_write() {
            // Otherwise dirty pages accumulate, and later rounds wait for the disk.
            drop(benches);
            benches = begin()?;
        }
        for position in 0..samples.len() {
            let turn = if round % 2 == 0 { position } else { samples.len() - 1 - position };
            samples[turn].push(benches[turn].round(plan.round)?);
        }
    }
    let figures = plan.kinds.iter().copied().zip(samples.iter().map(|samples| medians(samples))).collect();
    Ok(TableLine { cell, clients, figures })
}

/// One server, ready for one cell.
struct Bench {
    cell: Cell,
    scale: Scale,
    workload: Box<dyn Workload>,
    session: Session,
    server: Server,
    asked: u64,
}

impl Bench {
    fn begin(cell: Cell, scale: Scale, plan: &Plan, kind: ServerKind, programs: &Programs) -> Result<Bench> {
        let server = Server::fresh(kind, programs)?;
        for mut workload in cell.fill(scale) {
            server
                .run(workload.as_mut(), FILL_CLIENTS)
                .with_context(|| format!("filling {}", kind.name()))?;
        }
        let mut workload = cell.workload(scale);
        let connections = plan.connections.unwrap_or(scale.clients);
        let windows = Windows::default();
        let mut session =
            Session::open(server.address, workload.method(), scale.clients, connections, windows)?;
        let warm_up = session.run(workload.as_mut(), Until::Requests(cell.warm_up()), true);
        let asked = warm_up.with_context(|| format!("`{}` of {}", cell.name, kind.name()))?.requests;
        Ok(Bench { cell, scale, workload, session, server, asked })
    }

    /// Drives the server for one round, then looks at what uploads left behind.
    fn round(&mut self, duration: Duration) -> Result<Figures> {
        let before = self.server.processor_time()?;
        let run = self.session.run(self.workload.as_mut(), Until::Elapsed(duration), false);
        let run = run.with_context(|| format!("`{}` of {}", self.cell.name, self.server.kind.name()))?;
        let processor = self.server.processor_time()?.saturating_sub(before);
        self.asked += run.requests;
        if let Some((mut reads, count)) = self.cell.read_back(self.asked, self.scale) {
            let (clients, windows) = (1, Windows::default());
            let mut session = Session::open(self.server.address, reads.method(), clients, clients, windows)?;
            session
                .run(reads.as_mut(), Until::Requests(count), true)
                .context("reading back what was written")?;
        }
        Ok(figures(run, processor))
    }
}

/// How many clients fill a server.
const FILL_CLIENTS: usize = 4;

fn figures(mut run: Run, processor: Duration) -> Figures {
    run.latencies_ns.sort_unstable();
    Figures {
        per_second: run.requests as f64 / run.elapsed.as_secs_f64(),
        p50_us: percentile(&run.latencies_ns, 50) as f64 / 1e3,
        p99_us: percentile(&run.latencies_ns, 99) as f64 / 1e3,
        cpu_us: processor.as_secs_f64() * 1e6 / run.requests.max(1) as f64,
    }
}

/// The smallest of these values, which are in ascending order, that `percent` % of them do not exceed.
pub(crate) fn percentile(ascending: &[u64], percent: usize) -> u64 {
    let position = (ascending.len() * percent).div_ceil(100).max(1) - 1;
    ascending.get(position).copied().unwrap_or_default()
}

fn medians(samples: &[Figures]) -> Figures {
    let middle = |of: fn(&Figures) -> f64| median(samples.iter().map(of).collect()).unwrap_or_default();
    Figures {
        per_second: middle(|sample| sample.per_second),
        p50_us: middle(|sample| sample.p50_us),
        p99_us: middle(|sample| sample.p99_us),
        cpu_us: middle(|sample| sample.cpu_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians() {
        let ascending: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&ascending, 50), percentile(&ascending, 99)), (50, 99));
        assert_eq!((percentile(&[7], 99), percentile(&[], 50)), (7, 0));
        let samples = [3.0, 1.0, 2.0].map(|per_second| Figures { per_second, ..Figures::default() });
        assert!((medians(&samples).per_second - 2.0).abs() < 1e-9);
    }
}
