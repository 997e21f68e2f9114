//! One call from its request to its answer, and its result into the store.
//!
//! The only part of the house that knows all stages. It blocks: whoever runs it gives it
//! threads. Invariant: every call ends in exactly one event, written before it is answered
//! (DMN-07), and whatever goes wrong here ends in the compiler being run.

mod answer;
mod begin;
mod declared;
mod edit;
mod editing;
mod edits;
mod finish;
mod flights;
mod in_order;
mod outputs;
mod pending;
mod phases;
mod prepare;
mod recorder;
mod rerun;
mod run;
mod seeding;
mod sessions;
mod sharing;
mod slot;
mod tidying;
mod verify;

pub use answer::{Begun, Reply, Run};
pub use begin::{Pipeline, unrecorded};
pub use finish::Publishing;
pub use flights::{Follower, Landing};
pub use pending::{Client, Pending, Ticket};
pub use rerun::{Rerun, Rerunning, Skipped, Verdict};
pub use seeding::{Plan, Seeding};
pub use sessions::{SEEDING_MAX, Session};
pub use slot::StoreSlot;
pub use verify::{VERIFY_DIRECTORY, Verification};
