//! The cells of the table, and the workload of each.
//!
//! A cell knows how to fill a server, which requests to send and how to check the responses. It knows neither which
//! server that is nor how it is timed.

mod cell;
mod prepared;
mod uploads;

pub(crate) use cell::{CELLS, Cell, Scale};
pub(crate) use prepared::Sequence;
