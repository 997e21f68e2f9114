//! The cells: name, target, how a server is filled for it, and its workload.

use std::rc::Rc;

use anyhow::ensure;
use kache_proto::Message;
use kache_proto::bytestream::ReadResponse;
use kache_proto::reapi::{ActionResult, BatchReadBlobsResponse, FindMissingBlobsResponse};

use super::prepared::{Check, Prepared, Sequence};
use super::uploads::{How, Uploads};
use crate::WrongBytes;
use crate::content::Contents;
use crate::load::{Request, Workload};
use crate::requests::{self, Actions, Writes};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The size of what travels in batches, and of the outputs that results name.
const SMALL_BYTES: usize = 4 * KIB;

/// How many small contents a server is given before it is asked for some.
const SMALL_COUNT: u64 = 4000;

/// How many fill one batch: 400 KiB, far below any server's limit on a message.
const FILL_BATCH: u64 = 100;

/// How many different requests lookups and small reads choose from.
const REQUESTS: usize = 2000;

/// How many different questions of 1,000 digests there are. They are long to encode.
const LONG_REQUESTS: usize = 20;

/// How many bytes of large contents a server is given before it is asked for some. They
/// stay in the page cache: this measures servers, not disks.
const LARGE_FILL_BYTES: usize = 256 * MIB;

/// What one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ActionResult,
    FindMissing(u64),
    BatchRead(u64),
    BatchUpdate(u64),
    Read(usize),
    Write(usize),
}

/// One row of the table, for each number of clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    /// How many times as fast as the other server ours is to be.
    pub(crate) target: f64,
    kind: Kind,
}

/// What every server must give.
const TARGET: f64 = 1.0;

/// The same for small requests, where a server's own work is all there is.
const TARGET_SMALL: f64 = 2.0;

/// The cells in the order of the table.
#[rustfmt::skip]
pub(crate) const CELLS: [Cell; 11] = [
    Cell { name: "get-action-result", target: TARGET_SMALL, kind: Kind::ActionResult },
    Cell { name: "find-missing-1", target: TARGET_SMALL, kind: Kind::FindMissing(1) },
    Cell { name: "find-missing-1000", target: TARGET_SMALL, kind: Kind::FindMissing(1000) },
    Cell { name: "batch-read-4k", target: TARGET_SMALL, kind: Kind::BatchRead(1) },
    Cell { name: "batch-read-100x4k", target: TARGET_SMALL, kind: Kind::BatchRead(100) },
    Cell { name: "batch-update-4k", target: TARGET_SMALL, kind: Kind::BatchUpdate(1) },
    Cell { name: "batch-update-100x4k", target: TARGET_SMALL, kind: Kind::BatchUpdate(100) },
    Cell { name: "read-4m", target: TARGET, kind: Kind::Read(4 * MIB) },
    Cell { name: "read-64m", target: TARGET, kind: Kind::Read(64 * MIB) },
    Cell { name: "write-4m", target: TARGET, kind: Kind::Write(4 * MIB) },
    Cell { name: "write-64m", target: TARGET, kind: Kind::Write(64 * MIB) },
];

/// How requests are made, the same for all servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) clients: usize,
    pub(crate) chunk: usize,
}

impl Cell {
    /// Whether each round fills the disk, so that the next had better begin afresh.
    pub(crate) fn is_write(&self) -> bool {
        matches!(self.kind, Kind::BatchUpdate(_) | Kind::Write(_))
    }

    /// Whether what matters is bytes, and how many a request moves.
    pub(crate) fn bytes_per_request(&self) -> Option<u64> {
        match self.kind {
            Kind::Read(size) | Kind::Write(size) => Some(size as u64),
            _ => None,
        }
    }

    /// What must be done to a server before it is asked for anything, in order.
    pub(crate) fn fill(&self, scale: Scale) -> Vec<Box<dyn Workload>> {
        let small = Contents::new(SMALL_BYTES);
        let batches = Sequence::new(requests::BATCH_UPDATE, SMALL_COUNT / FILL_BATCH, move |batch| {
            requests::batch_update(&small, batch * FILL_BATCH..(batch + 1) * FILL_BATCH)
        });
        match self.kind {
            Kind::ActionResult => {
                let actions = actions();
                let updates = Sequence::new(requests::UPDATE_ACTION_RESULT, REQUESTS as u64, move |number| {
                    Request::new(vec![actions.update(number)])
                });
                vec![Box::new(batches), Box::new(updates)]
            }
            Kind::FindMissing(_) | Kind::BatchRead(_) => vec![Box::new(batches)],
            Kind::Read(size) => {
                let writes = Writes::new(Contents::new(size), scale.chunk);
                let count = (LARGE_FILL_BYTES / size) as u64;
                vec![Box::new(Sequence::new(requests::WRITE, count, move |number| writes.nth(number)))]
            }
            Kind::BatchUpdate(_) | Kind::Write(_) => Vec::new(),
        }
    }

    /// What is asked of the filled server.
    pub(crate) fn workload(&self, scale: Scale) -> Box<dyn Workload> {
        let small = Contents::new(SMALL_BYTES);
        match self.kind {
            Kind::ActionResult => Box::new(action_results(scale)),
            Kind::FindMissing(count) => Box::new(find_missing(&small, count, scale)),
            Kind::BatchRead(count) => Box::new(batch_reads(small, count, scale)),
            Kind::BatchUpdate(count) => Box::new(Uploads::new(small, How::Batch(count))),
            Kind::Read(size) => {
                Box::new(reads(Contents::new(size), (LARGE_FILL_BYTES / size) as u64, 0, scale))
            }
            Kind::Write(size) => {
                let contents = Contents::new(size);
                let writes = Writes::new(contents.clone(), scale.chunk);
                Box::new(Uploads::new(contents, How::Stream(writes)))
            }
        }
    }

    /// How many requests of the workload are checked in full before anything is timed.
    pub(crate) fn warm_up(&self) -> u64 {
        match self.kind {
            Kind::ActionResult | Kind::BatchRead(1) | Kind::FindMissing(1) => REQUESTS as u64,
            Kind::FindMissing(_) | Kind::BatchRead(_) => LONG_REQUESTS as u64,
            Kind::Read(size) => (LARGE_FILL_BYTES / size) as u64,
            Kind::BatchUpdate(_) => 100,
            Kind::Write(size) => (64 * MIB / size) as u64,
        }
    }

    /// Reads of what a run of `requests` uploads left behind: a sample of the last ones.
    pub(crate) fn read_back(&self, requests: u64, scale: Scale) -> Option<(Box<dyn Workload>, u64)> {
        let (size, count) = match self.kind {
            Kind::BatchUpdate(count) => (SMALL_BYTES, requests * count),
            Kind::Write(size) => (size, requests),
            _ => return None,
        };
        let sample = count.min((64 * MIB / size).min(REQUESTS) as u64);
        Some((Box::new(reads(Contents::new(size), sample, count - sample, scale)), sample))
    }
}

fn actions() -> Actions {
    Actions::new(Contents::new(SMALL_BYTES), SMALL_COUNT)
}

/// Where the questions begin in the small contents, spread evenly; all end inside them.
fn starts(count: u64) -> impl Iterator<Item = u64> {
    let questions = if count == 1 { REQUESTS } else { LONG_REQUESTS } as u64;
    (0..questions).map(move |question| question * (SMALL_COUNT - count) / questions)
}

fn action_results(scale: Scale) -> Prepared {
    let actions = Rc::new(actions());
    let requests = (0..REQUESTS as u64).map(|number| actions.get(number)).collect();
    let check: Check = Box::new(move |position, messages| {
        let result = ActionResult::decode(messages[0])?;
        let right =
            result.output_files == actions.result(position as u64).output_files && result.exit_code == 0;
        ensure!(right, WrongBytes(format!("another action's result: {result:?}")));
        Ok(())
    });
    Prepared::new(requests::GET_ACTION_RESULT, requests, check, scale.clients)
}

fn find_missing(contents: &Contents, count: u64, scale: Scale) -> Prepared {
    let requests =
        starts(count).map(|start| requests::find_missing(contents, start..start + count)).collect();
    let check: Check = Box::new(|_, messages| {
        let missing = FindMissingBlobsResponse::decode(messages[0])?.missing_blob_digests.len();
        ensure!(missing == 0, WrongBytes(format!("{missing} blobs are missing that were stored")));
        Ok(())
    });
    Prepared::new(requests::FIND_MISSING, requests, check, scale.clients)
}

fn batch_reads(contents: Contents, count: u64, scale: Scale) -> Prepared {
    let starts: Vec<u64> = starts(count).collect();
    let ask = |&start: &u64| requests::batch_read(&contents, start..start + count);
    let requests = starts.iter().map(ask).collect();
    let check: Check = Box::new(move |position, messages| {
        let responses = BatchReadBlobsResponse::decode(messages[0])?.responses;
        let first = starts[position];
        let right = responses.len() as u64 == count
            && (first..).zip(&responses).all(|(number, blob)| contents.is_nth(number, &blob.data));
        ensure!(right, WrongBytes(format!("a batch from {first} on has other bytes")));
        Ok(())
    });
    Prepared::new(requests::BATCH_READ, requests, check, scale.clients)
}

fn reads(contents: Contents, count: u64, first: u64, scale: Scale) -> Prepared {
    let requests = (first..first + count).map(|number| requests::read(&contents, number)).collect();
    let check: Check = Box::new(move |position, messages| {
        let mut bytes = Vec::with_capacity(contents.size());
        for message in messages {
            bytes.extend_from_slice(&ReadResponse::decode(*message)?.data);
        }
        let number = first + position as u64;
        ensure!(contents.is_nth(number, &bytes), WrongBytes(format!("content {number} has other bytes")));
        Ok(())
    });
    Prepared::new(requests::READ, requests, check, scale.clients)
}
