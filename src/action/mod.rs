//! One compile as one REAPI action. Pure: an invocation and its inputs go in, messages and
//! digests come out.

mod compose;
mod encoder;
mod error;
mod explain;
mod material;
mod observation;
mod task;
#[cfg(test)]
mod tests;
mod text;
mod to_task;
mod trail;
mod varint;

pub use compose::{CONSTANT_NAME, FullAction, Paths, Query, Subject, complete, compose, explain};
pub use error::ActionError;
pub use explain::{Entry, EntryDifference, ExplainError, Fetch, Section, differences, explain_stored};
pub use material::KEY_VERSION;
pub use observation::{Observation, ObservationSet, SETS_MAX, Trail};
pub use task::{Label, Origin, Output, OutputKind, Task};
pub use to_task::task;
pub use trail::{TRAIL_VERSION, TrailError};
