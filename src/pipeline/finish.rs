//! After the compiler: the call is put on record, and its result goes into the store.

use std::time::SystemTime;

use super::begin::Pipeline;
use super::flights::Landing;
use super::pending::Ticket;
use crate::compile::{Captured, Exit};
use crate::events::{Amendment, CallId, Outcome, Phase};

/// A result on its way into the store, after the client has gone.
#[derive(Debug)]
pub struct Publishing {
    ticket: Box<Ticket>,
    call: Option<CallId>,
    captured: Captured,
    /// Whether that is all it said.
    is_whole: bool,
}

impl Pipeline {
    /// Puts the call on record. What is returned is to be handed to [`Pipeline::publish`].
    pub fn finish(&self, mut ticket: Box<Ticket>, captured: Captured, is_whole: bool) -> Publishing {
        ticket.phases.end(Phase::Compile);
        let mut event = ticket.event.clone();
        event.at = SystemTime::now();
        event.elapsed = ticket.phases.elapsed();
        event.phases = ticket.phases.clone().into_done();
        event.compile_time = captured.wall;
        event.compiler_runs += 1;
        if captured.exit != Exit::Code(0) && ticket.outcome() == Outcome::Miss {
            event.outcome = Outcome::Skipped;
        }
        let call = self.recorder.record(&event);
        Publishing { ticket, call, captured, is_whole }
    }

    /// Stores what can be stored. It takes its time: nobody waits but other calls of the same
    /// action.
    pub fn publish(&self, publishing: Publishing) {
        let Publishing { mut ticket, call, captured, is_whole: _ } = publishing;
        let landing = Landing::NotStored;
        let amendment = Amendment { not_stored: "nothing is stored yet".to_owned(), ..Amendment::default() };
        if let Some(call) = call.filter(|_| captured.exit == Exit::Code(0)) {
            self.recorder.amend(call, &amendment);
        }
        if let Some(lead) = ticket.lead.take() {
            lead.land(landing);
        }
    }
}
