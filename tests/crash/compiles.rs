//! Clients that compile as the wrapper does: they send `Compile`, do what the daemon responds, and send `Ran`.
//!
//! They use the control socket, so the daemon's own pipeline stores files of a worktree; only rustc is not started
//! (see `worktree`). A call that got `Noted` is not stored yet. It is stored when its observer's record is gone,
//! because the daemon removes the record last. After that the result must not be lost; before that the result is
//! being stored, which the record shows for a dead daemon, too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kache_client::control::{
    Compile, FrameStream, Hello, Ran, Reply, Request, Run, Said, StreamError, encode, reply, request,
};
use kache_client::staging::StagingDirectory;
use kache_client::{DaemonAddress, PROTOCOL, VERSION, os};

use crate::worktree::{Unit, Worktree, record};

/// How long a response may take. A daemon that hangs must not hang the test.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// The time between two checks whether a result is stored.
const STORED_POLL: Duration = Duration::from_micros(300);
/// One of this many compiles sleeps for [`COMPILE_TIME`], so that some daemons die while a compiler runs.
const SLEEP_EVERY: u64 = 4;
const COMPILE_TIME: Duration = Duration::from_millis(8);
/// One of this many calls of a client is for a unit that was compiled before.
const REPEAT_EVERY: u64 = 4;
/// The number of latest units that stay in their worktree.
const KEPT: u64 = 4;

/// The daemon has died.
#[derive(Debug)]
struct Gone;

/// The stage of a call when the daemon died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The call had no response.
    Asking,
    /// The compiler was running.
    Compiling,
    /// The compiler had ended, and the result was being stored.
    Storing,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The outputs were restored from the store.
    Hit,
    /// The compiler made the outputs, and they are stored.
    Stored,
    /// The daemon died.
    Died(Stage),
}

/// The life of one daemon, which its clients share.
#[derive(Default)]
pub(crate) struct Life {
    /// Whether the daemon was killed.
    is_over: AtomicBool,
    /// Whether a client was told to compile.
    has_compile: AtomicBool,
}

impl Life {
    /// Marks the daemon as killed.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until the first compile has begun.
    pub(crate) async fn await_a_compile(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.has_compile.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "no client was told to compile");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A client with its worktree, and the state of its calls.
pub(crate) struct Client {
    address: DaemonAddress,
    worktree: Worktree,
    /// A number that distinguishes its units from those of other clients.
    number: u64,
    /// For each unit, in order, whether it is known to be stored.
    stored: Vec<bool>,
}

impl Client {
    /// Creates a client, and compiles its first unit with rustc.
    pub(crate) fn new(address: DaemonAddress, dir: PathBuf, home: &Path, number: u64) -> Client {
        let mut client =
            Client { address, worktree: Worktree::new(dir, home, number), number, stored: Vec::new() };
        let ended = client.call(client.worktree.first, &Life::default());
        assert_eq!(ended, Ended::Stored, "rustc was not run");
        client
    }

    fn unit(&self, index: u64) -> Unit {
        Unit(self.number << 48 | index)
    }

    /// The number of units that were begun.
    fn begun(&self) -> u64 {
        self.stored.len() as u64
    }

    /// The number of units that are known to be stored.
    pub(crate) fn stored(&self) -> usize {
        self.stored.iter().filter(|stored| **stored).count()
    }

    /// The library of the latest stored unit, whose blob the caller tears. The unit no longer counts as stored.
    pub(crate) fn lose_the_latest(&mut self) -> Option<Vec<u8>> {
        let index = self.stored.iter().rposition(|stored| *stored)?;
        self.stored[index] = false;
        Some(self.worktree.library(self.unit(index as u64)))
    }

    /// Compiles one unit after another until the daemon dies, and returns the stage of the last call.
    pub(crate) fn compile_until_death(&mut self, life: &Life) -> Stage {
        loop {
            let index = self.begun();
            let ended = match index % REPEAT_EVERY {
                0 if index > 0 => self.repeat(index * 7919 % index, life),
                _ => Ended::Stored,
            };
            if let Ended::Died(stage) = ended {
                return stage;
            }
            if let Ended::Died(stage) = self.compile_next(life) {
                return stage;
            }
        }
    }

    /// Compiles one more unit. The daemon must not die.
    pub(crate) fn compile_another(&mut self) {
        assert_eq!(self.compile_next(&Life::default()), Ended::Stored);
    }

    fn compile_next(&mut self, life: &Life) -> Ended {
        let index = self.begun();
        self.stored.push(false);
        if let Some(old) = index.checked_sub(KEPT) {
            self.worktree.clean(self.unit(old));
        }
        let ended = self.call(self.unit(index), life);
        assert_ne!(ended, Ended::Hit, "unit {index} came from the store before it was there");
        self.stored[index as usize] = ended == Ended::Stored;
        ended
    }

    /// Repeats a call. A unit that is known to be stored must come from the store, and outputs from the store must
    /// be complete.
    fn repeat(&mut self, index: u64, life: &Life) -> Ended {
        let unit = self.unit(index);
        // Half of the repeated calls find their earlier outputs in place.
        if index.is_multiple_of(2) {
            self.worktree.clean(unit);
        }
        let ended = self.call(unit, life);
        let is_owed = self.stored[index as usize];
        assert!(ended != Ended::Stored || !is_owed, "unit {index} of {} was stored and lost", self.number);
        self.stored[index as usize] |= ended == Ended::Stored || ended == Ended::Hit;
        ended
    }

    /// Repeats the latest `latest` calls, which were in flight or just stored, and one old call. The daemon must
    /// not die. Returns how many came from the store.
    pub(crate) fn check(&mut self, latest: u64, round: u64) -> u64 {
        let begun = self.begun();
        let old = (begun > latest).then(|| round * 104_729 % (begun - latest));
        let indices: Vec<u64> = old.into_iter().chain(begun.saturating_sub(latest)..begun).collect();
        self.check_these(&indices)
    }

    /// Repeats every call.
    pub(crate) fn check_all(&mut self) -> u64 {
        let indices: Vec<u64> = (0..self.begun()).collect();
        self.check_these(&indices)
    }

    fn check_these(&mut self, indices: &[u64]) -> u64 {
        let mut hits = 0;
        for &index in indices {
            let ended = self.repeat(index, &Life::default());
            assert!(
                !matches!(ended, Ended::Died(_)),
                "the daemon died during a call for unit {index}: {ended:?}"
            );
            hits += u64::from(ended == Ended::Hit);
            if index + KEPT < self.begun() {
                self.worktree.clean(self.unit(index));
            }
        }
        hits
    }

    /// Makes a call, and waits until its result is stored.
    fn call(&mut self, unit: Unit, life: &Life) -> Ended {
        let staging = StagingDirectory::in_directory(&self.worktree.deps()).expect("the directory is ours");
        let asked = ask(&self.address, self.worktree.call(unit, staging.path()));
        let (run, mut frames) = match asked {
            Ok((Answer::Done(told), _)) => {
                staging.keep();
                self.worktree.check(unit, &told);
                return Ended::Hit;
            }
            Ok((Answer::Run(run), frames)) => {
                staging.revoke();
                (run, frames)
            }
            Err(Gone) => {
                staging.revoke();
                return Ended::Died(Stage::Asking);
            }
        };
        life.has_compile.store(true, Ordering::SeqCst);
        let (begun, started) = (Instant::now(), SystemTime::now());
        let said = self.worktree.run(unit, &run);
        if unit.0 % SLEEP_EVERY == 1 {
            std::thread::sleep(COMPILE_TIME);
        }
        let ran = Ran {
            exit_code: Some(0),
            said,
            wall_us: micros(begun.elapsed()),
            started_us: micros(started.duration_since(UNIX_EPOCH).unwrap()),
            ..Ran::default()
        };
        let record = record(&run).expect("rustc is observed, and its record shows when the result is stored");
        if send(&mut frames, request::Kind::Ran(ran)).is_err() {
            return Ended::Died(Stage::Compiling);
        }
        // The daemon may have died after it had sent its response.
        let _ = receive(&mut frames);
        let deadline = Instant::now() + ANSWER_WAIT_MAX;
        while record.exists() {
            if life.is_over.load(Ordering::SeqCst) {
                return Ended::Died(Stage::Storing);
            }
            assert!(Instant::now() < deadline, "the result of {unit:?} is still not stored");
            std::thread::sleep(STORED_POLL);
        }
        Ended::Stored
    }
}

/// A response of the daemon.
enum Answer {
    Done(Vec<Said>),
    Run(Box<Run>),
}

/// Sends the greeting and the call in one write, as the wrapper does.
fn ask(address: &DaemonAddress, compile: Compile) -> Result<(Answer, FrameStream), Gone> {
    let socket = os::short_socket_path(&address.control_socket()).expect("the directory is ours");
    let stream =
        os::connect(&socket, Instant::now() + ANSWER_WAIT_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                Gone
            }
            _ => panic!("failed to connect: {error}"),
        })?;
    let mut frames = FrameStream::new(stream);
    let hello = Hello { protocol: PROTOCOL, client_version: VERSION.to_owned(), only_looking: false };
    let mut question = encode(&hello).unwrap();
    question.extend(encode(&Request { kind: Some(request::Kind::Compile(compile)) }).unwrap());
    frames.send_encoded(&question, Instant::now() + ANSWER_WAIT_MAX).map_err(|error| gone(&error))?;
    match receive(&mut frames)? {
        reply::Kind::Welcome(_) => {}
        other => panic!("the daemon greets with {other:?}"),
    }
    match receive(&mut frames)? {
        reply::Kind::Done(done) => {
            assert_eq!(done.exit_code, 0);
            Ok((Answer::Done(done.said), frames))
        }
        reply::Kind::Run(run) => Ok((Answer::Run(Box::new(run)), frames)),
        other => panic!("the daemon does not do its work: {other:?}"),
    }
}

fn send(frames: &mut FrameStream, kind: request::Kind) -> Result<(), Gone> {
    let request = Request { kind: Some(kind) };
    frames.send(&request, Instant::now() + ANSWER_WAIT_MAX).map_err(|error| gone(&error))
}

fn receive(frames: &mut FrameStream) -> Result<reply::Kind, Gone> {
    let reply = frames.receive::<Reply>(Instant::now() + ANSWER_WAIT_MAX).map_err(|error| gone(&error))?;
    Ok(reply.kind.expect("the daemon says what this version knows"))
}

/// Only a truncated frame is a sign of a killed daemon. A frame that cannot be decoded is an error.
fn gone(error: &StreamError) -> Gone {
    use kache_client::control::FrameError;
    match error {
        StreamError::Closed | StreamError::Frame(FrameError::Cut { .. }) => Gone,
        other => panic!("the daemon did not answer: {other}"),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}
