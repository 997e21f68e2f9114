//! What went wrong with the daemon a moment ago, so that a build pays for it once (DMN-03).
//!
//! A file beside the sockets; its date is what counts. It is read only on the way to a wait,
//! never where all is well, and it is believed for a short time.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::place::Place;

/// How long a failure is believed. A person who has mended something waits no longer.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grievance {
    /// No daemon could be started.
    NoStart,
    /// The daemon did not answer.
    NoAnswer,
}

impl Grievance {
    fn file_name(self) -> &'static str {
        match self {
            Grievance::NoStart => "no-start",
            Grievance::NoAnswer => "no-answer",
        }
    }

    /// Whether it happened just now.
    pub(crate) fn is_fresh(self, place: &Place) -> bool {
        let written = fs::metadata(place.dir().join(self.file_name())).and_then(|found| found.modified());
        // One from the future is from a clock that was set back.
        let age = |written| SystemTime::now().duration_since(written).ok();
        written.ok().and_then(age).is_some_and(|age| age < BELIEVED_FOR)
    }

    /// It happened now. Where it cannot be noted, there is no daemon to wait for either.
    pub(crate) fn note(self, place: &Place) {
        let path = place.dir().join(self.file_name());
        if let Ok(file) = File::create(path) {
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// It is over.
    pub(crate) fn forget(self, place: &Place) {
        let _ = fs::remove_file(place.dir().join(self.file_name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dmn_03_a_failure_is_believed_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path(), Some(&dir.path().join("s")));
        Grievance::NoStart.note(&place);
        assert!(!Grievance::NoStart.is_fresh(&place), "without a directory nothing is noted");
        place.prepare().unwrap();
        Grievance::NoStart.note(&place);
        assert!(Grievance::NoStart.is_fresh(&place) && !Grievance::NoAnswer.is_fresh(&place));
        for wrong in [SystemTime::now() + BELIEVED_FOR, SystemTime::now() - 2 * BELIEVED_FOR] {
            File::open(place.dir().join("no-start")).unwrap().set_modified(wrong).unwrap();
            assert!(!Grievance::NoStart.is_fresh(&place));
        }
        Grievance::NoStart.note(&place);
        Grievance::NoStart.forget(&place);
        assert!(!Grievance::NoStart.is_fresh(&place));
    }
}
