//! A set of clients on their connections, and runs of load with them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

use super::Workload;
use super::connection::{Connection, Done, Windows};
use super::stream::Response;
use crate::WrongBytes;

/// A server that sends nothing for this long has hung.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The end of a run. Clients wait for the responses of requests that they have sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// The run ends after this time.
    Elapsed(Duration),
    /// The run ends after this many requests.
    Requests(u64),
    /// The run ends when the workload has no more requests.
    Exhausted,
}

/// The figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies_ns: Vec<u64>,
}

/// Clients that call one method of one server. Each waits for its response before it sends the next request.
pub(crate) struct Session {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    clients: usize,
    done: Vec<Done>,
}

impl Session {
    /// Opens the connections, which the clients share evenly.
    pub(crate) fn open(
        address: SocketAddr,
        method: &'static str,
        clients: usize,
        connections: usize,
        windows: Windows,
    ) -> Result<Session> {
        let poll = Poll::new().context("failed to make a poll")?;
        let mut opened = Vec::new();
        for position in 0..connections.clamp(1, clients) {
            let mut connection = Connection::open(address, method, windows)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(connection.socket(), Token(position), interest)?;
            opened.push(connection);
        }
        Ok(Session {
            poll,
            events: Events::with_capacity(256),
            connections: opened,
            clients,
            done: Vec::new(),
        })
    }

    /// Runs the clients. With `verify`, every byte of each response is checked, so that the figures mean nothing.
    pub(crate) fn run(&mut self, workload: &mut dyn Workload, until: Until, verify: bool) -> Result<Run> {
        self.connections.iter_mut().for_each(|connection| connection.set_collect(verify));
        let started = Instant::now();
        let mut run = Run::default();
        let mut begun = 0u64;
        let next = |begun: &mut u64, client: usize, workload: &mut dyn Workload| {
            let over = match until {
                Until::Elapsed(duration) => started.elapsed() >= duration,
                Until::Requests(requests) => *begun >= requests,
                Until::Exhausted => false,
            };
            let request = if over { None } else { workload.request(client) };
            *begun += u64::from(request.is_some());
            request
        };
        for client in 0..self.clients {
            if let Some(request) = next(&mut begun, client, workload) {
                let position = client % self.connections.len();
                self.connections[position].start(client, request);
            }
        }
        self.connections.iter_mut().try_for_each(Connection::send)?;
        while run.requests < begun {
            self.wait()?;
            for position in self.events.iter().map(|event| event.token().0) {
                let connection = &mut self.connections[position];
                connection.receive(&mut self.done)?;
                for done in self.done.drain(..) {
                    check(workload, &done, verify)?;
                    run.requests += 1;
                    run.latencies_ns.push(u64::try_from(done.latency.as_nanos()).unwrap_or(u64::MAX));
                    if let Some(request) = next(&mut begun, done.client, workload) {
                        connection.start(done.client, request);
                    }
                }
                connection.send()?;
            }
        }
        run.elapsed = started.elapsed();
        Ok(run)
    }

    fn wait(&mut self) -> Result<()> {
        loop {
            match self.poll.poll(&mut self.events, Some(SILENCE_MAX)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.context("failed to poll")?,
            }
        }
        if self.events.is_empty() {
            bail!("the server was silent for {} s", SILENCE_MAX.as_secs());
        }
        Ok(())
    }
}

fn check(workload: &mut dyn Workload, done: &Done, verify: bool) -> Result<()> {
    if verify {
        return workload.verify(done.client, &done.response);
    }
    if !workload.has_expected_lengths(done.client, &done.response) {
        let Response { messages, message_bytes, .. } = &done.response;
        bail!(WrongBytes(format!(
            "{messages} messages of {message_bytes} bytes in response to {}",
            workload.method()
        )));
    }
    Ok(())
}
