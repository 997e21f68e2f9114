//! The two keys of a compile, as REAPI actions. Pure: an invocation and its inputs go in, messages
//! and digests come out. It reads no file and knows no store.
//!
//! One function, `material::walk`, decides what enters a key. Two visitors follow it: `encoder`
//! makes messages and digests, `explain` makes text for people. [`KEY_PARTS`] lists every part of a
//! key with the reason for it and is printed as `docs/cache-key.md`. Tests compare the list, the walk
//! and the page with one another.
//!
//! Invariants: equal keys mean equal compiles (KEY-01 to KEY-16, KEY-18). The path of a checkout
//! enters a key only where outputs depend on it (KEY-17). The order in which files are read enters
//! no key (KEY-22).

mod columns;
mod command;
mod compose;
mod encoder;
mod environment;
mod error;
mod explain;
mod material;
mod message_format;
mod observation;
mod path_set;
mod reference;
mod task;
#[cfg(test)]
mod tests;
mod text;
mod trail;

pub use command::{CONSTANT_NAME, StoredCommand};
pub use compose::{FullAction, KeySubject, PathTreatment, Query, complete, compose, explain, explain_query};
pub use environment::{CallEnv, is_imported, is_of_the_call, is_shared_variable, names_digest};
pub use error::ActionError;
pub use explain::{Entry, ExplainError, Fetch, Section, explain_stored};
pub use material::KEY_VERSION;
pub use message_format::MessageFormat;
#[cfg(test)]
pub(crate) use message_format::testing::PlusNotices;
pub use observation::{Observation, ObservationSet, SETS_MAX, Trail};
pub use path_set::{Observable, PATH_SETS_VERSION, PathSet, PathSetError, PathSets};
pub use reference::{KEY_PARTS, KeyPart, page};
pub use task::{Label, Origin, Output, OutputKind, Task};
pub use trail::{TRAIL_VERSION, TrailError};
