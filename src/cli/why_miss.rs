//! `kache why-miss`: why a crate was compiled. One sentence first, then what it rests on.
//!
//! What a lookup compared is on record, so this tells what was true then, not what is true
//! now. Where the record holds no comparison, the actions themselves are compared, if a
//! daemon runs that has them. It starts nothing (DMN-06).

use std::time::{Duration, Instant};

use super::args::WhyMissArgs;
use super::blobs::Source;
use super::config::load_here;
use super::exit_codes::OK;
use super::failure::{Failure, Outcome};
use super::{diff, moment, output, report};
use crate::config::Settings;
use crate::events::{self, Change, Event, History};
use crate::explain::{Case, Explained, case, compare, load, sentence, similar};

/// So many differences are listed; `kache diff` has them all.
const CHANGES_SHOWN_MAX: usize = 20;

/// How long to wait for the result of a call that has just returned: it is stored afterwards, and
/// only then it is known what it was made of.
const STORED_WAIT_MAX: Duration = Duration::from_secs(3);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who is not stored after so long never will be: its daemon has died.
const STORING_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(args: &WhyMissArgs) -> Outcome {
    let settings = Settings::new(&load_here()?)?;
    let history = settled(&settings, &args.name)?;
    report::warn_of_unread(&history);
    let Some(mut case) = case(&history.events, &args.name) else {
        return nothing_to_explain(&history.events, &args.name);
    };
    let known = differences(&settings, &mut case);
    output::data(&page(&case, &known))?;
    Ok(OK)
}

/// The record, once all is in it of the call that is asked about.
fn settled(settings: &Settings, name: &str) -> Result<History, Failure> {
    let give_up = Instant::now() + STORED_WAIT_MAX;
    loop {
        let history = report::history(settings, None)?;
        let is_open = case(&history.events, name).is_some_and(|case| is_being_stored(case.event));
        if !is_open || Instant::now() >= give_up {
            return Ok(history);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn is_being_stored(event: &Event) -> bool {
    let is_young = event.at.elapsed().is_ok_and(|age| age < STORING_MAX);
    event.outcome == events::Outcome::Miss
        && event.action.is_empty()
        && event.not_stored.is_empty()
        && is_young
}

/// What is known of how a call differs from the nearest earlier one.
enum Known {
    /// This.
    Changes(Vec<Change>),
    /// Nothing, and why.
    Nothing(Option<String>),
}

/// All its calls were hits, or there were none.
fn nothing_to_explain(events: &[Event], name: &str) -> Outcome {
    let similar = similar(events, name);
    let wanted = name.replace('-', "_");
    let last = events.iter().rfind(|event| event.crate_name.replace('-', "_") == wanted);
    if let Some(last) = last {
        let (result, at) = (last.outcome.name(), moment::for_people(last.at));
        let text = format!(
            "`{name}` was not compiled, as far as the record goes: its last call was a {result}, {at}\n"
        );
        return output::data(&text).map(|()| OK);
    }
    let failure = Failure::new(format!("no call of a crate `{name}` is on record"));
    Err(match &similar[..] {
        [] => failure.hint("`kache report` shows the calls that are"),
        names => failure.hint(format!("there are: {}", report::shown(&names.join(", ")))),
    })
}

/// Takes the record's comparison, or compares with what is stored; then the nearest call is
/// the one with the fewest differences.
fn differences(settings: &Settings, case: &mut Case<'_>) -> Known {
    if !case.event.changes.is_empty() {
        return Known::Changes(case.event.changes.clone());
    }
    if case.same.is_some() || case.others.is_empty() {
        return Known::Nothing(None);
    }
    let source = match Source::of_daemon(settings) {
        Ok(Some(source)) => source,
        Ok(None) => {
            return Known::Nothing(Some("no daemon is running; `kache diff` can compare the two".to_owned()));
        }
        Err(failure) => return Known::Nothing(Some(failure.message)),
    };
    let now = match stored(&source, case.event) {
        Ok(now) => now,
        Err(why) => return Known::Nothing(Some(why)),
    };
    let mut fewest: Option<(&Event, Vec<Change>)> = None;
    let mut why = None;
    for other in &case.others {
        match stored(&source, other) {
            Ok(before) => {
                let changes = compare(&before, &now);
                if fewest.as_ref().is_none_or(|(_, known)| changes.len() < known.len()) {
                    fewest = Some((other, changes));
                }
            }
            Err(missing) => why = why.or(Some(missing)),
        }
    }
    let Some((nearest, changes)) = fewest else { return Known::Nothing(why) };
    case.nearest = Some(nearest);
    Known::Changes(changes)
}

fn stored(source: &Source, event: &Event) -> Result<Explained, String> {
    let hash = event.action.parse().map_err(|_| "no action of this call is on record".to_owned())?;
    load(source, hash).map_err(|error| error.to_string())
}

fn page(case: &Case<'_>, known: &Known) -> String {
    let changes = match known {
        Known::Changes(changes) => Some(&changes[..]),
        Known::Nothing(_) => None,
    };
    let mut text = format!("{}\n\n", report::shown(&sentence(case, changes)));
    text.push_str(&facts("call", case.event));
    if let Some(nearest) = case.nearest {
        text.push_str(&facts("nearest", nearest));
    }
    if let Some(hit) = case.hit_since {
        let at = moment::for_people(hit.at);
        text.push_str(&format!("since then  {} at {at}\n", hit.outcome.name()));
    }
    match known {
        Known::Changes(changes) if !changes.is_empty() => text.push_str(&list(changes)),
        Known::Nothing(Some(why)) => text.push_str(&format!("\nnot compared: {}\n", report::shown(why))),
        _ => {}
    }
    text
}

fn facts(label: &str, event: &Event) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&format!("{label:<10}  {value}\n"));
    let what: Vec<_> = [&event.crate_name, &event.version, &event.kind]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| report::shown(part))
        .collect();
    line(label, format!("{}: {}, {}", moment::for_people(event.at), what.join(" "), event.outcome.name()));
    if !event.action.is_empty() {
        line("", format!("action {}", event.action));
    }
    if !event.cwd.is_empty() {
        line("", format!("in {}", report::shown(&event.cwd)));
    }
    text
}

fn list(changes: &[Change]) -> String {
    let shown = &changes[..changes.len().min(CHANGES_SHOWN_MAX)];
    let mut text = format!("\nwhat differs, before (-) and then (+)\n{}", diff::listed(shown));
    if changes.len() > shown.len() {
        text.push_str(&format!("{} more; `kache diff` has them all\n", changes.len() - shown.len()));
    }
    text
}
