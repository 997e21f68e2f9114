//! From a finished compile to a stored result.

mod accesses;
mod amend;
mod compare;
mod dir_names;
mod explained;
mod lexer;
mod locator;
mod macro_note;
mod macro_notes;
mod observe;
mod own;
mod pattern;
mod places;
mod reference;
mod refusal;
mod run;
mod scan;
mod stamps;
mod unobserved;
mod watched;

pub use accesses::{EXCLUDED_ACCESSES, ExclusionRule};
pub use amend::amend_dep_info;
pub use compare::{Differing, differing};
pub use macro_notes::MacroArguments;
pub use reference::page as reference_page;
pub use refusal::Refusal;
pub use run::{Publication, PublishError, Published, Stored, Stores, publish};
pub use stamps::Stamps;
pub use watched::Watched;

#[cfg(test)]
mod accesses_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
