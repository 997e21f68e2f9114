//! The reason why a call just now had to do without the daemon, kept for the calls that follow, so
//! that a build pays for it once (DMN-03).
//!
//! Each reason is an empty file beside the sockets, and only the file's date counts. It is read
//! only before a wait, never where all is well, and it counts for [`RECENT_FOR`] or until it is cleared.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::address::DaemonAddress;

/// The time for which a failure counts as recent. A user who has repaired something waits no
/// longer than this.
const RECENT_FOR: Duration = Duration::from_secs(30);

/// A failure after which calls fall back to running the compiler without the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FallbackReason {
    /// No daemon could be started.
    NoStart,
    /// The daemon did not answer.
    NoAnswer,
}

impl FallbackReason {
    fn file_name(self) -> &'static str {
        match self {
            FallbackReason::NoStart => "no-start",
            FallbackReason::NoAnswer => "no-answer",
        }
    }

    /// Returns whether this failure was recorded within [`RECENT_FOR`].
    pub(crate) fn is_recent(self, address: &DaemonAddress) -> bool {
        let metadata = fs::metadata(address.dir().join(self.file_name()));
        let recorded = metadata.and_then(|metadata| metadata.modified());
        // A date in the future was written before the clock was set back, and does not count.
        let age = |recorded| SystemTime::now().duration_since(recorded).ok();
        recorded.ok().and_then(age).is_some_and(|age| age < RECENT_FOR)
    }

    /// Records that the failure happened now. Errors are ignored: the directory is missing where
    /// no daemon ever ran, and then there is none to wait for.
    pub(crate) fn record(self, address: &DaemonAddress) {
        let path = address.dir().join(self.file_name());
        if let Ok(file) = File::create(path) {
            // Creating a file that exists does not change its date.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Records that the daemon works again.
    pub(crate) fn clear(self, address: &DaemonAddress) {
        let _ = fs::remove_file(address.dir().join(self.file_name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dmn_03_a_failure_counts_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let address = DaemonAddress::new(dir.path(), Some(&dir.path().join("s")));
        FallbackReason::NoStart.record(&address);
        assert!(!FallbackReason::NoStart.is_recent(&address), "without a directory nothing is recorded");
        address.prepare().unwrap();
        FallbackReason::NoStart.record(&address);
        assert!(FallbackReason::NoStart.is_recent(&address) && !FallbackReason::NoAnswer.is_recent(&address));
        for wrong in [SystemTime::now() + RECENT_FOR, SystemTime::now() - 2 * RECENT_FOR] {
            File::open(address.dir().join("no-start")).unwrap().set_modified(wrong).unwrap();
            assert!(!FallbackReason::NoStart.is_recent(&address));
        }
        FallbackReason::NoStart.record(&address);
        FallbackReason::NoStart.clear(&address);
        assert!(!FallbackReason::NoStart.is_recent(&address));
    }
}
