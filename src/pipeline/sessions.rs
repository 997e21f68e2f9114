//! The cargos behind calls: what each was asked, and what was made for it.
//!
//! A cargo's first question for the compiler's version may set off seeding: then whatever else
//! it asks waits until that is over, since what it does next is to look at what is there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Hash};

use crate::action::{Origin, OutputKind, Task};
use crate::cargo::{Process, Unit, parent_of};
use crate::compile::KnownFile;
use crate::invocation::Call;
use crate::restore::dates::place_of;
use crate::roles::Role;
use crate::seeds::Asked;

use super::phases::Phases;
use super::prepare::Prepared;

/// How long a cargo is held up at most by what is laid down for it. Units take as long each as
/// if it had called for them.
pub const SEEDING_MAX: Duration = Duration::from_millis(1_700);

/// The same where not even that ends, which it does from outside: less than a call may take to be
/// answered.
const HELD_UP_MAX: Duration = Duration::from_millis(2_600);

/// More units of one cargo are not kept in mind.
const NOTED_MAX: usize = 10_000;

/// Set for whatever belongs to a package that has a build script, but for that itself.
const OUT_DIR: &str = "OUT_DIR";

/// How many programs a call begins with.
const PROGRAMS_MAX: usize = 2;

/// Cargo calls a crate so that it asks about and does not compile.
const NO_CRATE: &str = "___";

/// What a cargo asks before it builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The compiler's version.
    Version,
    /// Its directories, and what it compiles for.
    Properties,
}

impl Question {
    /// That this call asks.
    pub(super) fn of(call: &Call) -> Option<Question> {
        let is_option = |word: &OsString| word.as_bytes().starts_with(b"-");
        // `rustc …`, or `clippy-driver rustc …`.
        let programs = call.argv.iter().take(PROGRAMS_MAX).take_while(|word| !is_option(word)).count();
        match &call.argv[programs..] {
            [only] if only == "-vV" => Some(Question::Version),
            [first, rest @ ..] if first == "-" && rest.iter().any(|word| word == NO_CRATE) => {
                Some(Question::Properties)
            }
            _ => None,
        }
    }
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Whether nobody stays to see their end.
    are_ignored: bool,
    by_pid: Mutex<HashMap<i32, Arc<Session>>>,
    unattended: Mutex<Vec<Arc<Session>>>,
    harvest: Mutex<()>,
    /// What those that have ended were given.
    programs: Mutex<Vec<Digest>>,
}

impl Sessions {
    /// For a process that makes one call.
    pub(super) fn none() -> Self {
        Sessions { are_ignored: true, ..Sessions::default() }
    }

    /// The cargo that made this process, if it was one.
    pub(super) fn of(&self, client: i32) -> Option<Arc<Session>> {
        let pid = parent_of(client).filter(|_| !self.are_ignored)?;
        if let Some(known) = lock(&self.by_pid).get(&pid) {
            return Some(Arc::clone(known));
        }
        let process = Process::cargo(pid)?;
        let session = Arc::new(Session::new(process));
        // Where two calls are the first, one of them is.
        let session = Arc::clone(lock(&self.by_pid).entry(pid).or_insert_with(|| {
            lock(&self.unattended).push(Arc::clone(&session));
            session
        }));
        Some(session)
    }

    /// Those that nobody waits for the end of yet. Whoever gets them does.
    pub(super) fn unattended(&self) -> Vec<Arc<Session>> {
        std::mem::take(&mut *lock(&self.unattended))
    }

    /// Those that have ended but for what is still being stored.
    pub(super) fn ending(&self) -> Vec<Arc<Session>> {
        let is_ending = |session: &&Arc<Session>| session.is_storing() && !session.process.is_running();
        lock(&self.by_pid).values().filter(is_ending).cloned().collect()
    }

    /// Does this with those that have ended, which are not known here any more. Whoever comes
    /// while another one does it waits: what is to be kept of them is kept afterwards.
    pub(super) fn harvest(&self, mut keep: impl FnMut(&Session)) {
        let _one_at_a_time = lock(&self.harvest);
        let ended: Vec<_> = lock(&self.by_pid).extract_if(|_, session| !session.is_under_way()).collect();
        for (_, session) in ended {
            lock(&self.programs).append(&mut lock(&session.state).programs);
            keep(&session);
        }
    }

    /// The programs that cargos were given which have ended since. Hashing them takes longer
    /// than keeping records, and nobody waits for it.
    pub(super) fn take_programs(&self) -> Vec<Digest> {
        std::mem::take(&mut *lock(&self.programs))
    }
}

/// One cargo.
#[derive(Debug)]
pub struct Session {
    process: Process,
    asked: Option<Asked>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    has_asked_properties: bool,
    asks_again: bool,
    /// The target directories whose shared files were checked for this session.
    checked: Vec<PathBuf>,
    /// Whether the target directory that the session compiles for is among them.
    is_checked: bool,
    /// How many results are on their way into the store.
    storing: usize,
    noted: Vec<Noted>,
    programs: Vec<Digest>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Cargo may still be given something.
    #[default]
    Possible,
    /// What it asks meanwhile waits, but for its question about properties where another one
    /// will follow.
    Seeding { asks_again: bool },
    /// It looks at what is there.
    Over,
}

/// A unit that was made for a cargo, and may be laid down for another.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// The call.
    pub(super) call: Arc<Call>,
    /// When it came.
    pub(super) called: SystemTime,
    /// What made it.
    pub(super) action: Hash,
    /// Where it stands.
    pub(super) unit: Unit,
    /// The hashes in the names of the units that it depends on.
    pub(super) depends_on: Vec<String>,
    /// Where it was made.
    pub(super) target_dir: PathBuf,
}

impl Session {
    fn new(process: Process) -> Session {
        let asked = Asked::of(&process);
        Session { process, asked, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether it has not ended, or something that was made for it is not yet stored.
    pub fn is_under_way(&self) -> bool {
        self.is_storing() || self.process.is_running()
    }

    fn is_storing(&self) -> bool {
        lock(&self.state).storing > 0
    }

    /// Something that was made for it is being stored, until this is dropped.
    pub(super) fn begin_storing(self: &Arc<Self>) -> Storing {
        lock(&self.state).storing += 1;
        Storing(Arc::clone(self))
    }

    /// Waits until everything that was made for it is stored, or time is up.
    pub(super) fn wait_until_stored(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(lock(&self.state), left, |state| state.storing > 0);
        drop(waited);
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What it builds, where that can be told.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The name of the set that it leaves something to.
    pub(super) fn set(&self) -> Option<Digest<ActionMessage>> {
        self.asked()?.key()
    }

    /// Whether it asked for the version again.
    pub(super) fn asks_again(&self) -> bool {
        lock(&self.state).asks_again
    }

    /// A call of it: whether seeding begins with it. Waits while seeding is under way.
    pub(super) fn hear(&self, call: &Call) -> bool {
        let question = Question::of(call);
        let mut state = lock(&self.state);
        match question {
            Some(Question::Version) => {
                state.asks_again |= state.has_asked_properties;
            }
            Some(Question::Properties) => state.has_asked_properties = true,
            None => {}
        }
        if state.stage == Stage::Possible {
            let begins = question == Some(Question::Version) && self.asked.is_some();
            state.stage = if begins { Stage::Seeding { asks_again: false } } else { Stage::Over };
            return begins;
        }
        let deadline = Instant::now() + HELD_UP_MAX;
        while is_held_up(state.stage, question) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.end_seeding();
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Units are laid down from now on, until seeding is over. Whether another question will follow
    /// that about properties, which then need not wait.
    pub(super) fn expect_another(&self, asks_another: bool) {
        if let Stage::Seeding { asks_again } = &mut lock(&self.state).stage {
            *asks_again = asks_another;
        }
        self.changed.notify_all();
    }

    /// Whether the shared files of the target directory that the session compiles for were checked.
    pub(super) fn is_checked(&self) -> bool {
        lock(&self.state).is_checked
    }

    /// Whether the shared files of this target directory were checked for the session.
    pub(super) fn has_checked(&self, target_dir: &Path) -> bool {
        lock(&self.state).checked.iter().any(|known| known == target_dir)
    }

    /// Notes that all shared files of this target directory were checked. The session compiles for
    /// it, unless that is a guess from its command line.
    pub(super) fn checked(&self, target_dir: &Path, is_guess: bool) {
        let mut state = lock(&self.state);
        state.is_checked |= !is_guess;
        if !state.checked.iter().any(|known| known == target_dir) {
            state.checked.push(target_dir.to_owned());
        }
    }

    /// Whether its questions are held up.
    #[cfg(test)]
    fn is_seeding(&self) -> bool {
        matches!(lock(&self.state).stage, Stage::Seeding { .. })
    }

    /// Nothing more is laid down.
    pub(super) fn end_seeding(&self) {
        let mut state = lock(&self.state);
        state.stage = Stage::Over;
        self.changed.notify_all();
    }

    /// Keeps in mind what was made for it, if another cargo may be given it: nothing but what
    /// follows from its inputs, which no one edits and no build script has a part in.
    pub(super) fn note(&self, call: &Arc<Call>, prepared: &Prepared, phases: &Phases, action: Hash) {
        let Prepared { rustc, task, is_probe, .. } = prepared;
        if self.asked.is_none()
            || *is_probe
            || task.origin != Origin::Immutable
            || call.env.get(OUT_DIR).is_some()
        {
            return;
        }
        let unit = || {
            let target_dir = task.roots.dir(Role::Target)?;
            let package = call.env.get("CARGO_PKG_NAME")?.to_str()?;
            let out_dir = call.cwd.join(rustc.out_dir.as_deref()?);
            let unit = Unit::of(target_dir, &out_dir, package, &rustc.extra_filename)?;
            let depends_on = task.depends_on.iter().map(|path| Unit::hash_of(path)).collect::<Option<_>>()?;
            Some(Noted {
                call: Arc::clone(call),
                called: SystemTime::now().checked_sub(phases.elapsed())?,
                action,
                unit,
                depends_on,
                target_dir: target_dir.to_owned(),
            })
        };
        if let Some(noted) = unit() {
            let mut state = lock(&self.state);
            if state.noted.len() < NOTED_MAX {
                state.noted.push(noted);
            }
        }
    }

    /// Keeps in mind which programs it was given: cargo gives each a second name, which changes
    /// how the inode looks that it shares with the store.
    pub(super) fn note_programs(&self, task: &Task, outputs: &[KnownFile]) {
        let is_program = |path: &Path| {
            let mut programs = task.outputs.iter().filter(|output| output.kind == OutputKind::Executable);
            programs.any(|output| place_of(task, output) == path)
        };
        let programs = outputs.iter().filter(|output| is_program(&output.path));
        let mut state = lock(&self.state);
        let room = NOTED_MAX.saturating_sub(state.programs.len());
        state.programs.extend(programs.map(|output| output.digest).take(room));
    }

    /// What was noted, each unit once: as it was made last.
    pub(super) fn take_noted(&self) -> Vec<Noted> {
        let noted = std::mem::take(&mut lock(&self.state).noted);
        let last: HashMap<&Unit, usize> = noted.iter().map(|one| &one.unit).zip(0..).collect();
        let is_last = |place: &usize| last[&noted[*place].unit] == *place;
        (0..noted.len()).filter(is_last).map(|place| noted[place].clone()).collect()
    }
}

/// A result on its way into the store.
#[derive(Debug)]
pub(super) struct Storing(Arc<Session>);

impl Drop for Storing {
    fn drop(&mut self) {
        lock(&self.0.state).storing -= 1;
        self.0.changed.notify_all();
    }
}

fn is_held_up(stage: Stage, question: Option<Question>) -> bool {
    match stage {
        Stage::Seeding { asks_again } => !(asks_again && question == Some(Question::Properties)),
        Stage::Possible | Stage::Over => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use kache_cas::DigestFunction;

    /// Something that the system shows as `cargo build`, as long as nobody reads what it says.
    struct Cargo {
        _dir: tempfile::TempDir,
        process: Child,
    }

    impl Cargo {
        fn new() -> Cargo {
            let dir = tempfile::tempdir().unwrap();
            let cargo = dir.path().join("cargo");
            std::os::unix::fs::symlink("/usr/bin/yes", &cargo).unwrap();
            std::os::unix::fs::symlink("/dev/null", dir.path().join("Cargo.toml")).unwrap();
            let mut command = Command::new(&cargo);
            command.arg("build").current_dir(dir.path()).env("HOME", dir.path());
            let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            let cargo = Cargo { _dir: dir, process };
            // It has its name before it has its words.
            while cargo.seen().environment().is_none() {
                thread::yield_now();
            }
            cargo
        }

        fn seen(&self) -> Process {
            Process::cargo(i32::try_from(self.process.id()).unwrap()).unwrap()
        }

        /// A session that is being given something.
        fn begun(&self, asks_again: bool) -> Session {
            let session = Session::new(self.seen());
            assert!(session.hear(&version()), "it begins with the first question");
            session.expect_another(asks_again);
            session
        }
    }

    impl Drop for Cargo {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn call(words: &[&str]) -> Call {
        Call { argv: words.iter().map(OsString::from).collect(), ..Call::default() }
    }

    fn version() -> Call {
        call(&["rustc", "-vV"])
    }

    fn properties() -> Call {
        call(&["rustc", "-", "--crate-name", "___", "--print=sysroot"])
    }

    #[test]
    fn questions_are_known_by_their_words() {
        for (words, expected) in [
            (&["rustc", "-vV"][..], Some(Question::Version)),
            (&["/x/clippy-driver", "/x/rustc", "-vV"], Some(Question::Version)),
            (&["rustc", "-", "--crate-name", "___", "--print=cfg"], Some(Question::Properties)),
            (&["rustc", "-", "--crate-name", "probe"], None),
            (&["rustc", "-vV", "--target=x"], None),
            (&["rustc", "--crate-name", "___", "src/lib.rs"], None),
            (&["rustc"], None),
            (&[], None),
        ] {
            assert_eq!(Question::of(&call(words)), expected, "{words:?}");
        }
    }

    #[test]
    fn whatever_cargo_asks_on_waits_until_all_is_laid_down() {
        let cargo = Cargo::new();
        for (asks_again, question) in
            [(false, properties()), (true, version()), (true, call(&["rustc", "a.rs"]))]
        {
            let session = cargo.begun(asks_again);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let begins = session.hear(&question);
                    (begins, session.is_seeding())
                });
                thread::sleep(Duration::from_millis(50));
                assert!(!waiting.is_finished(), "{question:?}");
                session.end_seeding();
                assert_eq!(waiting.join().unwrap(), (false, false));
            });
        }
        let session = cargo.begun(true);
        assert!(!session.hear(&properties()), "another question will follow");
        assert!(session.is_seeding());
    }

    #[test]
    fn dmn_03_what_hangs_holds_a_cargo_up_for_a_moment() {
        let cargo = Cargo::new();
        let session = cargo.begun(false);
        let begun = Instant::now();
        assert!(!session.hear(&version()));
        assert!(begun.elapsed() >= HELD_UP_MAX && !session.is_seeding());
    }

    #[test]
    fn a_cargo_is_not_over_while_something_is_stored_for_it() {
        let mut cargo = Cargo::new();
        let session = Arc::new(Session::new(cargo.seen()));
        let sessions = Sessions::default();
        lock(&sessions.by_pid).insert(session.pid(), Arc::clone(&session));
        let harvested = || {
            let mut count = 0;
            sessions.harvest(|_| count += 1);
            count
        };
        assert_eq!((harvested(), sessions.ending().len()), (0, 0), "it runs");
        let storing = session.begin_storing();
        cargo.process.kill().unwrap();
        cargo.process.wait().unwrap();
        assert_eq!((harvested(), sessions.ending().len()), (0, 1));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| session.wait_until_stored(Instant::now() + HELD_UP_MAX));
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(storing);
        });
        lock(&session.state).programs.push(Digest::of(DigestFunction::Blake3, b"a program"));
        assert_eq!((harvested(), harvested()), (1, 0), "once");
        assert_eq!((sessions.take_programs().len(), sessions.take_programs().len()), (1, 0));
    }

    #[test]
    fn whoever_comes_while_a_harvest_is_under_way_waits_for_it() {
        let mut cargo = Cargo::new();
        let session = Arc::new(Session::new(cargo.seen()));
        cargo.process.kill().unwrap();
        cargo.process.wait().unwrap();
        let sessions = Sessions::default();
        lock(&sessions.by_pid).insert(session.pid(), session);
        let kept = std::sync::atomic::AtomicBool::new(false);
        let (begins, has_begun) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                sessions.harvest(|_| {
                    begins.send(()).unwrap();
                    thread::sleep(Duration::from_millis(50));
                    kept.store(true, std::sync::atomic::Ordering::Relaxed);
                });
            });
            has_begun.recv().unwrap();
            sessions.harvest(|_| panic!("there was one"));
            assert!(kept.load(std::sync::atomic::Ordering::Relaxed));
        });
    }

    #[test]
    fn a_cargo_that_begins_with_a_compile_is_given_nothing() {
        let cargo = Cargo::new();
        let session = Session::new(cargo.seen());
        assert!(!session.hear(&call(&["rustc", "a.rs"])));
        assert!(!session.hear(&version()), "it has looked already");
    }
}
