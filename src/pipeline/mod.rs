//! Answers compiler calls. `stages` lists the stages of a call from top to bottom, and is the file to
//! read first.
//!
//! Only this module knows all of these stages. Its functions block on files and on the store, so
//! callers run them on threads that may block.

mod answer;
mod build_hooks;
mod bypass;
mod call_state;
mod coalescer;
mod command;
mod context;
mod declared;
mod fetch;
mod finish;
mod hit;
mod key;
mod memos;
mod miss;
mod outputs_in_progress;
mod phases;
mod prepare;
mod recorder;
mod rerun;
mod sampler;
mod share;
mod share_inputs;
mod sharing;
mod slot;
mod stages;
mod sync;
mod tiers;
mod verify;

pub use answer::{CallReply, CompilerCommand, NextStep};
pub use build_hooks::{BuildHooks, CompileHooks, EditDecision};
pub use bypass::pass_on_unrecorded;
pub use call_state::{CallClient, KeyedCall, LookedUpCall, ReceivedCall, RunningCompile};
pub use coalescer::{Follower, LeaderOutcome};
pub use context::Pipeline;
pub use fetch::RemoteLookup;
pub use finish::{PUBLISH_MAX, Publishing};
pub use hit::{look_up, restore_result};
pub use key::key_unrecorded;
pub use prepare::Prepared;
pub use rerun::{Rerun, RerunCommand, Skipped, Verdict, rerun};
pub use sharing::SharedOutputs;
pub use slot::StoreSlot;
pub use sync::{SyncRequest, sync};
pub use verify::{VERIFY_DIRECTORY, Verification, VerifyError, verify};
