//! From a query to a result: trail, observation sets, action cache.

mod outcome;

pub use outcome::{Difference, Found, Miss};
