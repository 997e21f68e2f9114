//! One compile as one REAPI action. Pure: an invocation and its inputs go in, messages and
//! digests come out.
//!
//! What enters a key is told once, by the walk in `material`; `encoder` makes digests of it and
//! `explain` text. The table of all of it, with the reasons, is [`PARTS`], printed as
//! `docs/cache-key.md`; tests hold table, walk and page against one another.
//!
//! Invariants: equal keys mean equal compiles (KEY-01 to KEY-16, KEY-18); the place of a
//! checkout is in no key that need not have it (KEY-17); order of reading is in none (KEY-22).

mod compose;
mod encoder;
mod environment;
mod error;
mod explain;
mod material;
mod observation;
mod recall;
mod reference;
mod task;
#[cfg(test)]
mod tests;
mod text;
mod to_task;
mod trail;
mod varint;

pub use compose::{
    CONSTANT_NAME, FullAction, Paths, Query, Subject, complete, compose, explain, explain_query,
};
pub use environment::{CallEnv, is_imported, is_of_the_call, names_digest};
pub use error::ActionError;
pub use explain::{Entry, ExplainError, Fetch, Section, explain_stored};
pub use material::KEY_VERSION;
pub use observation::{Observation, ObservationSet, SETS_MAX, Trail};
pub use recall::{Recalled, recall};
pub use reference::{PARTS, Part, page};
pub use task::{Label, Origin, Output, OutputKind, Task};
pub use to_task::task;
pub use trail::{TRAIL_VERSION, TrailError};
