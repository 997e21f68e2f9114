//! The cells: their names and goals, how a server is filled for each, and the workloads.

use std::rc::Rc;

use anyhow::ensure;
use kache_proto::Message;
use kache_proto::bytestream::ReadResponse;
use kache_proto::reapi::{ActionResult, BatchReadBlobsResponse, FindMissingBlobsResponse};

use super::prepared::{Check, Prepared, Sequence};
use super::uploads::{UploadMethod, Uploads};
use crate::WrongBytes;
use crate::content::Contents;
use crate::load::{Request, Workload};
use crate::requests::{self, Actions, Writes};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The size of blobs in batches, and of the outputs that action results name.
const SMALL_BYTES: usize = 4 * KIB;

/// The number of small blobs in a server before it is measured.
const SMALL_COUNT: u64 = 4000;

/// The number of blobs in a batch that fills a server: 400 KiB, far below every server's limit of a message.
const FILL_BATCH: u64 = 100;

/// The number of different lookups and small reads.
const REQUESTS: usize = 2000;

/// The number of different requests with 1,000 digests, which take long to encode.
const LONG_REQUESTS: usize = 20;

/// The size of all large blobs in a server before it is measured. They stay in the page cache, because servers are
/// measured here, not disks.
const LARGE_FILL_BYTES: usize = 256 * MIB;

/// The operation of one request, with its number of blobs or its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
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
    /// The goal for kached: requests per second, divided by those of bazel-remote.
    pub(crate) target: f64,
    kind: Operation,
}

/// The goal of a cell.
const TARGET: f64 = 1.0;

/// The goal for small requests, whose cost is that of the server alone.
const TARGET_SMALL: f64 = 1.5;

/// The cells in the order of the table.
#[rustfmt::skip]
pub(crate) const CELLS: [Cell; 11] = [
    Cell { name: "get-action-result", target: TARGET_SMALL, kind: Operation::ActionResult },
    Cell { name: "find-missing-1", target: TARGET_SMALL, kind: Operation::FindMissing(1) },
    Cell { name: "find-missing-1000", target: TARGET_SMALL, kind: Operation::FindMissing(1000) },
    Cell { name: "batch-read-4k", target: TARGET_SMALL, kind: Operation::BatchRead(1) },
    Cell { name: "batch-read-100x4k", target: TARGET_SMALL, kind: Operation::BatchRead(100) },
    Cell { name: "batch-update-4k", target: TARGET_SMALL, kind: Operation::BatchUpdate(1) },
    Cell { name: "batch-update-100x4k", target: TARGET_SMALL, kind: Operation::BatchUpdate(100) },
    Cell { name: "read-4m", target: TARGET, kind: Operation::Read(4 * MIB) },
    Cell { name: "read-64m", target: TARGET, kind: Operation::Read(64 * MIB) },
    Cell { name: "write-4m", target: TARGET, kind: Operation::Write(4 * MIB) },
    Cell { name: "write-64m", target: TARGET, kind: Operation::Write(64 * MIB) },
];

/// The number of clients, and the bytes of data in each message of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) clients: usize,
    pub(crate) chunk: usize,
}

impl Cell {
    /// Whether a round writes so much that the next one should begin with an empty store.
    pub(crate) fn is_write(&self) -> bool {
        matches!(self.kind, Operation::BatchUpdate(_) | Operation::Write(_))
    }

    /// How many bytes a request moves, if the cell is measured in bytes per second.
    pub(crate) fn bytes_per_request(&self) -> Option<u64> {
        match self.kind {
            Operation::Read(size) | Operation::Write(size) => Some(size as u64),
            _ => None,
        }
    }

    /// The workloads that fill a server before it is measured, in order.
    pub(crate) fn fill(&self, scale: Scale) -> Vec<Box<dyn Workload>> {
        let small = Contents::new(SMALL_BYTES);
        let batches = Sequence::new(requests::BATCH_UPDATE, SMALL_COUNT / FILL_BATCH, move |batch| {
            requests::batch_update(&small, batch * FILL_BATCH..(batch + 1) * FILL_BATCH)
        });
        match self.kind {
            Operation::ActionResult => {
                let actions = actions();
                let updates = Sequence::new(requests::UPDATE_ACTION_RESULT, REQUESTS as u64, move |number| {
                    Request::new(vec![actions.update(number)])
                });
                vec![Box::new(batches), Box::new(updates)]
            }
            Operation::FindMissing(_) | Operation::BatchRead(_) => vec![Box::new(batches)],
            Operation::Read(size) => {
                let writes = Writes::new(Contents::new(size), scale.chunk);
                let count = (LARGE_FILL_BYTES / size) as u64;
                vec![Box::new(Sequence::new(requests::WRITE, count, move |number| writes.nth(number)))]
            }
            Operation::BatchUpdate(_) | Operation::Write(_) => Vec::new(),
        }
    }

    /// The workload that is measured on the filled server.
    pub(crate) fn workload(&self, scale: Scale) -> Box<dyn Workload> {
        let small = Contents::new(SMALL_BYTES);
        match self.kind {
            Operation::ActionResult => Box::new(action_results(scale)),
            Operation::FindMissing(count) => Box::new(find_missing(&small, count, scale)),
            Operation::BatchRead(count) => Box::new(batch_reads(small, count, scale)),
            Operation::BatchUpdate(count) => Box::new(Uploads::new(small, UploadMethod::Batch(count))),
            Operation::Read(size) => {
                Box::new(reads(Contents::new(size), (LARGE_FILL_BYTES / size) as u64, 0, scale))
            }
            Operation::Write(size) => {
                let contents = Contents::new(size);
                let writes = Writes::new(contents.clone(), scale.chunk);
                Box::new(Uploads::new(contents, UploadMethod::Stream(writes)))
            }
        }
    }

    /// How many responses are checked in full before anything is timed.
    pub(crate) fn warm_up(&self) -> u64 {
        match self.kind {
            Operation::ActionResult | Operation::BatchRead(1) | Operation::FindMissing(1) => REQUESTS as u64,
            Operation::FindMissing(_) | Operation::BatchRead(_) => LONG_REQUESTS as u64,
            Operation::Read(size) => (LARGE_FILL_BYTES / size) as u64,
            Operation::BatchUpdate(_) => 100,
            Operation::Write(size) => (64 * MIB / size) as u64,
        }
    }

    /// A workload that reads a sample of the last blobs that `requests` uploads stored, with its size. `None` if
    /// the cell does not upload.
    pub(crate) fn read_back(&self, requests: u64, scale: Scale) -> Option<(Box<dyn Workload>, u64)> {
        let (size, count) = match self.kind {
            Operation::BatchUpdate(count) => (SMALL_BYTES, requests * count),
            Operation::Write(size) => (size, requests),
            _ => return None,
        };
        let sample = count.min((64 * MIB / size).min(REQUESTS) as u64);
        Some((Box::new(reads(Contents::new(size), sample, count - sample, scale)), sample))
    }
}

fn actions() -> Actions {
    Actions::new(Contents::new(SMALL_BYTES), SMALL_COUNT)
}

/// The number of the first blob of each request, spread evenly over the small blobs.
fn starts(count: u64) -> impl Iterator<Item = u64> {
    let requests = if count == 1 { REQUESTS } else { LONG_REQUESTS } as u64;
    (0..requests).map(move |request| request * (SMALL_COUNT - count) / requests)
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
