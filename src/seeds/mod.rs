//! What earlier builds of a workspace left of units that follow from their inputs alone, to be
//! laid down before cargo looks: then it finds them fresh, and calls nobody for them.
//!
//! A set is found by all that decides what cargo compiles: the lock file, the words of the
//! command, configuration files and variables. It is a list of candidates and of nothing more.
//! Whoever lays one down has looked it up by its own key first, as if cargo had just called for
//! it, and cargo checks its record of it as always.

mod asked;
mod portable;
mod set;

pub use asked::Asked;
pub use portable::{Changed, Portable};
pub use set::{Seed, Seeds, load, save};
