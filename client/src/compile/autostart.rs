//! Starts the daemon for a compiler call that found none.
//!
//! One of a build's first calls starts the daemon and the others wait, none of them longer than
//! [`START_BUDGET`]. The engine does the starting, because it reads the configuration. Its errors
//! are not printed (RST-07); `kache doctor` tries to start the daemon again and shows them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::fallback_reason::FallbackReason;
use crate::address::DaemonAddress;
use crate::engine::engine_path;
use crate::os::Lock;

/// The time that a call waits for a daemon to be started. Starting takes 30 ms; this is a hundred
/// times that, for a machine on which a build has just taken all processors.
pub(crate) const START_BUDGET: Duration = Duration::from_secs(3);

/// The time between two checks whether the daemon runs.
const CHECK_EVERY: Duration = Duration::from_millis(4);

/// The file name of the lock that a call holds while it starts a daemon.
const AUTOSTART_LOCK: &str = "autostart.lock";

/// Waits until `is_running` says that a daemon runs, which this call or another one starts. Gives
/// up at the deadline, after [`START_BUDGET`], or as soon as the start has failed; then it returns
/// `false`, and the next calls do not try for a while.
pub(crate) fn wait_until_running(
    address: &DaemonAddress,
    deadline: Instant,
    mut is_running: impl FnMut() -> bool,
) -> bool {
    if FallbackReason::NoStart.is_recent(address) || address.prepare().is_err() {
        return false;
    }
    let deadline = deadline.min(Instant::now() + START_BUDGET);
    let mut start = EngineStart::default();
    while Instant::now() < deadline {
        if is_running() {
            return true;
        }
        if start.advance(address) == StartState::Failed {
            break;
        }
        // The call that starts the daemon may have given up meanwhile, and then this one gives up too.
        if !start.is_ours() && FallbackReason::NoStart.is_recent(address) {
            return false;
        }
        std::thread::sleep(CHECK_EVERY);
    }
    FallbackReason::NoStart.record(address);
    false
}

/// The start of the daemon by this call, once it holds the lock.
#[derive(Default)]
struct EngineStart {
    /// `None` while another call holds the lock.
    lock: Option<Lock>,
    /// The engine, which exits when the daemon listens or cannot be started.
    engine: Option<Child>,
}

#[derive(PartialEq, Eq)]
enum StartState {
    Waiting,
    Failed,
}

impl EngineStart {
    fn is_ours(&self) -> bool {
        self.lock.is_some()
    }

    /// Takes the lock if it is free and then starts the engine, once; later it checks whether the
    /// engine has failed.
    fn advance(&mut self, address: &DaemonAddress) -> StartState {
        if self.lock.is_none() {
            // The lock is kept until this call ends, so that no second call starts an engine while the first one is
            // starting.
            self.lock = Lock::take(&address.dir().join(AUTOSTART_LOCK)).ok();
            if self.lock.is_none() {
                return StartState::Waiting;
            }
            self.engine = spawn_engine();
            return if self.engine.is_some() { StartState::Waiting } else { StartState::Failed };
        }
        match self.engine.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) if !status.success() => StartState::Failed,
            _ => StartState::Waiting,
        }
    }
}

/// Spawns `kached daemon start` with the call's environment and none of its pipes (DMN-04).
fn spawn_engine() -> Option<Child> {
    let mut command = Command::new(engine_path().ok()?);
    command.args(["daemon", "start"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}
