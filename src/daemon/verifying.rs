//! Answers verify requests, for stored actions that a client compiles again.
//!
//! The first request is answered with the command to run. The second one comes after the compiler ran
//! and is answered with the result of the comparison. Nothing is kept between the two.

use std::path::PathBuf;
use std::sync::Arc;

use kache_cas::{Hash, with_causes};
use kache_client::assignment;
use kache_client::control::verdict::{
    self, Agreed, Differing as WireDiffering, Disagreed, Rerun as WireRerun, Skipped as WireSkipped,
};
use kache_client::control::{Verdict as WireVerdict, Verify, reply};
use tokio::sync::{Semaphore, mpsc};

use super::wire::{bytes, failed, os_string, send};
use crate::invocation::variable;
use crate::pipeline::{self, Pipeline, Rerun, Verdict};
use crate::publish::OutputDifference;
use crate::roles::{Role, Root, Roots};

/// The number of requests that are answered at once. Each of them reads all inputs of a compile.
const REQUESTS_MAX: usize = 2;

/// Answers the requests of `kache verify`.
#[derive(Debug)]
pub(super) struct VerifyHandler {
    free: Arc<Semaphore>,
}

impl Default for VerifyHandler {
    fn default() -> Self {
        VerifyHandler { free: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }
}

impl VerifyHandler {
    /// Answers a request on a thread that may block.
    pub(super) fn begin(
        &self,
        pipeline: Arc<Pipeline>,
        verify: &Verify,
        replies: mpsc::WeakSender<reply::Kind>,
    ) {
        // Requests do not queue: their clients have a deadline, so a request above the limit fails at once.
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let (Some(rerun), Ok(permit)) = (parse_request(verify), permit) else {
            let why = "it cannot be verified now: there are too many requests, or that is no action";
            return send(&replies, failed(why.to_owned()));
        };
        tokio::task::spawn_blocking(move || {
            let reply = answer(&pipeline, &rerun);
            drop((pipeline, permit));
            send(&replies, reply);
        });
    }
}

/// Answers a request on the calling thread, which blocks.
pub(super) fn answer_here(pipeline: &Pipeline, verify: &Verify) -> reply::Kind {
    match parse_request(verify) {
        Some(rerun) => answer(pipeline, &rerun),
        None => failed("that is no action".to_owned()),
    }
}

fn answer(pipeline: &Pipeline, rerun: &Rerun) -> reply::Kind {
    match pipeline::rerun(pipeline, rerun) {
        Ok(verdict) => reply::Kind::Verdict(WireVerdict { kind: Some(verdict_message(verdict)) }),
        Err(error) => failed(with_causes(&error)),
    }
}

/// Parses a request; `None` if its hash or a root is not valid.
fn parse_request(verify: &Verify) -> Option<Rerun> {
    let root = |root: &kache_client::control::Root| {
        Some(Root { role: Role::from_dir_name(&root.role)?, dir: PathBuf::from(os_string(&root.dir)) })
    };
    Some(Rerun {
        action: Hash(<[u8; Hash::LEN]>::try_from(&verify.action[..]).ok()?),
        roots: Roots::new(verify.roots.iter().map(root).collect::<Option<Vec<_>>>()?),
        env: verify.env.iter().map(|pair| variable(pair)).collect(),
        into: PathBuf::from(os_string(&verify.into)),
        is_made: verify.is_made,
    })
}

fn verdict_message(verdict: Verdict) -> verdict::Kind {
    match verdict {
        Verdict::Run(run) => verdict::Kind::Rerun(WireRerun {
            argv: run.argv.into_iter().map(bytes).collect(),
            cwd: bytes(run.cwd.into_os_string()),
            env: run.env.into_iter().map(assignment).collect(),
        }),
        Verdict::Agreed => verdict::Kind::Agreed(Agreed {}),
        Verdict::Disagreed(found) => verdict::Kind::Disagreed(disagreed(found)),
        Verdict::Skipped(why, detail) => {
            verdict::Kind::Skipped(WireSkipped { reason: why.name().to_owned(), detail })
        }
    }
}

/// Describes the outputs that differ. The fields beside `outputs` describe the first one, for clients
/// of older versions.
fn disagreed(found: Vec<OutputDifference>) -> Disagreed {
    let outputs: Vec<WireDiffering> = found.into_iter().map(differing).collect();
    let first = outputs.first().cloned().unwrap_or_default();
    let WireDiffering { output, offset, differing_bytes, .. } = first;
    Disagreed { output, offset, differing_bytes, outputs }
}

fn differing(found: OutputDifference) -> WireDiffering {
    WireDiffering {
        output: found.at.output,
        offset: found.at.bytes.map(|bytes| bytes.offset),
        differing_bytes: found.at.bytes.map(|bytes| bytes.count),
        stored_bytes: found.before_bytes,
        made_bytes: found.now_bytes,
    }
}
