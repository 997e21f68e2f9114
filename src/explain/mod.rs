//! What kache did, explained: what an action is made of, how two of them differ, and why a
//! crate was compiled.
//!
//! Actions are read back by the same walk that made their digest (`action`), so what is said
//! here cannot part from what was keyed. Pure: it knows no store and no daemon; whoever asks
//! hands it a way to bytes.

mod compare;
mod load;
mod page;
#[cfg(test)]
mod testing;
mod why;

pub use compare::compare;
pub use load::{Blobs, Explained, LoadError, load};
pub use page::{Origins, page};
pub use why::{Case, case, sentence, similar};
