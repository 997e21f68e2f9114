//! `kache report`: what compiler calls did. It only reads the event log: it needs no daemon,
//! starts none and changes nothing (DMN-06).

mod command;
mod document;
mod markdown;
mod text;

pub(super) use command::{history, run, warn_of_unread};
pub(super) use document::{SummaryEntry, summary_entry};
pub(super) use text::{percent, remote_troubles, seconds, shown};
