//! Why a crate was compiled: which recorded call is meant, which earlier one it is to be
//! compared with, and the sentence that comes of it. Pure.

use crate::events::{Change, Event, Outcome, miss};

/// A call that was no hit, and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case<'a> {
    /// The call.
    pub event: &'a Event,
    /// The nearest earlier call that left an action behind, as far as the record tells.
    pub nearest: Option<&'a Event>,
    /// Others that may be nearer: one of each action, the latest first.
    pub others: Vec<&'a Event>,
    /// The last compile of the same query, whose result a lookup should have found.
    pub same: Option<&'a Event>,
    /// A later call of the same crate and kind that was a hit.
    pub hit_since: Option<&'a Event>,
}

/// So many earlier actions are worth a comparison: profiles, features and targets of one crate.
const OTHERS_MAX: usize = 8;

/// Crates are called by either name.
fn is_named(event: &Event, name: &str) -> bool {
    event.crate_name.len() == name.len()
        && event.crate_name.bytes().zip(name.bytes()).all(|pair| match pair {
            (b'-' | b'_', b'-' | b'_') => true,
            (a, b) => a == b,
        })
}

/// The last call of this crate that was no hit. Events are in the order of recording.
pub fn case<'a>(events: &'a [Event], name: &str) -> Option<Case<'a>> {
    let place = events.iter().rposition(|event| is_named(event, name) && !event.outcome.is_hit())?;
    let event = &events[place];
    let is_like = |other: &&Event| is_named(other, name) && other.kind == event.kind;
    let earlier = || events[..place].iter().rev().filter(is_like);
    let has_action = |other: &&Event| !other.action.is_empty();
    // The lookup's own comparison is with the same query. Many crates are called
    // `build_script_build`: of those, the one in the same directory is meant. Then a like
    // package is nearer than another version, and a late one nearer than an early one.
    let by_name = || earlier().find(|other| has_action(other) && other.action == event.nearest);
    let by_query = || earlier().find(|other| has_action(other) && other.query == event.query);
    let by_place = || {
        earlier().find(|other| has_action(other) && other.cwd == event.cwd && other.version == event.version)
    };
    let by_version = || earlier().find(|other| has_action(other) && other.version == event.version);
    let nearest = by_name()
        .or_else(by_query)
        .or_else(by_place)
        .or_else(by_version)
        .or_else(|| earlier().find(has_action));
    let is_same =
        |other: &&Event| !event.query.is_empty() && other.query == event.query && other.compiler_runs > 0;
    let mut others: Vec<&Event> = Vec::new();
    for other in earlier().filter(has_action) {
        if others.len() < OTHERS_MAX && others.iter().all(|known| known.action != other.action) {
            others.push(other);
        }
    }
    Some(Case {
        event,
        nearest,
        others,
        same: earlier().find(is_same).filter(|_| event.reason == miss::NEW),
        hit_since: events[place..].iter().rfind(|other| is_like(other) && other.outcome.is_hit()),
    })
}

/// Names on record that are like this one, for who mistyped it.
pub fn similar<'a>(events: &'a [Event], name: &str) -> Vec<&'a str> {
    const SHOWN_MAX: usize = 5;
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    let mut names: Vec<_> = events
        .iter()
        .map(|event| &*event.crate_name)
        .filter(|other| {
            let other = other.to_ascii_lowercase().replace('-', "_");
            other.contains(&wanted) || wanted.contains(&other)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(SHOWN_MAX);
    names
}

/// The answer in one sentence: what happened, and because of what. `changes` are what is
/// known of the difference to the nearest call, if that is known.
pub fn sentence(case: &Case<'_>, changes: Option<&[Change]>) -> String {
    let event = case.event;
    let name = &event.crate_name;
    let because = match (event.outcome, &*event.reason) {
        (Outcome::Passthrough, _) => {
            return format!("`{name}` was passed on to the compiler: {}", words(event));
        }
        (Outcome::Error, _) => {
            return format!("`{name}` was compiled because something failed inside kache: {}", words(event));
        }
        (_, miss::EVICTED | miss::QUARANTINED) => event.detail.clone(),
        _ => differences(case, changes),
    };
    let failed = match event.outcome {
        Outcome::Skipped => "; the compiler failed, so nothing was stored",
        _ => "",
    };
    format!("`{name}` was compiled because {because}{failed}")
}

fn differences(case: &Case<'_>, changes: Option<&[Change]>) -> String {
    if let Some(same) = case.same {
        return match &*same.not_stored {
            "" => "the result of the same compile, a moment before, was not stored yet".to_owned(),
            why => format!("the result of its last compile was not stored: {why}"),
        };
    }
    match changes {
        Some([only]) => only.to_string(),
        Some([first, others @ ..]) => match others {
            [second] if second.kind == "more" => format!("{first}; and {second}"),
            _ => format!("{first}; and {} more", others.len()),
        },
        Some([]) if case.nearest.is_some() => "its last compile could not be found again".to_owned(),
        _ if case.nearest.is_none() => "it was not compiled before, as far as the record goes".to_owned(),
        _ => "its arguments, its toolchain or its inputs are not those of any earlier compile".to_owned(),
    }
}

/// Reason and detail.
fn words(event: &Event) -> String {
    match (&*event.reason, &*event.detail) {
        ("", "") => "no reason is on record".to_owned(),
        (reason, "") => reason.to_owned(),
        ("", detail) => detail.to_owned(),
        (reason, detail) => format!("{reason}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn call(name: &str, outcome: Outcome, query: &str, action: &str) -> Event {
        Event {
            query: query.to_owned(),
            action: action.to_owned(),
            kind: "lib".to_owned(),
            reason: if outcome == Outcome::Miss { miss::NEW.to_owned() } else { String::new() },
            ..Event::new(UNIX_EPOCH, name, outcome)
        }
    }

    fn change(name: &str) -> Change {
        Change {
            kind: "env".to_owned(),
            name: name.to_owned(),
            before: Some("1".to_owned()),
            now: Some("2".to_owned()),
        }
    }

    #[test]
    fn the_last_call_that_was_no_hit_is_meant() {
        let events = [
            call("my-app", Outcome::Miss, "q1", "a1"),
            call("other", Outcome::Miss, "q1", "a2"),
            call("my_app", Outcome::Miss, "q2", "a3"),
            call("my_app", Outcome::LocalHit, "q1", "a1"),
        ];
        let case = case(&events, "my_app").unwrap();
        assert_eq!((&*case.event.action, case.nearest), ("a3", Some(&events[0])));
        assert_eq!(case.hit_since, Some(&events[3]));
        assert_eq!(super::case(&events, "myapp"), None);
        assert_eq!(similar(&events, "app"), ["my-app", "my_app"]);
    }

    #[test]
    fn the_same_query_is_nearer_than_the_same_version() {
        let versioned = |version: &str, event: Event| Event { version: version.to_owned(), ..event };
        let events = [
            versioned("1", call("x", Outcome::Miss, "q1", "a1")),
            versioned("1", call("x", Outcome::Miss, "q2", "a2")),
            versioned("2", call("x", Outcome::Miss, "q3", "a3")),
            versioned("1", call("x", Outcome::Miss, "q1", "a4")),
        ];
        assert_eq!(case(&events, "x").unwrap().nearest, Some(&events[0]));
        let events = [&events[..3], &[versioned("1", call("x", Outcome::Miss, "q4", "a4"))]].concat();
        assert_eq!(case(&events, "x").unwrap().nearest, Some(&events[1]));
        let placed = |cwd: &str, event: Event| Event { cwd: cwd.to_owned(), ..event };
        let events = [
            placed("/a", call("x", Outcome::Miss, "q1", "a1")),
            placed("/b", call("x", Outcome::Miss, "q2", "a2")),
            placed("/a", call("x", Outcome::Miss, "q3", "a3")),
        ];
        assert_eq!(case(&events, "x").unwrap().nearest, Some(&events[0]));
        // What left no action cannot be compared with.
        let events = [call("x", Outcome::Miss, "q", ""), call("x", Outcome::Miss, "q", "")];
        assert_eq!(case(&events, "x").unwrap().nearest, None);
    }

    #[test]
    fn one_sentence_says_why() {
        let said =
            |events: &[Event], changes: Option<&[Change]>| sentence(&case(events, "x").unwrap(), changes);
        let first = call("x", Outcome::Miss, "q1", "a1");
        let again = call("x", Outcome::Miss, "q2", "a2");
        let both = [first, again.clone()];
        assert_eq!(
            said(&both[..1], None),
            "`x` was compiled because it was not compiled before, as far as the record goes"
        );
        assert_eq!(said(&both, Some(&[change("A")])), "`x` was compiled because `A` is `2`, and was `1`");
        assert_eq!(
            said(&both, Some(&[change("A"), change("B"), change("C")])),
            "`x` was compiled because `A` is `2`, and was `1`; and 2 more"
        );
        assert!(said(&both, None).contains("are not those of any earlier compile"));
        for (not_stored, expected) in [
            (
                "inputs changed",
                "`x` was compiled because the result of its last compile was not stored: inputs changed",
            ),
            (
                "",
                "`x` was compiled because the result of the same compile, a moment before, was not stored yet",
            ),
        ] {
            let same = Event {
                not_stored: not_stored.to_owned(),
                compiler_runs: 1,
                ..call("x", Outcome::Miss, "q2", "")
            };
            assert_eq!(said(&[same, again.clone()], None), expected);
        }
        let with = |outcome, reason: &str, detail: &str| Event {
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            ..call("x", outcome, "q", "")
        };
        for (event, expected) in [
            (
                with(Outcome::Passthrough, "unknown-flag", "`-Zx`"),
                "`x` was passed on to the compiler: unknown-flag: `-Zx`",
            ),
            (
                with(Outcome::Error, "store", "no disk"),
                "`x` was compiled because something failed inside kache: store: no disk",
            ),
            (with(Outcome::Miss, miss::EVICTED, "it is gone"), "`x` was compiled because it is gone"),
            (
                with(Outcome::Skipped, miss::NEW, ""),
                "`x` was compiled because it was not compiled before, as far as the record goes; the compiler \
                 failed, so nothing was stored",
            ),
        ] {
            assert_eq!(said(&[event], None), expected);
        }
    }
}
