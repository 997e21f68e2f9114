//! Calls of the last day that could not be cached though they were meant to be: by the log
//! alone, so it starts nothing. Of each crate in each place the last call counts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::finding::{Finding, State};
use crate::config::Settings;
use crate::events::{self, Event};
use crate::invocation::Reason;

const SUBJECT: &str = "calls";

/// How far back is looked. What was wrong before that is forgotten or seen again.
const LOOKED_BACK: Duration = Duration::from_secs(24 * 60 * 60);

/// What nobody asked for, and somebody can put right.
const UNWANTED: [Reason; 6] = [
    Reason::ArgFile,
    Reason::UnknownCompiler,
    Reason::UnknownInput,
    Reason::UnknownLinkInput,
    Reason::StoreUnusable,
    Reason::Trouble,
];

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let since = SystemTime::now().checked_sub(LOOKED_BACK);
    // A log that cannot be read is the store's trouble, which is named there.
    let history = events::read(settings.address.cache_dir(), since).unwrap_or_default();
    findings(&history.events)
}

fn findings(events: &[Event]) -> Vec<Finding> {
    let mut last: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
    for event in events {
        last.insert((&event.cwd, &event.crate_name), event);
    }
    let of_reason = |reason: Reason| {
        let met: Vec<&Event> = last.values().copied().filter(|event| event.reason == reason.name()).collect();
        let newest = met.iter().max_by_key(|event| event.at)?;
        let crates = match met.len() {
            1 => "1 crate was".to_owned(),
            more => format!("{more} crates were"),
        };
        let why = reason.explanation().trim_end_matches('.');
        let what = format!(
            "{crates} passed on within a day. {why}\nthe last is `{}` in `{}`: {}",
            newest.crate_name, newest.cwd, newest.detail
        );
        Some(Finding::new(State::Warning, SUBJECT, what).hint("`kache report` lists them"))
    };
    UNWANTED.into_iter().filter_map(of_reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Outcome;

    fn event(second: u64, name: &str, reason: &str, detail: &str) -> Event {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let outcome = if reason.is_empty() { Outcome::LocalHit } else { Outcome::Passthrough };
        let (reason, detail, cwd) = (reason.to_owned(), detail.to_owned(), "/ws".to_owned());
        Event { reason, detail, cwd, ..Event::new(at, name, outcome) }
    }

    #[test]
    fn the_last_call_of_each_crate_counts() {
        let unreadable = "`/ws/x`: Permission denied";
        let events = [
            event(1, "mended", "unknown_input", unreadable),
            event(2, "mended", "", ""),
            event(3, "a", "unknown_input", unreadable),
            event(4, "b", "unknown_input", "`/ws/y`: Permission denied"),
            event(5, "wanted", "excluded", "a rule"),
        ];
        let found = findings(&events);
        assert_eq!(found.len(), 1, "{found:?}");
        insta::assert_snapshot!(found[0].what, @r"
        2 crates were passed on within a day. An input could not be read or identified
        the last is `b` in `/ws`: `/ws/y`: Permission denied
        ");
        assert_eq!(findings(&events[..2]), []);
    }
}
