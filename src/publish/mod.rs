//! From a finished compile to a stored result.

mod amend;
mod compare;
mod lexer;
mod locator;
mod observe;
mod own;
mod refusal;
mod run;
mod scan;
mod stamps;

pub use amend::amend_dep_info;
pub use compare::disagreement;
pub use refusal::Refusal;
pub use run::{Publication, PublishError, Published, Stored, Stores, publish};
pub use stamps::Stamps;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
