//! Workloads whose requests are all encoded in advance: lookups and reads.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::WrongBytes;
use crate::content::Random;
use crate::load::{Request, Response, Workload};

/// Checks the messages of the response to the request at this position.
pub(crate) type Check = Box<dyn Fn(usize, &[&[u8]]) -> Result<()>>;

/// Requests that are sent in random order. The warm-up sends each one once, in order, checks every byte of the
/// response and keeps its length. Later responses must have the same length.
pub(crate) struct Prepared {
    method: &'static str,
    requests: Vec<Bytes>,
    check: Check,
    /// The length of the response to each request. For a stream it counts only data, because the server chooses how
    /// to split that into messages.
    lengths: Vec<u64>,
    is_stream: bool,
    last: Vec<usize>,
    warm: usize,
    random: Random,
}

impl Prepared {
    pub(crate) fn new(method: &'static str, requests: Vec<Bytes>, check: Check, clients: usize) -> Prepared {
        Prepared {
            method,
            lengths: vec![0; requests.len()],
            requests,
            check,
            is_stream: method == crate::requests::READ,
            last: vec![0; clients],
            warm: 0,
            random: Random::new(7),
        }
    }

    fn length(&self, response: &Response) -> u64 {
        if self.is_stream { response.data_bytes } else { response.message_bytes }
    }
}

impl Workload for Prepared {
    fn method(&self) -> &'static str {
        self.method
    }

    fn request(&mut self, client: usize) -> Option<Request> {
        let position = if self.warm < self.requests.len() {
            self.warm += 1;
            self.warm - 1
        } else {
            self.random.below(self.requests.len())
        };
        self.last[client] = position;
        Some(Request::new(vec![self.requests[position].clone()]))
    }

    fn has_expected_lengths(&self, client: usize, response: &Response) -> bool {
        self.length(response) == self.lengths[self.last[client]] && (self.is_stream || response.messages == 1)
    }

    fn verify(&mut self, client: usize, response: &Response) -> Result<()> {
        let position = self.last[client];
        ensure!(
            self.is_stream || response.messages == 1,
            WrongBytes(format!("{} messages", response.messages))
        );
        (self.check)(position, &crate::wire::messages(&response.body))
            .with_context(|| format!("request {position} of {}", self.method))?;
        self.lengths[position] = self.length(response);
        Ok(())
    }
}

/// Requests that are each sent once, in order, to fill a server.
pub(crate) struct Sequence<F> {
    method: &'static str,
    next: u64,
    end: u64,
    make: F,
}

impl<F: Fn(u64) -> Request> Sequence<F> {
    pub(crate) fn new(method: &'static str, end: u64, make: F) -> Self {
        Sequence { method, next: 0, end, make }
    }
}

impl<F: Fn(u64) -> Request> Workload for Sequence<F> {
    fn method(&self) -> &'static str {
        self.method
    }

    fn request(&mut self, _client: usize) -> Option<Request> {
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        Some((self.make)(self.next - 1))
    }

    fn has_expected_lengths(&self, _client: usize, response: &Response) -> bool {
        response.messages == 1
    }

    fn verify(&mut self, _client: usize, _response: &Response) -> Result<()> {
        Ok(())
    }
}
