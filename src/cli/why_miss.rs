//! `kache why-miss`: why a crate was compiled. The first line says it in one sentence; the
//! calls and differences that it is based on follow.
//!
//! A lookup records the differences that it found in the event log, so this command says what
//! was true at the time of the call. If the log has no differences, the stored actions are
//! compared, provided that a daemon is running. The command starts nothing (DMN-06).

use std::time::{Duration, Instant};

use super::args::WhyMissArgs;
use super::blobs::BlobSource;
use super::config::load_here;
use super::exit_codes::OK;
use super::failure::{CommandResult, Failure};
use super::{diff, moment, output, report};
use crate::config::Settings;
use crate::events::{self, Change, Event, History};
use crate::explain::{ExplainedAction, MissCase, compare, load, miss_case, sentence, similar};

/// The most differences that are listed; `kache diff` lists all of them.
const CHANGES_SHOWN_MAX: usize = 20;

/// How long to wait for the result of a call that has just returned. The daemon stores it, and
/// adds the action to the event, after the call.
const STORED_WAIT_MAX: Duration = Duration::from_secs(3);

/// The time between two reads of the event log while waiting.
const READ_EVERY: Duration = Duration::from_millis(100);

/// The age after which a result that is not stored never will be: its daemon has died.
const STORING_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(args: &WhyMissArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    let history = complete_history(&settings, &args.name)?;
    report::warn_of_unread(&history);
    let Some(mut case) = miss_case(&history.events, &args.name) else {
        return no_miss(&history.events, &args.name);
    };
    let comparison = differences(&settings, &mut case);
    output::data(&page(&case, &comparison))?;
    Ok(OK)
}

/// Reads the event log, and reads it again until the event of the last miss is complete or
/// `STORED_WAIT_MAX` has passed.
fn complete_history(settings: &Settings, name: &str) -> Result<History, Failure> {
    let give_up = Instant::now() + STORED_WAIT_MAX;
    loop {
        let history = report::history(settings, None)?;
        let is_incomplete = miss_case(&history.events, name).is_some_and(|case| is_being_stored(case.event));
        if !is_incomplete || Instant::now() >= give_up {
            return Ok(history);
        }
        std::thread::sleep(READ_EVERY);
    }
}

fn is_being_stored(event: &Event) -> bool {
    let is_young = event.at.elapsed().is_ok_and(|age| age < STORING_MAX);
    event.outcome == events::Outcome::Miss && event.action.is_none() && event.not_stored.is_none() && is_young
}

/// The comparison of a call with the nearest earlier one.
enum Comparison {
    /// Both actions were found, and they differ in these values.
    Done(Vec<Change>),
    /// There is no comparison. The reason is `None` where none is needed.
    Unavailable(Option<String>),
}

/// Answers for a crate whose calls were all hits, or that has no calls at all.
fn no_miss(events: &[Event], name: &str) -> CommandResult {
    let similar = similar(events, name);
    let wanted = name.replace('-', "_");
    let last = events.iter().rfind(|event| event.name.replace('-', "_") == wanted);
    if let Some(last) = last {
        let (result, at) = (last.outcome.name(), moment::for_people(last.at));
        let text =
            format!("the event log has no compile of `{name}`: its last call was a {result}, at {at}\n");
        return output::data(&text).map(|()| OK);
    }
    let failure = Failure::new(format!("the event log has no call of a crate `{name}`"));
    Err(match &similar[..] {
        [] => failure.hint("`kache report` lists the calls"),
        names => failure.hint(format!("similar names: {}", report::shown(&names.join(", ")))),
    })
}

/// Returns the differences that the lookup recorded. If there are none, compares the stored
/// action with those of earlier calls, and sets `nearest` to the one with the fewest
/// differences.
fn differences(settings: &Settings, case: &mut MissCase<'_>) -> Comparison {
    if !case.event.changes.is_empty() {
        return Comparison::Done(case.event.changes.clone());
    }
    if case.same.is_some() || case.others.is_empty() {
        return Comparison::Unavailable(None);
    }
    let source = match BlobSource::of_daemon(settings) {
        Ok(Some(source)) => source,
        Ok(None) => {
            let why = "no daemon is running; `kache diff` can compare the two actions";
            return Comparison::Unavailable(Some(why.to_owned()));
        }
        Err(failure) => return Comparison::Unavailable(Some(failure.message)),
    };
    let now = match stored(&source, case.event) {
        Ok(now) => now,
        Err(why) => return Comparison::Unavailable(Some(why)),
    };
    let mut fewest: Option<(&Event, Vec<Change>)> = None;
    let mut why = None;
    for other in &case.others {
        match stored(&source, other) {
            Ok(before) => {
                let changes = compare(&before, &now);
                if fewest.as_ref().is_none_or(|(_, fewer)| changes.len() < fewer.len()) {
                    fewest = Some((other, changes));
                }
            }
            Err(missing) => why = why.or(Some(missing)),
        }
    }
    let Some((nearest, changes)) = fewest else { return Comparison::Unavailable(why) };
    case.nearest = Some(nearest);
    Comparison::Done(changes)
}

fn stored(source: &BlobSource, event: &Event) -> Result<ExplainedAction, String> {
    let hash = event.action.ok_or_else(|| "the event log has no action of this call".to_owned())?;
    load(source, hash).map_err(|error| error.to_string())
}

fn page(case: &MissCase<'_>, comparison: &Comparison) -> String {
    let changes = match comparison {
        Comparison::Done(changes) => Some(&changes[..]),
        Comparison::Unavailable(_) => None,
    };
    let mut text = format!("{}\n\n", report::shown(&sentence(case, changes)));
    text.push_str(&call_lines("this call", case.event));
    if let Some(nearest) = case.nearest {
        text.push_str(&call_lines("compared", nearest));
    }
    if let Some(hit) = case.hit_since {
        let at = moment::for_people(hit.at);
        text.push_str(&format!("since then  {} at {at}\n", hit.outcome.name()));
    }
    match comparison {
        Comparison::Done(changes) if !changes.is_empty() => text.push_str(&list(changes)),
        Comparison::Unavailable(Some(why)) => {
            text.push_str(&format!("\nnot compared: {}\n", report::shown(why)));
        }
        _ => {}
    }
    text
}

fn call_lines(label: &str, event: &Event) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&format!("{label:<10}  {value}\n"));
    let what: Vec<_> = [&event.name, &event.version, &event.kind]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| report::shown(part))
        .collect();
    line(label, format!("{}: {}, {}", moment::for_people(event.at), what.join(" "), event.outcome.name()));
    if let Some(action) = event.action {
        line("", format!("action {action}"));
    }
    if !event.cwd.is_empty() {
        line("", format!("in {}", report::shown(&event.cwd)));
    }
    text
}

fn list(changes: &[Change]) -> String {
    let shown = &changes[..changes.len().min(CHANGES_SHOWN_MAX)];
    let mut text = format!("\ndifferences, before (-) and in this call (+)\n{}", diff::listed(shown));
    if changes.len() > shown.len() {
        text.push_str(&format!("{} more; `kache diff` lists all\n", changes.len() - shown.len()));
    }
    text
}
