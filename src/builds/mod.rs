//! What kache remembers from one call of a build to the next: build sessions, seeding and edits.
//!
//! `builds` uses the pipeline and is not used by it: the pipeline calls the hooks that come with a
//! call ([`crate::pipeline::BuildHooks`]). It knows no daemon; its caller says when a cargo has exited
//! and which thread may block. Nothing here decides which result is right: without this module builds
//! are slower, and equally correct.

mod call_hooks;
mod cargo_question;
mod edit_memory;
mod edit_tracker;
mod edited_source;
mod entry;
mod in_order;
mod incremental_dir;
mod records;
mod seeding;
mod session;
mod sessions;
mod shared_checks;

pub use entry::{BegunCall, Builds};
pub use records::STORING_MAX;
pub use seeding::{SEEDING_MAX, Seeding, SeedingPlan};
pub use session::Session;
