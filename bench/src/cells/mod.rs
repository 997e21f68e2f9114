//! What is measured: the cells of the table, and the work behind each.
//!
//! A cell knows how to fill a server, what to ask of it and how to check the answers. It
//! knows neither which server that is nor how it is timed.

mod cell;
mod prepared;
mod uploads;

pub(crate) use cell::{CELLS, Cell, Scale};
pub(crate) use prepared::Sequence;
