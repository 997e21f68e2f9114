//! Stored actions that a client compiles once more: it is told what to run, and afterwards
//! what came of it. Nothing is kept between the two questions.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::Hash;
use kache_client::control::verdict::{
    self, Agreed, Differing as WireDiffering, Disagreed, Rerun as WireRerun, Skipped as WireSkipped,
};
use kache_client::control::{Failed, Verdict as WireVerdict, Verify, reply};
use tokio::sync::{Semaphore, mpsc};

use super::wire::{bytes, text};
use crate::invocation::variable;
use crate::pipeline::{Pipeline, Rerun, Verdict};
use crate::publish::Differing;
use crate::roles::{Role, Root, Roots};

/// So many questions are answered at once. Each looks at every file that a compile read.
const QUESTIONS_MAX: usize = 2;

/// Questions under way.
#[derive(Debug)]
pub(super) struct Verifying {
    free: Arc<Semaphore>,
}

impl Default for Verifying {
    fn default() -> Self {
        Verifying { free: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }
}

impl Verifying {
    /// Answers where blocking is allowed.
    pub(super) fn begin(
        &self,
        pipeline: Arc<Pipeline>,
        verify: &Verify,
        replies: mpsc::WeakSender<reply::Kind>,
    ) {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let (Some(rerun), Ok(permit)) = (question(verify), permit) else {
            let why = "it cannot be verified now: too much is asked for, or that is no action";
            return send(&replies, failed(why.to_owned()));
        };
        tokio::task::spawn_blocking(move || {
            let reply = answered(&pipeline, &rerun);
            drop((pipeline, permit));
            send(&replies, reply);
        });
    }
}

/// The answer, for whoever may block and has nobody else to serve.
pub(super) fn answer_here(pipeline: &Pipeline, verify: &Verify) -> reply::Kind {
    match question(verify) {
        Some(rerun) => answered(pipeline, &rerun),
        None => failed("that is no action".to_owned()),
    }
}

fn answered(pipeline: &Pipeline, rerun: &Rerun) -> reply::Kind {
    match pipeline.rerun(rerun) {
        Ok(verdict) => reply::Kind::Verdict(WireVerdict { kind: Some(answer(verdict)) }),
        Err(error) => failed(format!("{error:#}")),
    }
}

/// What is asked; `None` where that makes no sense.
fn question(verify: &Verify) -> Option<Rerun> {
    let root = |root: &kache_client::control::Root| {
        Some(Root { role: Role::from_dir_name(&root.role)?, dir: PathBuf::from(text(&root.dir)) })
    };
    Some(Rerun {
        action: Hash(<[u8; Hash::LEN]>::try_from(&verify.action[..]).ok()?),
        roots: Roots::new(verify.roots.iter().map(root).collect::<Option<Vec<_>>>()?),
        env: verify.env.iter().map(|pair| variable(pair)).collect(),
        into: PathBuf::from(text(&verify.into)),
        is_made: verify.is_made,
    })
}

fn answer(verdict: Verdict) -> verdict::Kind {
    match verdict {
        Verdict::Run(run) => verdict::Kind::Rerun(WireRerun {
            argv: run.argv.into_iter().map(bytes).collect(),
            cwd: bytes(run.cwd.into_os_string()),
            env: run.env.into_iter().map(joined).collect(),
        }),
        Verdict::Agreed => verdict::Kind::Agreed(Agreed {}),
        Verdict::Disagreed(found) => verdict::Kind::Disagreed(disagreed(found)),
        Verdict::Skipped(why, detail) => {
            verdict::Kind::Skipped(WireSkipped { reason: why.name().to_owned(), detail })
        }
    }
}

/// An older client reads of the first output only.
fn disagreed(found: Vec<Differing>) -> Disagreed {
    let outputs: Vec<WireDiffering> = found.into_iter().map(differing).collect();
    let first = outputs.first().cloned().unwrap_or_default();
    let WireDiffering { output, offset, differing_bytes, .. } = first;
    Disagreed { output, offset, differing_bytes, outputs }
}

fn differing(found: Differing) -> WireDiffering {
    WireDiffering {
        output: found.at.output,
        offset: found.at.bytes.map(|bytes| bytes.offset),
        differing_bytes: found.at.bytes.map(|bytes| bytes.count),
        stored_bytes: found.before_bytes,
        made_bytes: found.now_bytes,
    }
}

fn joined((mut name, value): (std::ffi::OsString, std::ffi::OsString)) -> Bytes {
    name.push("=");
    name.push(value);
    bytes(name)
}

fn failed(message: String) -> reply::Kind {
    reply::Kind::Failed(Failed { message })
}

/// A client that has gone, or reads nothing, gets nothing.
fn send(replies: &mpsc::WeakSender<reply::Kind>, kind: reply::Kind) {
    if let Some(replies) = replies.upgrade() {
        let _ = replies.try_send(kind);
    }
}
