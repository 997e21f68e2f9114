//! What wrapper calls did: recorded by the daemon, read by whoever reports.
//!
//! The log is files of records under `<cache dir>/events`. One process writes, anybody
//! reads, and neither asks the other (DMN-06). It knows no store and no settings.

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
