//! Answers compiler calls: parse, gather inputs, make the key, look up, restore or compile, publish.
//!
//! Only this module knows all of these stages. Its functions block on files and on the store, so
//! callers run them on threads that may block. Two invariants: every call is recorded as exactly one
//! event, before it is answered (DMN-07); and whatever fails here, the client runs the compiler.

mod answer;
mod begin;
mod call_state;
mod coalescer;
mod command;
mod declared;
mod edit_memory;
mod edit_tracker;
mod edited_source;
mod finish;
mod in_order;
mod incremental_dir;
mod outputs_in_progress;
mod phases;
mod prepare;
mod recorder;
mod rerun;
mod seeding;
mod sessions;
mod sharing;
mod slot;
mod verify;

pub use answer::{CallReply, CompilerCommand, NextStep};
pub use begin::{Pipeline, pass_on_unrecorded};
pub use call_state::{CallClient, RunningCompile, WaitingCall};
pub use coalescer::{Follower, LeaderOutcome};
pub use finish::Publishing;
pub use rerun::{Rerun, RerunCommand, Skipped, Verdict};
pub use seeding::{Seeding, SeedingPlan};
pub use sessions::{SEEDING_MAX, Session};
pub use slot::StoreSlot;
pub use verify::{VERIFY_DIRECTORY, Verification, VerifyError};
