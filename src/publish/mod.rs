//! From a finished compile to a stored result.

mod amend;
mod asked;
mod compare;
mod dir_names;
mod explained;
mod lexer;
mod locator;
mod note;
mod notes;
mod observe;
mod own;
mod pattern;
mod places;
mod reference;
mod refusal;
mod run;
mod scan;
mod stamps;
mod unseen;
mod watched;

pub use amend::amend_dep_info;
pub use asked::{LEFT_OUT, Rule};
pub use compare::{Differing, differing};
pub use notes::Macros;
pub use reference::page as reference_page;
pub use refusal::Refusal;
pub use run::{Publication, PublishError, Published, Stored, Stores, publish};
pub use stamps::Stamps;
pub use watched::Watched;

#[cfg(test)]
mod asked_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
