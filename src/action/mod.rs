//! One compile as one REAPI action. Pure: an invocation and its inputs go in, messages and
//! digests come out.

mod observation;
mod task;

pub use observation::{Observation, ObservationSet, SETS_MAX, Trail};
pub use task::{Label, Origin, Output, OutputKind, Task};
