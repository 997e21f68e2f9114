//! The outcome of a lookup.

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;
use kache_proto::reapi::ActionResult;

use super::origin::ResultOrigin;
use crate::action::Observation;

/// The outcome of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupOutcome {
    /// The store has a complete result.
    Hit {
        /// The digest of the action.
        action: Digest<ActionMessage>,
        /// The result of the action.
        result: Box<ActionResult>,
        /// The maker of the result.
        origin: ResultOrigin,
    },
    /// There is no usable result, for this reason.
    Miss(LookupMiss),
}

/// The reason why a lookup found no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupMiss {
    /// The query has no observation set.
    NewQuery,
    /// No observation set of the query holds. These are the differences from the nearest one.
    Changed(Vec<Difference>),
    /// An observation set holds, but the result of this action was evicted.
    Evicted(Digest<ActionMessage>),
    /// An observation set holds, but this action is quarantined.
    Quarantined(Digest<ActionMessage>),
}

/// An observation that has another value now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The observation in the set.
    pub before: Observation,
    /// The observation now; `None` if it cannot be made in this checkout.
    pub now: Option<Observation>,
}
