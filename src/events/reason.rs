//! Why a call ended as it did.
//!
//! The log and the reports keep only the name of a reason. Each name is that of one reason, so a name
//! that is read leads back to it.

use crate::invocation::{Reason, names};

names! {
    /// Why a lookup found no result.
    MissReason {
        /// The query was never compiled before.
        New "new";
        /// The query was compiled before, and something that the compiler observed has changed.
        Changed "changed";
        /// The action was compiled before, and its result is no longer in the store.
        Evicted "evicted";
        /// The action was compiled before, and two of its results differ.
        Quarantined "quarantined";
    }
}

/// Why a call ended as it did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventReason {
    /// The unit was restored before the build tool made a call for it.
    Seeded,
    /// The result was uploaded by a client of the served protocols.
    Uploaded,
    /// The lookup found no result.
    Miss(MissReason),
    /// The call was passed on.
    Bypass(Reason),
    /// The store could not be searched for a result.
    LookupFailed,
    /// The result was found, and restoring it failed.
    RestoreFailed,
    /// The event log has the name of a reason that this version does not know.
    Unknown(String),
}

/// The reasons that hold no further reason.
const SINGLE: [EventReason; 4] =
    [EventReason::Seeded, EventReason::Uploaded, EventReason::LookupFailed, EventReason::RestoreFailed];

impl EventReason {
    /// Returns the name in reports and in the log, which is part of the report's schema.
    pub fn name(&self) -> &str {
        match self {
            EventReason::Seeded => "seeded",
            EventReason::Uploaded => "uploaded",
            EventReason::LookupFailed => "lookup",
            EventReason::RestoreFailed => "restore",
            EventReason::Miss(reason) => reason.name(),
            EventReason::Bypass(reason) => reason.name(),
            EventReason::Unknown(name) => name,
        }
    }

    /// Returns the name of a reason; empty where there is none.
    pub fn name_of(reason: Option<&EventReason>) -> &str {
        reason.map_or("", EventReason::name)
    }

    /// Returns the reason with this name; `None` if the name is empty.
    pub fn from_name(name: &str) -> Option<EventReason> {
        let single = SINGLE.into_iter().find(|reason| reason.name() == name);
        let known = single
            .or_else(|| MissReason::from_name(name).map(EventReason::Miss))
            .or_else(|| Reason::from_name(name).map(EventReason::Bypass));
        let unknown = || (!name.is_empty()).then(|| EventReason::Unknown(name.to_owned()));
        known.or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_leads_back_to_its_reason() {
        let single = SINGLE.into_iter();
        let missed = MissReason::ALL.iter().copied().map(EventReason::Miss);
        let passed_on = Reason::ALL.iter().copied().map(EventReason::Bypass);
        let of_a_later_version = EventReason::Unknown("later".to_owned());
        for reason in single.chain(missed).chain(passed_on).chain([of_a_later_version]) {
            assert_eq!(EventReason::from_name(reason.name()), Some(reason));
        }
        assert_eq!(EventReason::from_name(""), None);
        assert_eq!(EventReason::name_of(None), "");
    }
}
