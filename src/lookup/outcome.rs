//! What a lookup finds.

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;
use kache_proto::reapi::ActionResult;

use super::origin::ResultOrigin;
use crate::action::Observation;

/// A lookup's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A result, complete.
    Hit {
        /// The action.
        action: Digest<ActionMessage>,
        /// Its result.
        result: Box<ActionResult>,
        /// Where the result is from.
        origin: ResultOrigin,
    },
    /// None, and why.
    Miss(Miss),
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// This query was never seen.
    NewQuery,
    /// It was seen, under other circumstances; this is how the nearest of them differ.
    Changed(Vec<Difference>),
    /// The same was seen, and its result is gone.
    Evicted(Digest<ActionMessage>),
    /// The same was seen, and two results of it disagreed.
    Quarantined(Digest<ActionMessage>),
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As it was.
    pub before: Observation,
    /// As it is; none if it cannot be told.
    pub now: Option<Observation>,
}
