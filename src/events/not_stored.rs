//! Why the result of a compile was not stored.
//!
//! The log keeps only the text of it, so a reason that is read from the log is that text.

use std::fmt;

use crate::invocation::Bypass;
use crate::publish::Refusal;

/// Why the result of a compile was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The result must not be stored.
    Refused(Refusal),
    /// The compiler printed more than kache keeps.
    MessagesTooLong,
    /// The store cannot be used.
    StoreUnusable(Bypass),
    /// The compiler could not be observed, for this reason.
    NotObserved(String),
    /// The record of the compiler's accesses could not be read, with this error.
    RecordUnreadable(String),
    /// Storing the result failed with this error.
    Failed(String),
    /// Storing the result, or a result that it depends on, takes too long.
    TooLate,
    /// The text of any of these, from the event log.
    Recorded(String),
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStored::Refused(refusal) => refusal.fmt(f),
            NotStored::MessagesTooLong => f.write_str("the compiler printed more than kache keeps"),
            NotStored::StoreUnusable(why) => why.fmt(f),
            NotStored::NotObserved(why) => write!(f, "the compiler could not be observed: {why}"),
            NotStored::RecordUnreadable(error) => write!(f, "failed to read the observer's record: {error}"),
            NotStored::TooLate => f.write_str("storing it would take too long"),
            NotStored::Failed(text) | NotStored::Recorded(text) => f.write_str(text),
        }
    }
}

impl NotStored {
    /// Returns the reason with this text; `None` if the text is empty.
    pub fn from_text(text: String) -> Option<NotStored> {
        (!text.is_empty()).then_some(NotStored::Recorded(text))
    }
}
