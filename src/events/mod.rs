//! The event log: what each wrapper call did, recorded by the daemon and read by reports.
//!
//! The log consists of files of records under `<cache dir>/events`. A report reads the files itself
//! and does not need the daemon (DMN-06). The log knows no store and no settings.

mod change;
mod event;
mod history;
mod log;
mod miss;
mod not_stored;
mod reason;
mod record;
mod segment;
mod summary;

pub use change::Change;
pub use event::{Amendment, Event, Outcome, Phase};
pub use history::{History, Unread, read};
pub use log::{CallId, Log};
pub use not_stored::NotStored;
pub use reason::{EventReason, MissReason};
pub use summary::{PROBE, ReasonCounts, Summary, by_frequency};
