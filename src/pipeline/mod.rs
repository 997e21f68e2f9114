//! Answers compiler calls: parse, gather inputs, make the key, look up, restore or compile, publish.
//!
//! Only this module knows all of these stages. Its functions block on files and on the store, so
//! callers run them on threads that may block. Two invariants: every call is recorded as exactly one
//! event, before it is answered (DMN-07); and whatever fails here, the client runs the compiler.

mod answer;
mod begin;
mod build_hooks;
mod call_state;
mod coalescer;
mod command;
mod declared;
mod finish;
mod outputs_in_progress;
mod phases;
mod prepare;
mod recorder;
mod rerun;
mod sharing;
mod slot;
mod verify;

pub use answer::{CallReply, CompilerCommand, NextStep};
pub use begin::{Pipeline, pass_on_unrecorded};
pub use build_hooks::{BuildHooks, CompileHooks, EditDecision};
pub use call_state::{CallClient, KeyedCall, RunningCompile, WaitingCall};
pub use coalescer::{Follower, LeaderOutcome};
pub use finish::{PUBLISH_MAX, Publishing};
pub use prepare::Prepared;
pub use rerun::{Rerun, RerunCommand, Skipped, Verdict};
pub use slot::StoreSlot;
pub use verify::{VERIFY_DIRECTORY, Verification, VerifyError};
