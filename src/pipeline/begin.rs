//! From a call to its answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::answer::{Begun, Reply};
use super::flights::{Boarding, Flights, Landing};
use super::pending::{Pending, Ticket};
use super::phases::Phases;
use super::recorder::Recorder;
use super::run;
use super::slot::StoreSlot;
use crate::config::CallConfigs;
use crate::events::{Event, Outcome, Phase};
use crate::invocation::{Bypass, Call, Reason};

/// What runs calls.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) recorder: Recorder,
    pub(super) configs: CallConfigs,
    pub(super) flights: Flights<String>,
    pub(super) store: watch::Receiver<StoreSlot>,
}

impl Pipeline {
    /// For the store in this directory.
    pub fn new(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        Pipeline {
            recorder: Recorder::new(cache_dir),
            configs: CallConfigs::new(),
            flights: Flights::default(),
            store,
        }
    }

    /// Begins a call.
    pub fn begin(&self, call: Arc<Call>) -> Begun {
        let phases = Phases::begin();
        self.go_on(Pending { call, phases }, None)
    }

    /// Goes on with a call whose leader has landed.
    pub fn resume(&self, mut pending: Pending, landing: Landing) -> Begun {
        pending.phases.end(Phase::Wait);
        self.go_on(pending, Some(landing))
    }

    fn pass(&self, call: &Call, mut event: Event, why: Bypass) -> Reply {
        event.reason = why.reason.name().to_owned();
        event.detail.clone_from(&why.detail);
        event.compiler_runs = 1;
        self.recorder.record(&event);
        Reply::PassOn { argv: run::without_incremental(&call.argv), why }
    }

    fn go_on(&self, pending: Pending, _landing: Option<Landing>) -> Begun {
        let Pending { call, mut phases } = pending;
        phases.end(Phase::Parse);
        let mut event = Event::new(SystemTime::now(), name_of(&call), Outcome::Miss);
        event.cwd = call.cwd.display().to_string();
        if !call.argv.iter().any(|word| word == "--crate-name") || call.argv.iter().any(|word| word == "-") {
            event.outcome = Outcome::Passthrough;
            return Begun::Answer(self.pass(&call, event, Bypass::new(Reason::Query, "")));
        }
        let lead = match self.flights.board(&format!("{:?}{:?}", call.argv, call.cwd)) {
            Boarding::Lead(lead) => lead,
            Boarding::Follow(follower) => {
                return Begun::Wait(follower, Box::new(Pending { call, phases }));
            }
        };
        let run = run::as_called(&call);
        Begun::Run(run, Box::new(Ticket { call, phases, event, lead: Some(lead) }))
    }
}

/// A call that is passed on and leaves no event behind.
pub fn unrecorded(call: &Call, why: Bypass) -> Reply {
    Reply::PassOn { argv: run::without_incremental(&call.argv), why }
}

/// What a call is shown as where nothing better is known: the crate, or the program.
pub(super) fn name_of(call: &Call) -> String {
    let mut words = call.argv.iter();
    let named = words.by_ref().find(|word| *word == "--crate-name").and_then(|_| words.next());
    let program = || call.argv.first().map(PathBuf::from)?.file_name().map(ToOwned::to_owned);
    named.cloned().or_else(program).unwrap_or_default().to_string_lossy().into_owned()
}
