//! Finds compiles of the last day that should have been cached and were not. It only reads the
//! event log. Of each crate in each directory the last call counts, because an earlier fault
//! may be corrected by now.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::finding::{DoctorFinding, Severity};
use crate::config::Settings;
use crate::events::{self, Event, EventReason};
use crate::invocation::Reason;

const SUBJECT: &str = "calls";

/// Older calls are ignored.
const LOOKED_BACK: Duration = Duration::from_secs(24 * 60 * 60);

/// The reasons for a bypass that are faults: the user did not ask for them and can correct them.
const FAULTS: [Reason; 6] = [
    Reason::ArgFile,
    Reason::UnknownCompiler,
    Reason::UnknownInput,
    Reason::UnknownLinkInput,
    Reason::StoreUnusable,
    Reason::InternalError,
];

pub(super) fn check(settings: &Settings) -> Vec<DoctorFinding> {
    let since = SystemTime::now().checked_sub(LOOKED_BACK);
    // If the log cannot be read, the check of the store's directory says so.
    let history = events::read(settings.address.cache_dir(), since).unwrap_or_default();
    findings(&history.events)
}

fn findings(events: &[Event]) -> Vec<DoctorFinding> {
    let mut last: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
    for event in events {
        last.insert((&event.cwd, &event.name), event);
    }
    let of_reason = |reason: Reason| {
        let calls: Vec<&Event> = last
            .values()
            .copied()
            .filter(|event| event.reason == Some(EventReason::Bypass(reason)))
            .collect();
        let newest = calls.iter().max_by_key(|event| event.at)?;
        let crates = match calls.len() {
            1 => "1 crate was".to_owned(),
            more => format!("{more} crates were"),
        };
        let why = reason.explanation().trim_end_matches('.');
        let what = format!(
            "{crates} not cached in the last day. {why}\nthe latest is `{}` in `{}`: {}",
            newest.name, newest.cwd, newest.detail
        );
        Some(DoctorFinding::new(Severity::Warning, SUBJECT, what).hint("`kache report` lists the calls"))
    };
    FAULTS.into_iter().filter_map(of_reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Outcome;

    fn event(second: u64, name: &str, reason: &str, detail: &str) -> Event {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let outcome = if reason.is_empty() { Outcome::LocalHit } else { Outcome::Passthrough };
        let (reason, detail, cwd) = (EventReason::from_name(reason), detail.to_owned(), "/ws".to_owned());
        Event { reason, detail, cwd, ..Event::new(at, name, outcome) }
    }

    #[test]
    fn the_last_call_of_each_crate_counts() {
        let unreadable = "`/ws/x`: Permission denied";
        let events = [
            event(1, "corrected", "unknown_input", unreadable),
            event(2, "corrected", "", ""),
            event(3, "a", "unknown_input", unreadable),
            event(4, "b", "unknown_input", "`/ws/y`: Permission denied"),
            event(5, "wanted", "excluded", "a rule"),
        ];
        let found = findings(&events);
        assert_eq!(found.len(), 1, "{found:?}");
        insta::assert_snapshot!(found[0].what, @r"
        2 crates were not cached in the last day. An input could not be read or identified
        the latest is `b` in `/ws`: `/ws/y`: Permission denied
        ");
        assert_eq!(findings(&events[..2]), []);
    }
}
