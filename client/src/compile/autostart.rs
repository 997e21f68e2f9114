//! Starting the daemon for a call that found none.
//!
//! One of a build's first calls starts it, the others wait beside, and none waits longer than
//! [`START_BUDGET`]. The engine does the starting: it knows the configuration. What it has to
//! say goes to nobody here; `kache doctor` asks it again (RST-07).

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::grievance::Grievance;
use crate::engine::engine_path;
use crate::os::Lock;
use crate::place::Place;

/// The one-time wait for a daemon that is being started. Starting takes 30 ms; a machine that
/// has just begun a build on all processors is given a hundred times that.
pub(crate) const START_BUDGET: Duration = Duration::from_secs(3);

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// Held by the call that starts a daemon.
const TURN: &str = "autostart.lock";

/// Waits for a daemon, started here or by another call, until `is_there` says so, `by` this moment. Whether it
/// is worth asking again.
pub(crate) fn wait_for_one(place: &Place, by: Instant, mut is_there: impl FnMut() -> bool) -> bool {
    if Grievance::NoStart.is_fresh(place) || place.prepare().is_err() {
        return false;
    }
    let deadline = by.min(Instant::now() + START_BUDGET);
    let mut starter = Starting::default();
    while Instant::now() < deadline {
        if is_there() {
            return true;
        }
        if starter.advance(place) == Progress::Failed {
            break;
        }
        // Another call may have given up meanwhile, and this one need not wait it out again.
        if !starter.is_mine() && Grievance::NoStart.is_fresh(place) {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Grievance::NoStart.note(place);
    false
}

/// The engine at work, if it is this call's turn.
#[derive(Default)]
struct Starting {
    turn: Option<Lock>,
    child: Option<Child>,
}

#[derive(PartialEq, Eq)]
enum Progress {
    Waiting,
    Failed,
}

impl Starting {
    fn is_mine(&self) -> bool {
        self.turn.is_some()
    }

    /// Takes the turn when it is free, and starts the engine once.
    fn advance(&mut self, place: &Place) -> Progress {
        if self.turn.is_none() {
            self.turn = Lock::take(&place.dir().join(TURN)).ok();
            if self.turn.is_none() {
                return Progress::Waiting;
            }
            self.child = start();
            return if self.child.is_some() { Progress::Waiting } else { Progress::Failed };
        }
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) if !status.success() => Progress::Failed,
            _ => Progress::Waiting,
        }
    }
}

/// `kached daemon start`, with the call's configuration and nothing of its pipes (DMN-04).
fn start() -> Option<Child> {
    let mut command = Command::new(engine_path().ok()?);
    command.args(["daemon", "start"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}
