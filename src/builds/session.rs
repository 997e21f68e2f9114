//! A build session: one cargo that calls kache, with what it builds and what was made for it.
//!
//! Seeding may begin when a cargo asks for the compiler's version. Until seeding is over, the later
//! calls of that cargo wait, because cargo looks at the target directory as soon as it has its
//! answers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, DigestFunction, Hash};
use parking_lot::{Condvar, Mutex};

use super::cargo_question::CargoQuestion;
use crate::action::{Origin, OutputKind, Task};
use crate::cargo::{CargoProcess, CargoUnit};
use crate::compile::KnownFile;
use crate::compiler::CallKind;
use crate::config::CompileSettings;
use crate::invocation::Call;
use crate::pipeline::{KeyedCall, Prepared};
use crate::remote::RemoteSession;
use crate::remote::builds::UsedResults;
use crate::roles::Role;
use crate::seeds::BuildRequest;

/// How long a call waits for seeding at most. The daemon ends seeding after [`SEEDING_MAX`](super::SEEDING_MAX); this
/// limit is for a daemon whose threads hang. It is less than the time in which a call has to be
/// answered.
const SEEDING_WAIT_MAX: Duration = Duration::from_millis(2_600);

/// How many units and how many programs are remembered for one session.
const UNITS_MAX: usize = 10_000;

/// The variable that cargo sets for a package with a build script, for all of its units but the
/// build script.
const OUT_DIR: &str = "OUT_DIR";

/// A build session: one cargo process with all of its calls.
#[derive(Debug)]
pub struct Session {
    process: CargoProcess,
    /// The build that cargo was started for; `None` if it cannot be determined. Then the session is
    /// never seeded.
    request: Option<BuildRequest>,
    remotes: Arc<RemoteSession>,
    state: Mutex<SessionState>,
    /// Signalled when seeding changes its stage and when a result was stored.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SessionState {
    stage: SeedingStage,
    has_asked_properties: bool,
    /// Whether cargo asked for the version after it had asked for properties.
    asks_version_again: bool,
    /// The target directories whose shared files were checked for this session.
    checked: Vec<PathBuf>,
    /// Whether the target directory that the session compiles for is among them.
    is_target_checked: bool,
    /// How many results are being stored.
    storing: usize,
    candidates: Vec<SeedCandidate>,
    programs: Vec<Digest>,
    /// The results that the session has used, by their units.
    used: UsedResults,
    /// The settings of the last call that has remotes.
    settings: Option<Arc<CompileSettings>>,
}

/// Whether a session may be seeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SeedingStage {
    /// Cargo has not called yet. Its first call decides.
    #[default]
    NotBegun,
    /// Units are being restored, and calls of the session wait. If cargo will ask for the version
    /// once more, its question for properties need not wait: the question after it will.
    Running { asks_version_again: bool },
    /// Cargo looks at the target directory now, so nothing is seeded any more.
    Over,
}

/// A unit that was made for a session and may become a seed for others.
#[derive(Clone, Debug)]
pub(super) struct SeedCandidate {
    /// The call that made the unit.
    pub(super) call: Arc<Call>,
    /// When kache received that call.
    pub(super) called: SystemTime,
    /// The action of the unit.
    pub(super) action: Hash,
    /// The unit's place in the target directory.
    pub(super) unit: CargoUnit,
    /// The hashes in the names of the units that it depends on.
    pub(super) depends_on: Vec<String>,
    /// The target directory in which the unit was made.
    pub(super) target_dir: PathBuf,
}

impl Session {
    /// Creates the session of a cargo, and reads from the process what it builds.
    pub(super) fn new(process: CargoProcess) -> Session {
        let request = BuildRequest::of(&process);
        let remotes = Arc::default();
        Session { process, request, remotes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether cargo still runs or results of its calls are still being stored.
    pub fn is_under_way(&self) -> bool {
        self.is_storing() || self.process.is_running()
    }

    /// Whether cargo has exited while results of its calls are still being stored.
    pub(super) fn is_ending(&self) -> bool {
        self.is_storing() && !self.process.is_running()
    }

    fn is_storing(&self) -> bool {
        self.state.lock().storing > 0
    }

    /// Keeps the session under way until the returned value is dropped.
    pub(super) fn begin_storing(self: &Arc<Self>) -> StoringGuard {
        self.state.lock().storing += 1;
        StoringGuard(Arc::clone(self))
    }

    /// Waits until all results of the session are stored, or until the deadline.
    pub(super) fn wait_until_stored(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.changed.wait_while_for(&mut self.state.lock(), |state| state.storing > 0, left);
    }

    /// The session as remotes see it.
    pub(super) fn remote_session(&self) -> Arc<RemoteSession> {
        Arc::clone(&self.remotes)
    }

    /// The process id of cargo.
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The build that cargo was started for; `None` if it cannot be determined.
    pub(super) fn request(&self) -> Option<&BuildRequest> {
        self.request.as_ref()
    }

    /// The name of the seed set that this session reads and adds to.
    pub(super) fn seed_set_name(&self, function: DigestFunction) -> Option<Digest<ActionMessage>> {
        self.request()?.key(function)
    }

    /// Whether cargo asked for the version again after it had asked for properties.
    pub(super) fn asks_version_again(&self) -> bool {
        self.state.lock().asks_version_again
    }

    /// Notes a call of this session, and returns whether seeding begins with it. That is so for the
    /// first call, if it asks for the version. Waits while seeding runs; after
    /// [`SEEDING_WAIT_MAX`], ends it.
    pub(super) fn note_call(&self, call: &Call) -> bool {
        let question = CargoQuestion::of(call);
        let mut state = self.state.lock();
        match question {
            Some(CargoQuestion::Version) => {
                state.asks_version_again |= state.has_asked_properties;
            }
            Some(CargoQuestion::Properties) => state.has_asked_properties = true,
            None => {}
        }
        if state.stage == SeedingStage::NotBegun {
            let begins = question == Some(CargoQuestion::Version) && self.request.is_some();
            state.stage = match begins {
                true => SeedingStage::Running { asks_version_again: false },
                false => SeedingStage::Over,
            };
            return begins;
        }
        let deadline = Instant::now() + SEEDING_WAIT_MAX;
        while has_to_wait(state.stage, question) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.end_seeding();
                return false;
            }
            self.changed.wait_for(&mut state, left);
        }
        false
    }

    /// Notes whether cargo will ask for the version again after it has asked for properties. If so, its
    /// question for properties does not wait for seeding.
    pub(super) fn expect_version_again(&self, is_expected: bool) {
        if let SeedingStage::Running { asks_version_again } = &mut self.state.lock().stage {
            *asks_version_again = is_expected;
        }
        self.changed.notify_all();
    }

    /// Whether the shared files of the target directory that the session compiles for were checked.
    pub(super) fn is_target_checked(&self) -> bool {
        self.state.lock().is_target_checked
    }

    /// Whether the shared files of this target directory were checked for the session.
    pub(super) fn has_checked(&self, target_dir: &Path) -> bool {
        self.state.lock().checked.iter().any(|checked| checked == target_dir)
    }

    /// Notes that all shared files of this target directory were checked. `is_guess` says that the
    /// directory follows from cargo's command line and not from a compile.
    pub(super) fn note_checked(&self, target_dir: &Path, is_guess: bool) {
        let mut state = self.state.lock();
        state.is_target_checked |= !is_guess;
        if !state.checked.iter().any(|checked| checked == target_dir) {
            state.checked.push(target_dir.to_owned());
        }
    }

    #[cfg(test)]
    fn is_seeding(&self) -> bool {
        matches!(self.state.lock().stage, SeedingStage::Running { .. })
    }

    /// Ends seeding, and lets the waiting calls of the session go on.
    pub(super) fn end_seeding(&self) {
        let mut state = self.state.lock();
        state.stage = SeedingStage::Over;
        self.changed.notify_all();
    }

    /// Remembers a unit that was made for this session, if it may become a seed. That holds for units
    /// of packages that cargo takes for immutable and that have no build script: those units follow
    /// from their inputs alone.
    pub(super) fn note_unit(&self, keyed: &KeyedCall, action: Hash) {
        let KeyedCall { call, prepared, .. } = keyed;
        let Prepared { compiler, task, .. } = &**prepared;
        let facts = compiler.facts();
        if self.request.is_none()
            || facts.kind.is_probe()
            || task.origin != Origin::Immutable
            || call.env.get(OUT_DIR).is_some()
        {
            return;
        }
        let candidate = || {
            let target_dir = task.roots.dir(Role::Target)?;
            // The place of the unit follows from the names that cargo gave it: package, output directory
            // and the hash in the file names.
            let package = call.env.get("CARGO_PKG_NAME")?.to_str()?;
            let out_dir = call.cwd.join(facts.out_dir?);
            let unit = CargoUnit::of(target_dir, &out_dir, package, facts.name_suffix)?;
            let depends_on =
                task.depends_on.iter().map(|path| CargoUnit::hash_of(path)).collect::<Option<_>>()?;
            Some(SeedCandidate {
                call: Arc::clone(call),
                // The time tells later whether cargo's fingerprint belongs to this call.
                called: keyed.received_at()?,
                action,
                unit,
                depends_on,
                target_dir: target_dir.to_owned(),
            })
        };
        if let Some(candidate) = candidate() {
            let mut state = self.state.lock();
            if state.candidates.len() < UNITS_MAX {
                state.candidates.push(candidate);
            }
        }
    }

    /// Remembers the result of a compile that this session has used, for the list of the workspace's builds. It
    /// is kept only where remotes are configured.
    pub(super) fn note_used(&self, keyed: &KeyedCall, action: Hash) {
        let KeyedCall { settings, prepared, .. } = keyed;
        let facts = prepared.compiler.facts();
        if self.request.is_none() || settings.remotes.is_empty() || facts.kind != CallKind::Compile {
            return;
        }
        let mut state = self.state.lock();
        state.settings = Some(Arc::clone(settings));
        if state.used.len() < UNITS_MAX {
            state.used.insert(format!("{}{}", facts.name, facts.name_suffix), action);
        }
    }

    /// Returns the results that were used since the last call of this function, with the settings of the last call;
    /// `None` if there are none.
    pub(super) fn take_used(&self) -> Option<(UsedResults, Arc<CompileSettings>)> {
        let mut state = self.state.lock();
        let settings = state.settings.take()?;
        Some((std::mem::take(&mut state.used), settings))
    }

    /// Remembers which programs were restored or stored for this session. Cargo makes a hard link to
    /// each program. That moves the change time of the inode, which the program shares with the store,
    /// so the store will have to hash it again.
    pub(super) fn note_programs(&self, task: &Task, outputs: &[KnownFile]) {
        let is_program = |path: &Path| {
            let mut programs = task.outputs.iter().filter(|output| output.kind == OutputKind::Executable);
            programs.any(|output| output.path == path)
        };
        let programs = outputs.iter().filter(|output| is_program(&output.path));
        let mut state = self.state.lock();
        let room = UNITS_MAX.saturating_sub(state.programs.len());
        state.programs.extend(programs.map(|output| output.digest).take(room));
    }

    /// Returns the programs that were restored or stored since the last call of this function.
    pub(super) fn take_programs(&self) -> Vec<Digest> {
        std::mem::take(&mut self.state.lock().programs)
    }

    /// Returns the units that may become seeds, in the order in which they were made. Of a unit that
    /// was made more than once, only the last candidate is returned.
    pub(super) fn take_candidates(&self) -> Vec<SeedCandidate> {
        let candidates = std::mem::take(&mut self.state.lock().candidates);
        let last: HashMap<&CargoUnit, usize> =
            candidates.iter().map(|candidate| &candidate.unit).zip(0..).collect();
        let is_last = |index: &usize| last[&candidates[*index].unit] == *index;
        (0..candidates.len()).filter(is_last).map(|index| candidates[index].clone()).collect()
    }
}

/// Counts as one result that is being stored, until it is dropped.
#[derive(Debug)]
pub(super) struct StoringGuard(Arc<Session>);

impl Drop for StoringGuard {
    fn drop(&mut self) {
        self.0.state.lock().storing -= 1;
        self.0.changed.notify_all();
    }
}

/// Whether a call waits while seeding is in this stage.
fn has_to_wait(stage: SeedingStage, question: Option<CargoQuestion>) -> bool {
    match stage {
        SeedingStage::Running { asks_version_again } => {
            !(asks_version_again && question == Some(CargoQuestion::Properties))
        }
        SeedingStage::NotBegun | SeedingStage::Over => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builds::sessions::Sessions;
    use std::ffi::OsString;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    /// A process that the system shows as `cargo build`. It blocks, because its output is not read.
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
            // The system shows the process's name before it shows its arguments.
            while cargo.process().environment().is_none() {
                thread::yield_now();
            }
            cargo
        }

        fn process(&self) -> CargoProcess {
            CargoProcess::cargo(i32::try_from(self.process.id()).unwrap()).unwrap()
        }

        /// A session that is being seeded.
        fn seeding_session(&self, asks_version_again: bool) -> Session {
            let session = Session::new(self.process());
            assert!(session.note_call(&version()), "seeding begins with the first question");
            session.expect_version_again(asks_version_again);
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
    fn calls_of_a_cargo_wait_until_seeding_is_over() {
        let cargo = Cargo::new();
        for (asks_version_again, question) in
            [(false, properties()), (true, version()), (true, call(&["rustc", "a.rs"]))]
        {
            let session = cargo.seeding_session(asks_version_again);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let begins = session.note_call(&question);
                    (begins, session.is_seeding())
                });
                thread::sleep(Duration::from_millis(50));
                assert!(!waiting.is_finished(), "{question:?}");
                session.end_seeding();
                assert_eq!(waiting.join().unwrap(), (false, false));
            });
        }
        let session = cargo.seeding_session(true);
        assert!(!session.note_call(&properties()), "cargo will ask for the version again");
        assert!(session.is_seeding());
    }

    #[test]
    fn dmn_03_seeding_that_hangs_delays_a_cargo_for_a_limited_time() {
        let cargo = Cargo::new();
        let session = cargo.seeding_session(false);
        let begun = Instant::now();
        assert!(!session.note_call(&version()));
        assert!(begun.elapsed() >= SEEDING_WAIT_MAX && !session.is_seeding());
    }

    #[test]
    fn a_session_does_not_end_while_a_result_is_being_stored() {
        let mut cargo = Cargo::new();
        let session = Arc::new(Session::new(cargo.process()));
        let sessions = Sessions::default();
        sessions.insert(session.pid(), Arc::clone(&session));
        let count_ended = || {
            let mut count = 0;
            sessions.take_ended(|_| count += 1);
            count
        };
        assert_eq!((count_ended(), sessions.ending().len()), (0, 0), "cargo runs");
        let storing = session.begin_storing();
        cargo.process.kill().unwrap();
        cargo.process.wait().unwrap();
        assert_eq!((count_ended(), sessions.ending().len()), (0, 1));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| session.wait_until_stored(Instant::now() + SEEDING_WAIT_MAX));
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(storing);
        });
        session.state.lock().programs.push(Digest::of(DigestFunction::Blake3, b"a program"));
        assert_eq!((count_ended(), count_ended()), (1, 0), "each session ends once");
        assert_eq!((sessions.take_programs().len(), sessions.take_programs().len()), (1, 0));
    }

    #[test]
    fn a_second_thread_waits_until_the_records_of_ended_sessions_are_kept() {
        let mut cargo = Cargo::new();
        let session = Arc::new(Session::new(cargo.process()));
        cargo.process.kill().unwrap();
        cargo.process.wait().unwrap();
        let sessions = Sessions::default();
        sessions.insert(session.pid(), session);
        let kept = std::sync::atomic::AtomicBool::new(false);
        let (begins, has_begun) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                sessions.take_ended(|_| {
                    begins.send(()).unwrap();
                    thread::sleep(Duration::from_millis(50));
                    kept.store(true, std::sync::atomic::Ordering::Relaxed);
                });
            });
            has_begun.recv().unwrap();
            sessions.take_ended(|_| panic!("only one session has ended"));
            assert!(kept.load(std::sync::atomic::Ordering::Relaxed));
        });
    }

    #[test]
    fn a_cargo_that_begins_with_a_compile_is_not_seeded() {
        let cargo = Cargo::new();
        let session = Session::new(cargo.process());
        assert!(!session.note_call(&call(&["rustc", "a.rs"])));
        assert!(!session.note_call(&version()), "cargo has looked at the target directory already");
    }
}
