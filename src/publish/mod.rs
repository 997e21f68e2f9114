//! From a compile that ran to a stored result.
//!
//! [`publish`] is the entry. It makes observations from the dep-info (`observe`), from the observer's record
//! (`watched`, with `accesses` and `unobserved`), and from the outputs themselves (`scan`, with `dir_names`
//! and `explained`). The adapter of the compiler proves which variables are locators ([`LocatorProver`]).
//! Invariant: a result is stored only if every input of it is known, or [`Refusal`] says why not (KEY-04).

mod accesses;
mod amend;
mod compare;
mod dir_names;
mod explained;
mod locators;
mod observe;
mod output_snapshot;
mod path_namer;
mod refusal;
mod run;
mod scan;
mod unobserved;
mod watched;

pub use accesses::{AccessRules, CompileContext, EXCLUDED_ACCESSES, ExclusionRule, NotedAccess, ProgramRole};
pub use amend::amend_dep_info;
pub use compare::{OutputDifference, differing};
pub use locators::{LocatorProof, LocatorProver};
pub use output_snapshot::OutputSnapshot;
pub use refusal::Refusal;
pub use run::{Publication, PublishError, Published, Stored, Stores, publish};
pub use watched::Watched;

#[cfg(test)]
mod accesses_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
