//! The exchange between a compiler call and the daemon: one request, one reply.
//!
//! `Hello` and the request go out in one write, so that a healthy daemon costs one round trip.
//! Invariant (DMN-03): a daemon that is absent, hung, of another version or misbehaving costs a
//! wait with a named limit, once in a while, and the result is then [`CompileReply::NoDaemon`].

use std::time::{Duration, Instant};

use kache_proto::control::{Compile, Done, Hello, PassOn, Reply, Request, Run, reply, request};

use super::autostart;
use super::fallback_reason::FallbackReason;
use crate::address::DaemonAddress;
use crate::connection::{self, ConnectError, DaemonConnection, Intent};
use crate::control::{FrameStream, StreamError, encode};
use crate::version::{PROTOCOL, VERSION, is_older};

/// The time that a daemon has to send `Welcome` if it failed to answer a moment ago. A healthy daemon
/// takes a hundredth of it.
const WELCOME_WAIT_SHORT: Duration = Duration::from_millis(20);

/// The time that any other daemon has to send `Welcome`, for when all processors are busy.
const WELCOME_WAIT_MAX: Duration = Duration::from_secs(2);

/// The time that a call waits altogether until a daemon is started, has greeted, and has replied
/// or shown that it lives. The wait after the compile, until its end is recorded, is not included.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// The time after which a daemon that has not replied to the request is probed. It may have a
/// reason: another call compiles the same. A daemon that is stopped is waited for no longer than
/// this and [`SIGN_OF_LIFE_MAX`] together.
const SILENCE_MAX: Duration = Duration::from_millis(2_200);

/// The time that the daemon has to answer a probe.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_millis(800);

/// The daemon's reply to a compiler call.
pub(crate) enum CompileReply {
    /// The outputs are restored: the call prints the messages and exits. The connection is for the
    /// guard, if units are seeded next.
    Done(Done, FrameStream),
    /// The call runs the compiler and reports how it ended on this connection.
    Run(Run, FrameStream),
    /// The call runs the compiler, and nothing is reported. The connection is for the guard.
    PassOn(PassOn, FrameStream),
    /// There is no reply, so the call runs the compiler as if kache were not there. The connections on
    /// which the request was sent stay open until the call has revoked its staging directory: the
    /// daemon removes the staging directory of a client that is gone, and with it the list of what it
    /// has restored.
    NoDaemon(Vec<FrameStream>),
}

/// The reason why there is no reply.
enum NoReply {
    /// No daemon runs, or the daemon that runs is leaving. Another one may be started.
    NotRunning,
    /// A daemon runs and does not answer in time.
    Hung,
    /// A daemon runs that this client cannot use, and starting another one would not help.
    Unusable,
}

/// Sends a compiler call to the daemon and waits for the reply. Starts a daemon first if none runs.
pub(crate) fn request_compile(address: &DaemonAddress, compile: Compile) -> CompileReply {
    let Some(frames) = encode_request(compile) else { return CompileReply::NoDaemon(Vec::new()) };
    let deadline = Instant::now() + WAIT_MAX;
    // The first connection stays open while the request is repeated on a second one, because the daemon may already
    // be restoring outputs for it (see `CompileReply::NoDaemon`).
    let mut abandoned = Vec::new();
    let mut reply = exchange(address, &frames, deadline, &mut abandoned);
    if matches!(reply, Err(NoReply::NotRunning))
        && autostart::wait_until_running(address, deadline, || is_running(address))
    {
        // A daemon that was started at the last moment still gets the request.
        let deadline = deadline.max(Instant::now() + WELCOME_WAIT_SHORT);
        reply = exchange(address, &frames, deadline, &mut abandoned);
    }
    match &reply {
        Err(NoReply::Hung) => FallbackReason::NoAnswer.record(address),
        // Without this, calls on a busy machine, where the greeting of a healthy daemon is often late, would
        // renew the record until the build ends.
        Ok(_) => FallbackReason::NoAnswer.clear(address),
        Err(_) => {}
    }
    reply.unwrap_or(CompileReply::NoDaemon(abandoned))
}

/// Encodes `Hello` and the request; `None` if the call is too large for a frame.
fn encode_request(compile: Compile) -> Option<Vec<u8>> {
    let hello = Hello { protocol: PROTOCOL, client_version: VERSION.to_owned(), only_looking: false };
    let mut frames = encode(&hello).ok()?;
    frames.extend(encode(&Request { kind: Some(request::Kind::Compile(compile)) }).ok()?);
    Some(frames)
}

/// Returns whether a daemon of this version or a newer one answers.
fn is_running(address: &DaemonAddress) -> bool {
    let deadline = Instant::now() + SIGN_OF_LIFE_MAX;
    DaemonConnection::open(address, Intent::Look, deadline)
        .is_ok_and(|connection| !is_older(connection.daemon_version(), VERSION))
}

/// Connects, sends the encoded request, and waits for the greeting and the reply. Without a reply the
/// connection is added to `abandoned`.
fn exchange(
    address: &DaemonAddress,
    frames: &[u8],
    deadline: Instant,
    abandoned: &mut Vec<FrameStream>,
) -> Result<CompileReply, NoReply> {
    let begun = Instant::now();
    // Connecting succeeds at once, also with a hung daemon, unless its queue of connections is full.
    let connected = connection::connect(address, begun + WELCOME_WAIT_SHORT);
    let (mut stream, _) = connected.map_err(|error| match error {
        ConnectError::NotRunning => NoReply::NotRunning,
        ConnectError::Hung { .. } => NoReply::Hung,
        _ => NoReply::Unusable,
    })?;
    match send_and_receive(address, &mut stream, frames, (begun, deadline)) {
        Ok(reply::Kind::Done(done)) => Ok(CompileReply::Done(done, stream)),
        Ok(reply::Kind::Run(run)) => Ok(CompileReply::Run(run, stream)),
        Ok(reply::Kind::PassOn(pass_on)) => Ok(CompileReply::PassOn(pass_on, stream)),
        other => {
            abandoned.push(stream);
            Err(other.err().unwrap_or(NoReply::Unusable))
        }
    }
}

/// Sends the encoded request on a new connection, and waits for the greeting and the reply.
fn send_and_receive(
    address: &DaemonAddress,
    stream: &mut FrameStream,
    frames: &[u8],
    (begun, deadline): (Instant, Instant),
) -> Result<reply::Kind, NoReply> {
    let greeting_deadline = deadline.min(begun + WELCOME_WAIT_MAX);
    stream.send_encoded(frames, greeting_deadline).map_err(|error| no_reply(&error))?;
    match receive_greeting(address, stream, begun, greeting_deadline)? {
        // An older daemon is replaced. Where starting a daemon failed a moment ago, the older one
        // is used all the same.
        reply::Kind::Welcome(welcome)
            if is_older(&welcome.daemon_version, VERSION) && !FallbackReason::NoStart.is_recent(address) =>
        {
            Err(NoReply::NotRunning)
        }
        reply::Kind::Welcome(_) => receive_compile_reply(address, stream, deadline),
        reply::Kind::Refused(refused) if refused.leaving => Err(NoReply::NotRunning),
        _ => Err(NoReply::Unusable),
    }
}

/// Waits for the daemon's greeting.
///
/// The first wait is short. A daemon that has not greeted by then gets the long wait only if no
/// other call has waited in vain a moment ago, so that a hung daemon costs a build one long wait.
fn receive_greeting(
    address: &DaemonAddress,
    stream: &mut FrameStream,
    begun: Instant,
    deadline: Instant,
) -> Result<reply::Kind, NoReply> {
    let mut received = stream.receive::<Reply>(begun + WELCOME_WAIT_SHORT);
    if matches!(received, Err(StreamError::Late)) {
        if FallbackReason::NoAnswer.is_recent(address) {
            return Err(NoReply::Hung);
        }
        received = stream.receive::<Reply>(deadline);
    }
    received.map_err(|error| no_reply(&error))?.kind.ok_or(NoReply::Unusable)
}

/// Waits for the reply to the call, for as long as the daemon lives.
///
/// The reply may take minutes, because the call may follow another one that compiles the same. So
/// there is no limit, but the daemon is probed on a second connection whenever it was silent for
/// too long. The first probe is early enough to be answered before the call's deadline.
fn receive_compile_reply(
    address: &DaemonAddress,
    stream: &mut FrameStream,
    deadline: Instant,
) -> Result<reply::Kind, NoReply> {
    let first = deadline.checked_sub(SIGN_OF_LIFE_MAX).unwrap_or(deadline);
    let mut next_probe = first.min(Instant::now() + SILENCE_MAX);
    loop {
        match stream.receive::<Reply>(next_probe) {
            Ok(reply) => return reply.kind.ok_or(NoReply::Unusable),
            Err(StreamError::Late) => {
                let deadline = Instant::now() + SIGN_OF_LIFE_MAX;
                if DaemonConnection::open(address, Intent::Look, deadline).is_err() {
                    return Err(NoReply::Hung);
                }
                next_probe = Instant::now() + SILENCE_MAX;
            }
            Err(error) => return Err(no_reply(&error)),
        }
    }
}

fn no_reply(error: &StreamError) -> NoReply {
    match error {
        StreamError::Late => NoReply::Hung,
        // The daemon was just leaving, or it died. Another one may be started.
        StreamError::Closed => NoReply::NotRunning,
        StreamError::Frame(_) | StreamError::Io(_) => NoReply::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::control::{PassOn, Welcome};

    #[test]
    fn rst_05_a_call_without_a_reply_stays_connected_until_it_has_revoked_its_staging_directory() {
        let dir = tempfile::tempdir().unwrap();
        let address = DaemonAddress::new(dir.path(), Some(&dir.path().join("s")));
        address.prepare().unwrap();
        // With this record the call does not wait long for a greeting.
        FallbackReason::NoAnswer.record(&address);
        let listener = crate::os::listen(&address.control_socket()).unwrap();
        let (has_returned, returned) = mpsc::channel();
        let daemon = std::thread::spawn(move || {
            let long = || Instant::now() + WELCOME_WAIT_MAX;
            let mut stream = FrameStream::new(listener.accept().unwrap().0);
            stream.receive::<Hello>(long()).unwrap();
            stream.receive::<Request>(long()).unwrap();
            returned.recv().unwrap();
            let is_open = matches!(
                stream.receive::<Request>(Instant::now() + WELCOME_WAIT_SHORT),
                Err(StreamError::Late)
            );
            returned.recv().unwrap();
            let is_closed = matches!(stream.receive::<Request>(long()), Err(StreamError::Closed));
            (is_open, is_closed)
        });
        let reply = request_compile(&address, Compile::default());
        assert!(matches!(reply, CompileReply::NoDaemon(_)));
        has_returned.send(()).unwrap();
        // The daemon reads on while this test holds the reply.
        std::thread::sleep(2 * WELCOME_WAIT_SHORT);
        drop(reply);
        has_returned.send(()).unwrap();
        assert_eq!(daemon.join().unwrap(), (true, true));
    }

    #[test]
    fn dmn_03_after_a_reply_calls_wait_long_for_the_daemon_again() {
        let dir = tempfile::tempdir().unwrap();
        let address = DaemonAddress::new(dir.path(), Some(&dir.path().join("s")));
        address.prepare().unwrap();
        FallbackReason::NoAnswer.record(&address);
        let listener = crate::os::listen(&address.control_socket()).unwrap();
        let daemon = std::thread::spawn(move || {
            let long = || Instant::now() + WELCOME_WAIT_MAX;
            let welcome = Welcome { daemon_version: VERSION.to_owned(), ..Welcome::default() };
            let mut stream = FrameStream::new(listener.accept().unwrap().0);
            for kind in [reply::Kind::Welcome(welcome), reply::Kind::PassOn(PassOn::default())] {
                let frame = encode(&Reply { kind: Some(kind) }).unwrap();
                stream.send_encoded(&frame, long()).unwrap();
            }
        });
        assert!(matches!(request_compile(&address, Compile::default()), CompileReply::PassOn(..)));
        assert!(!FallbackReason::NoAnswer.is_recent(&address));
        daemon.join().unwrap();
    }
}
