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

/// How long a call waits together for a daemon to be started, to greet, and to answer or to say
/// that it lives. The wait for a note after the compile comes on top of it.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How long a daemon may be silent over a question before it is asked whether it lives. It may have
/// reason to be: another call compiles the same. No stopped daemon is waited for longer than this
/// and [`SIGN_OF_LIFE_MAX`] together.
const SILENCE_MAX: Duration = Duration::from_millis(2_200);

/// How long it may take to say that it lives.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_millis(800);

/// What a call is to do.
pub(crate) enum Answer {
    /// Say this and end. The connection is for the one who guards what is laid down next.
    Done(Done, FrameStream),
    /// Run this and report.
    Run(Run, FrameStream),
    /// Run this and forget it. The connection is for the same.
    PassOn(PassOn, FrameStream),
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
    let deadline = Instant::now() + WAIT_MAX;
    let mut answer = converse(place, &question, deadline);
    if matches!(answer, Err(Silence::Absent)) && autostart::wait_for_one(place, deadline, || is_there(place))
    {
        // One that was started with the last of the time is asked all the same.
        answer = converse(place, &question, deadline.max(Instant::now() + GREETING_BRIEF));
    }
    if matches!(answer, Err(Silence::Hung)) {
        Grievance::NoAnswer.note(place);
    }
    answer.unwrap_or(Answer::Nothing)
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

fn converse(place: &Place, question: &[u8], deadline: Instant) -> Result<Answer, Silence> {
    let begun = Instant::now();
    let greeted_by = deadline.min(begun + GREETING_WAIT_MAX);
    let (mut frames, _) = session::connect(place, begun + GREETING_BRIEF).map_err(|error| match error {
        ConnectError::NotRunning => Silence::Absent,
        ConnectError::Hung { .. } => Silence::Hung,
        _ => Silence::Useless,
    })?;
    frames.send_encoded(question, greeted_by).map_err(|error| unanswered(&error))?;
    match greeting(place, &mut frames, begun, greeted_by)? {
        // One that cannot be replaced is better than none.
        reply::Kind::Welcome(welcome)
            if is_older(&welcome.daemon_version, VERSION) && !Grievance::NoStart.is_fresh(place) =>
        {
            Err(Silence::Absent)
        }
        reply::Kind::Welcome(_) => answer(place, frames, deadline),
        reply::Kind::Refused(refused) if refused.leaving => Err(Silence::Absent),
        _ => Err(Silence::Useless),
    }
}

/// Its first words. Whoever was hung a moment ago is not waited for again.
fn greeting(
    place: &Place,
    frames: &mut FrameStream,
    begun: Instant,
    by: Instant,
) -> Result<reply::Kind, Silence> {
    let mut received = frames.receive::<Reply>(begun + GREETING_BRIEF);
    if matches!(received, Err(StreamError::Late)) {
        if Grievance::NoAnswer.is_fresh(place) {
            return Err(Silence::Hung);
        }
        received = frames.receive::<Reply>(by);
        if received.is_ok() {
            Grievance::NoAnswer.forget(place);
        }
    }
    received.map_err(|error| unanswered(&error))?.kind.ok_or(Silence::Useless)
}

/// Its answer, for as long as it lives. The first time it is asked whether it does before the
/// call's deadline.
fn answer(place: &Place, mut frames: FrameStream, deadline: Instant) -> Result<Answer, Silence> {
    let first = deadline.checked_sub(SIGN_OF_LIFE_MAX).unwrap_or(deadline);
    let mut silent_until = first.min(Instant::now() + SILENCE_MAX);
    loop {
        match frames.receive::<Reply>(silent_until) {
            Ok(reply) => {
                return match reply.kind {
                    Some(reply::Kind::Done(done)) => Ok(Answer::Done(done, frames)),
                    Some(reply::Kind::Run(run)) => Ok(Answer::Run(run, frames)),
                    Some(reply::Kind::PassOn(pass_on)) => Ok(Answer::PassOn(pass_on, frames)),
                    _ => Err(Silence::Useless),
                };
            }
            Err(StreamError::Late) => {
                let by = Instant::now() + SIGN_OF_LIFE_MAX;
                if Session::open(place, Intent::Look, by).is_err() {
                    return Err(Silence::Hung);
                }
                silent_until = Instant::now() + SILENCE_MAX;
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
