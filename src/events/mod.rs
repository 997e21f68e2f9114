//! The event log: what each wrapper call did, recorded by the daemon and read by reports.
//!
//! The log consists of files of records under `<cache dir>/events`. A report reads the files itself
//! and does not need the daemon (DMN-06). The log knows no store and no settings.

mod change;
mod event;
mod history;
mod log;
pub mod miss;
mod record;
mod segment;
mod summary;

pub use change::Change;
pub use event::{Amendment, Event, Outcome, Phase, SEEDED, UPLOADED};
pub use history::{History, Unread, read};
pub use log::{CallId, Log};
pub use summary::{PROBE, Summary, by_frequency};
