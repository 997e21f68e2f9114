//! Seeds: units of earlier builds that are restored before cargo looks at its target directory. Cargo
//! then finds them fresh and does not call the compiler for them.
//!
//! A set of seeds is stored under a digest of everything that decides what cargo compiles: the lock
//! file, the command line, configuration files and variables. A seed is a candidate and no more. The
//! pipeline looks up its result as if cargo had called for the unit, and cargo checks its own record
//! of the unit as always.

mod build_request;
mod portable;
mod set;

pub use build_request::BuildRequest;
pub use portable::{ChangedVariable, PortableCall};
pub use set::{SaveSeedsError, Seed, SeedSet, load, save};
