//! Files that are being made, from the moment a compiler is told to make them until they are
//! in the store.
//!
//! A result is stored after those of the files that it depends on: their dates and names are
//! settled by then, and what one learns of a crate the next one finds.

use std::path::PathBuf;

use super::flights::{Boarding, Flights, Follower, Lead};
use crate::action::Task;
use crate::restore::dates::place_of;

/// The files under way.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    flights: Flights<PathBuf>,
}

/// The files of one compile, under way until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Making {
    /// Held for what it does when it is dropped.
    _leads: Vec<Lead<PathBuf>>,
    /// Who was making the same files before.
    before: Vec<Follower>,
}

impl Outputs {
    /// These files are about to be made.
    pub(super) fn make(&self, task: &Task) -> Making {
        let mut making = Making::default();
        for output in &task.outputs {
            match self.flights.board(&place_of(task, output)) {
                Boarding::Lead(lead) => making._leads.push(lead),
                Boarding::Follow(follower) => making.before.push(follower),
            }
        }
        making
    }

    /// Who makes what this task depends on, and who made its outputs before.
    pub(super) fn awaited(&self, task: &Task, making: &mut Making) -> Vec<Follower> {
        let others = task.depends_on.iter().filter_map(|path| self.flights.follow(path));
        making.before.drain(..).chain(others).collect()
    }
}
