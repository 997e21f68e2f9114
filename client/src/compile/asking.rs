//! Asking the daemon what to do about a call.
//!
//! Greeting and question go out in one write, so that a healthy daemon costs one round trip.
//! Invariant (DMN-03): a daemon that is absent, hung, of another version or mad costs a named
//! wait, once in a while, and the answer is then [`Answer::Nothing`].

use std::time::{Duration, Instant};

use kache_proto::control::{Compile, Done, Hello, PassOn, Reply, Request, Run, reply, request};

use super::autostart;
use super::grievance::Grievance;
use crate::control::{FrameStream, StreamError, encode};
use crate::place::Place;
use crate::session::{self, ConnectError, Intent, Session};
use crate::version::{PROTOCOL, VERSION, is_older};

/// How long a daemon that is known to hang may take to greet; a healthy one takes a
/// hundredth of it.
const GREETING_BRIEF: Duration = Duration::from_millis(20);

/// How long any other may take, when all processors are busy.
const GREETING_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a daemon may be silent over a question before it is asked whether it lives. It
/// may have reason to be: another call compiles the same.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long it may take to say that it lives.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(1);

/// What a call is to do.
pub(crate) enum Answer {
    /// Say this and end.
    Done(Done),
    /// Run this and report.
    Run(Run, FrameStream),
    /// Run this and forget it.
    PassOn(PassOn),
    /// There is nobody to obey.
    Nothing,
}

/// Why there is no answer.
enum Silence {
    /// There is no daemon, or one that makes room.
    Absent,
    /// There is one that does not answer.
    Hung,
    /// There is one that is of no use to us.
    Useless,
}

/// Asks; starts a daemon first if there is none.
pub(crate) fn ask(place: &Place, compile: Compile) -> Answer {
    let Some(question) = question(compile) else { return Answer::Nothing };
    match converse(place, &question) {
        Ok(answer) => answer,
        Err(Silence::Absent) => {
            if autostart::wait_for_one(place, || is_there(place)) {
                converse(place, &question).unwrap_or(Answer::Nothing)
            } else {
                Answer::Nothing
            }
        }
        Err(Silence::Hung) => {
            Grievance::NoAnswer.note(place);
            Answer::Nothing
        }
        Err(Silence::Useless) => Answer::Nothing,
    }
}

/// Both frames; none if the call is too large to be sent.
fn question(compile: Compile) -> Option<Vec<u8>> {
    let hello = Hello { protocol: PROTOCOL, client_version: VERSION.to_owned(), only_looking: false };
    let mut bytes = encode(&hello).ok()?;
    bytes.extend(encode(&Request { kind: Some(request::Kind::Compile(compile)) }).ok()?);
    Some(bytes)
}

/// Whether a daemon of ours, or a newer one, answers.
fn is_there(place: &Place) -> bool {
    let by = Instant::now() + SIGN_OF_LIFE_MAX;
    Session::open(place, Intent::Look, by).is_ok_and(|session| !is_older(session.daemon_version(), VERSION))
}

fn converse(place: &Place, question: &[u8]) -> Result<Answer, Silence> {
    let begun = Instant::now();
    let (mut frames, _) = session::connect(place, begun + GREETING_BRIEF).map_err(|error| match error {
        ConnectError::NotRunning => Silence::Absent,
        ConnectError::Hung { .. } => Silence::Hung,
        _ => Silence::Useless,
    })?;
    frames.send_encoded(question, begun + GREETING_WAIT_MAX).map_err(|error| unanswered(&error))?;
    match greeting(place, &mut frames, begun)? {
        // One that cannot be replaced is better than none.
        reply::Kind::Welcome(welcome)
            if is_older(&welcome.daemon_version, VERSION) && !Grievance::NoStart.is_fresh(place) =>
        {
            Err(Silence::Absent)
        }
        reply::Kind::Welcome(_) => answer(place, frames),
        reply::Kind::Refused(refused) if refused.leaving => Err(Silence::Absent),
        _ => Err(Silence::Useless),
    }
}

/// Its first words. Whoever was hung a moment ago is not waited for again.
fn greeting(place: &Place, frames: &mut FrameStream, begun: Instant) -> Result<reply::Kind, Silence> {
    let mut received = frames.receive::<Reply>(begun + GREETING_BRIEF);
    if matches!(received, Err(StreamError::Late)) {
        if Grievance::NoAnswer.is_fresh(place) {
            return Err(Silence::Hung);
        }
        received = frames.receive::<Reply>(begun + GREETING_WAIT_MAX);
        if received.is_ok() {
            Grievance::NoAnswer.forget(place);
        }
    }
    received.map_err(|error| unanswered(&error))?.kind.ok_or(Silence::Useless)
}

/// Its answer, for as long as it lives.
fn answer(place: &Place, mut frames: FrameStream) -> Result<Answer, Silence> {
    loop {
        match frames.receive::<Reply>(Instant::now() + SILENCE_MAX) {
            Ok(reply) => {
                return match reply.kind {
                    Some(reply::Kind::Done(done)) => Ok(Answer::Done(done)),
                    Some(reply::Kind::Run(run)) => Ok(Answer::Run(run, frames)),
                    Some(reply::Kind::PassOn(pass_on)) => Ok(Answer::PassOn(pass_on)),
                    _ => Err(Silence::Useless),
                };
            }
            Err(StreamError::Late) => {
                let by = Instant::now() + SIGN_OF_LIFE_MAX;
                if Session::open(place, Intent::Look, by).is_err() {
                    return Err(Silence::Hung);
                }
            }
            Err(error) => return Err(unanswered(&error)),
        }
    }
}

fn unanswered(error: &StreamError) -> Silence {
    match error {
        StreamError::Late => Silence::Hung,
        // It was just leaving, or it died; the next one may be started.
        StreamError::Closed => Silence::Absent,
        StreamError::Frame(_) | StreamError::Io(_) => Silence::Useless,
    }
}
