//! Requests that were all encoded ahead: lookups and reads.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::WrongBytes;
use crate::content::Random;
use crate::load::{Reply, Request, Workload};

/// Checks the messages of the answer to the request of this position.
pub(crate) type Check = Box<dyn Fn(usize, &[&[u8]]) -> Result<()>>;

/// A set of requests asked in random order. The warm-up asks each one once, in order, checks
/// every byte, and notes how long the answer was; later answers must be as long.
pub(crate) struct Prepared {
    method: &'static str,
    requests: Vec<Bytes>,
    check: Check,
    /// Bytes of the answer to each request: its data's, which do not depend on how a stream
    /// is cut into messages, or all of them.
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

    fn length(&self, reply: &Reply) -> u64 {
        if self.is_stream { reply.data_bytes } else { reply.message_bytes }
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

    fn looks_right(&self, client: usize, reply: &Reply) -> bool {
        self.length(reply) == self.lengths[self.last[client]] && (self.is_stream || reply.messages == 1)
    }

    fn verify(&mut self, client: usize, reply: &Reply) -> Result<()> {
        let position = self.last[client];
        ensure!(self.is_stream || reply.messages == 1, WrongBytes(format!("{} messages", reply.messages)));
        (self.check)(position, &crate::wire::messages(&reply.body))
            .with_context(|| format!("request {position} of {}", self.method))?;
        self.lengths[position] = self.length(reply);
        Ok(())
    }
}

/// Requests made one after the other and each asked once, to fill a server.
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

    fn looks_right(&self, _client: usize, reply: &Reply) -> bool {
        reply.messages == 1
    }

    fn verify(&mut self, _client: usize, _reply: &Reply) -> Result<()> {
        Ok(())
    }
}
