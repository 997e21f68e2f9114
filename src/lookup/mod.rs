//! From a query to a result: trail, observation sets, action cache.

mod error;
mod find;
mod key;
mod outcome;
mod quarantine;
mod trails;

pub use error::LookupError;
pub use find::{Env, find, outlook, shares_outlook};
pub use key::{action_key, record_key};
pub use outcome::{Difference, Found, Miss};
pub use quarantine::{DifferentBytes, Disagreement, is_quarantined, quarantine, release};
pub use trails::{learn, read_trail};
