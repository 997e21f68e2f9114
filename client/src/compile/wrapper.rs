//! One call of a compiler that the daemon knows, from beginning to end.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kache_proto::control::{Done, PassOn, Ran, Reply, Request, Run, reply, request};

use super::asking::{self, Answer};
use super::embedded::{self, Engine};
use super::exit;
use super::grievance::Grievance;
use super::guard;
use super::locate;
use super::passing;
use super::request::{from_bytes, of_call};
use super::running::{self, Ended, is_named, say};
use super::stdin::Stdin;
use crate::control::{FrameStream, StreamError};
use crate::place::Place;
use crate::staging::Staging;
use crate::variables;

/// How long the daemon may take to note what was reported; it writes one line to a file.
const NOTING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The drivers that the daemon knows.
const DRIVERS: [&str; 2] = ["rustc", "clippy-driver"];

/// Whether the daemon might know this call. A wrapper for workspace members stands before the
/// compiler that it wraps.
pub(crate) fn is_for_the_daemon(program: &OsStr, args: &[OsString]) -> bool {
    let is_driver = |word: &OsStr| DRIVERS.iter().any(|name| is_named(word, name));
    is_driver(program) || args.first().is_some_and(|first| is_driver(first))
}

/// Makes the call. It returns with the compiler's code, or does not return.
pub(crate) fn wrap(program: &OsStr, args: &[OsString]) -> ExitCode {
    if variables::is_on(variables::get(variables::DISABLED).as_deref()) {
        return passing::without_kache(program, args, Stdin::Untouched);
    }
    if variables::get(variables::DAEMON).is_some_and(|value| value == "never") {
        return embedded::in_place_of_this(program, args);
    }
    let stdin = Stdin::of_call(args);
    let Some((cwd, place)) = whereabouts() else { return passing::without_kache(program, args, stdin) };
    let staging = Staging::of_call(args, &cwd);
    let answer = asking::ask(&place, of_call(program, args, &cwd, &stdin, staging.as_ref()));
    settle(staging, matches!(answer, Answer::Done(..)));
    match answer {
        Answer::Done(done, frames) => {
            if done.seeds {
                guard::stay(frames);
            }
            finish(&done)
        }
        Answer::Run(run, frames) => obey(&run, |ran| report(&place, ran, frames), program, args, stdin),
        Answer::PassOn(pass_on, frames) => {
            if pass_on.seeds {
                guard::stay(frames);
            }
            pass(&pass_on, program, args, stdin)
        }
        Answer::Nothing => passing::without_kache(program, args, stdin),
    }
}

/// Before a compiler runs, nothing that was laid down may be left, and nothing more may come.
fn settle(staging: Option<Staging>, is_done: bool) {
    match staging {
        Some(staging) if is_done => staging.keep(),
        Some(staging) => staging.revoke(),
        None => {}
    }
}

/// Makes the call with an engine in this very process in the daemon's place. It returns with
/// the compiler's code, or does not return.
pub fn wrap_with(engine: &mut dyn Engine, program: &OsStr, args: &[OsString]) -> ExitCode {
    let stdin = Stdin::of_call(args);
    let Ok(cwd) = std::env::current_dir() else { return passing::without_kache(program, args, stdin) };
    let staging = Staging::of_call(args, &cwd);
    let answer = engine.ask(of_call(program, args, &cwd, &stdin, staging.as_ref()));
    settle(staging, matches!(answer, Some(reply::Kind::Done(_))));
    match answer {
        Some(reply::Kind::Done(done)) => finish(&done),
        Some(reply::Kind::Run(run)) => obey(&run, |ran| engine.report(ran), program, args, stdin),
        Some(reply::Kind::PassOn(pass_on)) => pass(&pass_on, program, args, stdin),
        _ => passing::without_kache(program, args, stdin),
    }
}

/// The directory of the call, and where its daemon is.
fn whereabouts() -> Option<(PathBuf, Place)> {
    let cwd = std::env::current_dir().ok()?;
    let place = locate::place(&cwd)?;
    Some((cwd, place))
}

fn finish(done: &Done) -> ExitCode {
    for one in &done.said {
        say(one.stream(), &one.bytes);
    }
    exit::by_code(done.exit_code)
}

fn pass(pass_on: &PassOn, program: &OsStr, args: &[OsString], stdin: Stdin) -> ExitCode {
    let argv: Vec<OsString> = pass_on.argv.iter().map(from_bytes).collect();
    passing::instead(&argv, program, args, stdin)
}

fn obey(run: &Run, report: impl FnOnce(Ran), program: &OsStr, args: &[OsString], stdin: Stdin) -> ExitCode {
    match running::run(run, &stdin) {
        Ok(Ended { status, ran }) => {
            report(ran);
            exit::like(status)
        }
        // What cannot be started is tried as it was asked for, and fails in its own words.
        Err(_) => {
            drop(report);
            passing::without_kache(program, args, stdin)
        }
    }
}

/// Reports, and waits until it is noted (DMN-07). A daemon that does not listen is not waited for,
/// and the next calls do not wait for it either.
fn report(place: &Place, ran: Ran, mut frames: FrameStream) {
    let by = Instant::now() + NOTING_WAIT_MAX;
    let sent = frames.send(&Request { kind: Some(request::Kind::Ran(ran)) }, by);
    let noted = sent.and_then(|()| frames.receive::<Reply>(by).map(drop));
    if matches!(noted, Err(StreamError::Late)) {
        Grievance::NoAnswer.note(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_might_know() {
        for (call, expected) in [
            (&["rustc", "-vV"][..], true),
            (&["/toolchain/bin/rustc", "x.rs"], true),
            (&["/bin/clippy-driver", "/bin/rustc", "x.rs"], true),
            (&["/my/wrapper", "/bin/rustc", "x.rs"], true),
            (&["/usr/bin/cc", "-c", "x.c"], false),
            (&["/bin/rustc-not"], false),
        ] {
            let words: Vec<OsString> = call.iter().map(OsString::from).collect();
            assert_eq!(is_for_the_daemon(&words[0], &words[1..]), expected, "{call:?}");
        }
    }
}
