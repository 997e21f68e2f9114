//! The functions that the pipeline calls at fixed points of a call, so that the build which the call
//! belongs to can keep its records.
//!
//! The pipeline knows no build session and no edit: the caller that begins a call passes an
//! implementation of [`BuildHooks`] along with it. `builds` has the implementation of the daemon.

use std::fmt::Debug;
use std::sync::Arc;

use kache_cas::Hash;

use super::call_state::KeyedCall;
use crate::compile::KnownFile;
use crate::outputs::Staging;
use crate::remote::RemoteSession;

/// How a compile is run because of edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditDecision {
    /// The result is stored, for all checkouts.
    Shared,
    /// The result is used in this checkout only, and not stored.
    Local {
        /// Why, for the event log.
        why: String,
        /// Whether the compiler uses cargo's incremental directory.
        is_incremental: bool,
    },
}

/// The build that a call belongs to. All functions run on the thread of the call, which may block.
pub trait BuildHooks: Debug + Send + Sync {
    /// Returns the process id of the call's cargo; `None` if it is not known.
    fn cargo_pid(&self) -> Option<i32>;

    /// Returns the build's session with remotes; `None` if the call belongs to no build.
    fn remote_session(&self) -> Option<Arc<RemoteSession>>;

    /// Decides how to run the compiler, after a miss.
    fn decide(&self, call: &KeyedCall) -> EditDecision;

    /// Called before the compiler runs. The returned value is kept until the result is stored, or
    /// until it is certain that it will not be.
    fn compile_begins(&self, call: &KeyedCall, decision: &EditDecision) -> Box<dyn CompileHooks>;

    /// Called after the result of an action was restored and recorded, before the call is answered.
    /// `placed` holds the files that were put into the checkout.
    fn restored(&self, call: &KeyedCall, action: Hash, placed: &[KnownFile]);

    /// Called after the result of a compile was stored as that of an action. The client has exited.
    fn stored(&self, call: &KeyedCall, action: Hash, outputs: &[KnownFile]);
}

/// One compile that has begun. Dropping this value means that the compiler has ended, and that the
/// result is in the store or never will be.
pub trait CompileHooks: Debug + Send + Sync {
    /// Called after the compiler has ended and was recorded. The client still waits, so files beside
    /// the outputs may be changed through its staging directory.
    fn compiler_ended(&mut self, call: &KeyedCall, staging: &Staging);
}

/// The hooks of a call that belongs to no build.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBuild;

impl BuildHooks for NoBuild {
    fn cargo_pid(&self) -> Option<i32> {
        None
    }

    fn remote_session(&self) -> Option<Arc<RemoteSession>> {
        None
    }

    fn decide(&self, _: &KeyedCall) -> EditDecision {
        EditDecision::Shared
    }

    fn compile_begins(&self, _: &KeyedCall, _: &EditDecision) -> Box<dyn CompileHooks> {
        Box::new(NoBuild)
    }

    fn restored(&self, _: &KeyedCall, _: Hash, _: &[KnownFile]) {}

    fn stored(&self, _: &KeyedCall, _: Hash, _: &[KnownFile]) {}
}

impl CompileHooks for NoBuild {
    fn compiler_ended(&mut self, _: &KeyedCall, _: &Staging) {}
}
