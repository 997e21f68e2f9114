//! Why a crate was compiled: chooses the call in the event log, the earlier call to compare it
//! with, and writes the sentence that explains it. Pure.

use crate::events::{Change, Event, EventReason, MissReason, Outcome};

/// A call that was not a hit, with the earlier calls that may explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissCase<'a> {
    /// The call that missed.
    pub event: &'a Event,
    /// The earlier call that is most like it, of those that have an action; `None` if there is
    /// no such call.
    pub nearest: Option<&'a Event>,
    /// Earlier calls that may be more like it: one for each action, the latest first.
    pub others: Vec<&'a Event>,
    /// The last compile of the same query, if a lookup should have found its result.
    pub same: Option<&'a Event>,
    /// A later call of the same crate and kind that was a hit.
    pub hit_since: Option<&'a Event>,
}

/// The most earlier actions that are compared: profiles, features and targets of one crate.
const OTHERS_MAX: usize = 8;

/// Whether the event is of the crate with this name. `-` and `_` are the same, because a package
/// `a-b` has the crate `a_b`.
fn is_named(event: &Event, name: &str) -> bool {
    event.name.len() == name.len()
        && event.name.bytes().zip(name.bytes()).all(|pair| match pair {
            (b'-' | b'_', b'-' | b'_') => true,
            (a, b) => a == b,
        })
}

/// Finds the last call of this crate that was not a hit; `None` if all were hits or there are
/// none. The events are in the order in which they were recorded.
pub fn miss_case<'a>(events: &'a [Event], name: &str) -> Option<MissCase<'a>> {
    let index = events.iter().rposition(|event| is_named(event, name) && !event.outcome.is_hit())?;
    let event = &events[index];
    let is_like = |other: &&Event| is_named(other, name) && other.kind == event.kind;
    let earlier = || events[..index].iter().rev().filter(is_like);
    let has_action = |other: &&Event| other.action.is_some();
    // In this order: the action that the lookup itself compared with; a call of the same query;
    // a call in the same directory, because many crates are named `build_script_build`; a call
    // of the same version; any call. Of several calls the latest one counts.
    let by_name = || earlier().find(|other| has_action(other) && other.action == event.nearest);
    let by_query = || earlier().find(|other| has_action(other) && other.query == event.query);
    let by_directory = || {
        earlier().find(|other| has_action(other) && other.cwd == event.cwd && other.version == event.version)
    };
    let by_version = || earlier().find(|other| has_action(other) && other.version == event.version);
    let nearest = by_name()
        .or_else(by_query)
        .or_else(by_directory)
        .or_else(by_version)
        .or_else(|| earlier().find(has_action));
    let is_same =
        |other: &&Event| event.query.is_some() && other.query == event.query && other.compiler_runs > 0;
    let mut others: Vec<&Event> = Vec::new();
    for other in earlier().filter(has_action) {
        if others.len() < OTHERS_MAX && others.iter().all(|listed| listed.action != other.action) {
            others.push(other);
        }
    }
    Some(MissCase {
        event,
        nearest,
        others,
        same: earlier().find(is_same).filter(|_| event.reason == Some(EventReason::Miss(MissReason::New))),
        hit_since: events[index..].iter().rfind(|other| is_like(other) && other.outcome.is_hit()),
    })
}

/// Returns the names of crates in the events that contain this name or are contained in it, as
/// suggestions for a mistyped name.
pub fn similar<'a>(events: &'a [Event], name: &str) -> Vec<&'a str> {
    const SHOWN_MAX: usize = 5;
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    let mut names: Vec<_> = events
        .iter()
        .map(|event| &*event.name)
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

/// Explains the call in one sentence: what happened, and why. `changes` are the differences to
/// the nearest call; `None` if the two were not compared.
pub fn sentence(case: &MissCase<'_>, changes: Option<&[Change]>) -> String {
    let event = case.event;
    let name = &event.name;
    let because = match (event.outcome, &event.reason) {
        (Outcome::Passthrough, _) => {
            return format!("`{name}` was compiled without the cache: {}", reason_and_detail(event));
        }
        (Outcome::Error, _) => {
            return format!("`{name}` was compiled because kache failed: {}", reason_and_detail(event));
        }
        (_, Some(EventReason::Miss(MissReason::Evicted | MissReason::Quarantined))) => event.detail.clone(),
        _ => differences(case, changes),
    };
    let failed = match event.outcome {
        Outcome::Skipped => "; the compiler failed, so nothing was stored",
        _ => "",
    };
    format!("`{name}` was compiled because {because}{failed}")
}

fn differences(case: &MissCase<'_>, changes: Option<&[Change]>) -> String {
    if let Some(same) = case.same {
        return match &same.not_stored {
            None => "the result of an equal compile just before was not stored yet".to_owned(),
            Some(why) => format!("the result of its last compile was not stored: {why}"),
        };
    }
    match changes {
        Some([only]) => only.to_string(),
        // A record holds only the first differences; a last one of the kind `more` counts the rest
        // and is quoted as it is.
        Some([first, others @ ..]) => match others {
            [second] if second.kind == "more" => format!("{first}; and {second}"),
            _ => format!("{first}; and {} more", others.len()),
        },
        Some([]) if case.nearest.is_some() => "the result of its last compile was not found".to_owned(),
        _ if case.nearest.is_none() => "the event log has no earlier compile of it".to_owned(),
        _ => "no earlier compile had the same arguments, toolchain and inputs".to_owned(),
    }
}

fn reason_and_detail(event: &Event) -> String {
    match (event.reason_name(), &*event.detail) {
        ("", "") => "the event log has no reason".to_owned(),
        (reason, "") => reason.to_owned(),
        ("", detail) => detail.to_owned(),
        (reason, detail) => format!("{reason}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use kache_cas::{DigestFunction, Hash};

    use super::*;
    use crate::events::NotStored;

    /// A hash that this name stands for; `None` for the empty name.
    fn hash(name: &str) -> Option<Hash> {
        (!name.is_empty()).then(|| DigestFunction::Blake3.hash(name.as_bytes()))
    }

    fn call(name: &str, outcome: Outcome, query: &str, action: &str) -> Event {
        Event {
            query: hash(query),
            action: hash(action),
            kind: "lib".to_owned(),
            reason: (outcome == Outcome::Miss).then_some(EventReason::Miss(MissReason::New)),
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
    fn the_last_call_that_was_not_a_hit_is_explained() {
        let events = [
            call("my-app", Outcome::Miss, "q1", "a1"),
            call("other", Outcome::Miss, "q1", "a2"),
            call("my_app", Outcome::Miss, "q2", "a3"),
            call("my_app", Outcome::LocalHit, "q1", "a1"),
        ];
        let case = miss_case(&events, "my_app").unwrap();
        assert_eq!((case.event.action, case.nearest), (hash("a3"), Some(&events[0])));
        assert_eq!(case.hit_since, Some(&events[3]));
        assert_eq!(miss_case(&events, "myapp"), None);
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
        assert_eq!(miss_case(&events, "x").unwrap().nearest, Some(&events[0]));
        let events = [&events[..3], &[versioned("1", call("x", Outcome::Miss, "q4", "a4"))]].concat();
        assert_eq!(miss_case(&events, "x").unwrap().nearest, Some(&events[1]));
        let placed = |cwd: &str, event: Event| Event { cwd: cwd.to_owned(), ..event };
        let events = [
            placed("/a", call("x", Outcome::Miss, "q1", "a1")),
            placed("/b", call("x", Outcome::Miss, "q2", "a2")),
            placed("/a", call("x", Outcome::Miss, "q3", "a3")),
        ];
        assert_eq!(miss_case(&events, "x").unwrap().nearest, Some(&events[0]));
        // A call without an action cannot be compared with.
        let events = [call("x", Outcome::Miss, "q", ""), call("x", Outcome::Miss, "q", "")];
        assert_eq!(miss_case(&events, "x").unwrap().nearest, None);
    }

    #[test]
    fn one_sentence_says_why() {
        let said = |events: &[Event], changes: Option<&[Change]>| {
            sentence(&miss_case(events, "x").unwrap(), changes)
        };
        let first = call("x", Outcome::Miss, "q1", "a1");
        let again = call("x", Outcome::Miss, "q2", "a2");
        let both = [first, again.clone()];
        assert_eq!(
            said(&both[..1], None),
            "`x` was compiled because the event log has no earlier compile of it"
        );
        assert_eq!(said(&both, Some(&[change("A")])), "`x` was compiled because `A` is `2`, and was `1`");
        assert_eq!(
            said(&both, Some(&[change("A"), change("B"), change("C")])),
            "`x` was compiled because `A` is `2`, and was `1`; and 2 more"
        );
        assert!(said(&both, None).contains("no earlier compile had the same arguments"));
        for (not_stored, expected) in [
            (
                "inputs changed",
                "`x` was compiled because the result of its last compile was not stored: inputs changed",
            ),
            ("", "`x` was compiled because the result of an equal compile just before was not stored yet"),
        ] {
            let same = Event {
                not_stored: NotStored::from_text(not_stored.to_owned()),
                compiler_runs: 1,
                ..call("x", Outcome::Miss, "q2", "")
            };
            assert_eq!(said(&[same, again.clone()], None), expected);
        }
        let with = |outcome, reason: &str, detail: &str| Event {
            reason: EventReason::from_name(reason),
            detail: detail.to_owned(),
            ..call("x", outcome, "q", "")
        };
        for (event, expected) in [
            (
                with(Outcome::Passthrough, "unknown-flag", "`-Zx`"),
                "`x` was compiled without the cache: unknown-flag: `-Zx`",
            ),
            (
                with(Outcome::Error, "store", "no disk"),
                "`x` was compiled because kache failed: store: no disk",
            ),
            (with(Outcome::Miss, "evicted", "it is gone"), "`x` was compiled because it is gone"),
            (
                with(Outcome::Skipped, "new", ""),
                "`x` was compiled because the event log has no earlier compile of it; the compiler failed, so \
                 nothing was stored",
            ),
        ] {
            assert_eq!(said(&[event], None), expected);
        }
    }
}
