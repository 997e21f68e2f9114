//! Explains what kache did: the parts of an action, how two actions differ, and why a crate was
//! compiled.
//!
//! Actions are read back by the same walk that computed their digest (`action`), so an
//! explanation cannot differ from the key. Pure: this module knows no store and no daemon. The
//! caller passes the events and a source of blobs.

mod compare;
mod load;
mod page;
#[cfg(test)]
mod testing;
mod why;

pub use compare::compare;
pub use load::{Blobs, ExplainedAction, LoadError, load};
pub use page::{ResultOrigins, page};
pub use why::{MissCase, miss_case, sentence, similar};
