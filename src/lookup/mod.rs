//! Finds the result of a query: trail, observation sets, action cache.

mod error;
mod find;
mod key;
mod origin;
mod outcome;
mod quarantine;
mod records;
mod trails;

pub use error::LookupError;
pub use find::{Env, are_current, find, observe_newest_set, observe_path_sets};
pub use key::{action_key, fetched_key};
pub use origin::{ResultOrigin, Uploads, result_of};
pub use outcome::{Difference, LookupMiss, LookupOutcome};
pub use quarantine::{DifferentBytes, Disagreement, is_quarantined, quarantine, release};
pub use records::{read_record, remove_record, write_record};
pub use trails::{learn, read_trail, read_uploaded_trail};
