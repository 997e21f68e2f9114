//! A daemon that is stopped at any moment, as a suspended container is, and continues later.
//!
//! Cargo ends within the documented time, whatever the daemon was doing. A daemon that continues later changes
//! nothing in a checkout that was built without it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kache_cas::Hash;
use nix::sys::signal::{Signal, kill};

use crate::home::{Home, eventually};
use crate::observed::Asking;
use crate::project::{self, PRINTS};
use crate::seeding;
use crate::tree::Tree;

/// The longest time for which a build waits for kache.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// How much slower a compile may be on a machine that does other work.
const SLOWER_MAX: u32 = 4;

/// The approximate duration of seeding.
const SEEDING: Duration = Duration::from_millis(25);

/// How long the daemon waits for the message of a guard, as in `daemon/calls.rs`.
const GUARDED_MAX: Duration = Duration::from_millis(500);

/// Cargo's lock, which is held while units are seeded.
const LOCK: &str = "target/debug/.cargo-lock";

/// Pseudo-random moments, the same in each run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, max: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let millis = u64::try_from(max.as_millis()).unwrap().max(1);
        Duration::from_millis((self.0 >> 33) % millis)
    }
}

/// A project, how it is built, and what its program prints.
struct StalledBuild {
    make: fn(&Home, &str) -> Tree,
    program: &'static str,
    prints: &'static str,
    seeds: &'static str,
}

const SEEDED: StalledBuild = StalledBuild {
    make: seeding::garden,
    program: "target/debug/garden",
    prints: seeding::PRINTS,
    seeds: "1",
};

const CALLED: StalledBuild =
    StalledBuild { make: project::mini, program: "target/debug/app", prints: PRINTS, seeds: "0" };

impl StalledBuild {
    fn build(&self, home: &Home, tree: &Tree) -> Duration {
        let begun = Instant::now();
        home.cargo(tree, &["build"]).env("KACHE_SEED", self.seeds).ok_unwatched();
        assert_eq!(tree.prints(self.program), self.prints);
        begun.elapsed()
    }
}

/// The inode and content of each file in a target directory, which a late change would show. Dates are left out,
/// because the store may link files when it stores results later.
fn seen(tree: &Tree) -> BTreeMap<String, (u64, Hash)> {
    let files = tree.files("target").into_iter();
    files.map(|(name, stamp)| (name, (stamp.ino, stamp.content))).collect()
}

fn assert_nothing_is_left(tree: &Tree) {
    let mut left = vec![tree.path().to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.to_str().unwrap().contains(".kache-"), "{} is left", path.display());
            if path.is_dir() {
                left.push(path);
            }
        }
    }
}

/// Waits until the daemon is idle.
fn until_idle(home: &Home) {
    home.until_idle();
    home.new_calls();
}

/// When the daemon is stopped, and for how long.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// Whether the time counts from the moment at which seeding begins, and not from cargo's start.
    is_while_seeding: bool,
    after: Duration,
    /// `None` if the daemon continues only after cargo has ended.
    lasts: Option<Duration>,
}

/// Stops the daemon at moments of a build whose results are all in the store, and continues it while cargo runs or
/// after cargo has ended.
fn stop_at_moments(kind: &StalledBuild, rounds: u64) {
    let mut moments = Moments(9);
    stop_in_rounds(kind, rounds, |round, warm| {
        // Mostly while units are seeded, which takes some milliseconds.
        let is_while_seeding = kind.seeds == "1" && round % 3 != 2;
        let after = moments.next(if is_while_seeding { SEEDING } else { warm });
        let lasts = moments.next(WAIT_MAX);
        Stop { is_while_seeding, after, lasts: (round % 2 == 1).then_some(lasts) }
    });
}

/// Stops the daemon once in each round, as `stop_of` says, which gets the number of the round and the time of a
/// build with only hits.
fn stop_in_rounds(kind: &StalledBuild, rounds: u64, mut stop_of: impl FnMut(u64, Duration) -> Stop) {
    let home = Home::new();
    kind.build(&home, &(kind.make)(&home, "first"));
    until_idle(&home);
    let warm = kind.build(&home, &(kind.make)(&home, "warm"));
    let plain = (kind.make)(&home, "plain");
    let begun = Instant::now();
    home.plain_cargo(&plain, &["build"]).ok_unwatched();
    let allowed = begun.elapsed() * SLOWER_MAX + WAIT_MAX;
    for round in 0..rounds {
        until_idle(&home);
        // Each round's build waits for the daemon as if for the first time.
        home.forget_silence();
        let tree = (kind.make)(&home, &format!("round{round}"));
        let pid = home.daemon_pid().unwrap();
        let stop = stop_of(round, warm);
        let what = format!("round {round}: {stop:?}");
        let begun = Instant::now();
        let mut cargo = home.cargo(&tree, &["build"]).env("KACHE_SEED", kind.seeds).spawn();
        if stop.is_while_seeding {
            // The guard makes the directory first. There is no pause, because the first steps of seeding take less
            // than a millisecond.
            while !tree.join("target").exists() && cargo.try_wait().unwrap().is_none() {}
        }
        std::thread::sleep(stop.after);
        kill(pid, Signal::SIGSTOP).unwrap();
        if let Some(lasts) = stop.lasts {
            std::thread::sleep(lasts);
            kill(pid, Signal::SIGCONT).unwrap();
        }
        while cargo.try_wait().unwrap().is_none() {
            if begun.elapsed() > allowed {
                let _ = kill(pid, Signal::SIGCONT);
                panic!("{what}: cargo took more than {allowed:?}: {:?}", cargo.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = cargo.wait_with_output().unwrap();
        assert!(output.status.success(), "{what}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("Blocking"), "{what}: {said}");
        assert_eq!(tree.prints(kind.program), kind.prints, "{what}");
        eventually("the guard's end", || guards(&tree) == 0);
        assert_nothing_is_left(&tree);
        let before = seen(&tree);
        let _ = kill(pid, Signal::SIGCONT);
        until_idle(&home);
        let after = seen(&tree);
        assert_eq!(before, after, "{what}");
        assert_nothing_is_left(&tree);
        home.cargo(&tree, &["build"]).env("KACHE_SEED", kind.seeds).ok().expect_silent();
    }
}

/// The number of processes that have the lock of this target directory open.
fn guards(tree: &Tree) -> usize {
    let lock = tree.join(LOCK);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let holds = |process: &std::fs::DirEntry| {
        let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == lock))
    };
    processes.filter(holds).count()
}

#[test]
fn dmn_03_builds_are_right_if_the_daemon_is_stopped_while_it_seeds() {
    stop_at_moments(&SEEDED, 9);
}

/// Stops the daemon just when its guard takes cargo's locks, until the daemon waits no longer for the guard's message.
/// Cargo must not ask for the locks before the guard has released them.
#[test]
fn dmn_03_cargo_waits_for_no_lock_if_the_guards_message_is_late() {
    let stop = Stop { is_while_seeding: true, after: Duration::ZERO, lasts: Some(2 * GUARDED_MAX) };
    stop_in_rounds(&SEEDED, 6, |_, _| stop);
}

#[test]
fn dmn_03_builds_are_right_if_the_daemon_is_stopped_while_it_serves_calls() {
    stop_at_moments(&CALLED, 6);
}

/// Stops the daemon while a compiler runs, until its client has continued alone. When the daemon continues, it
/// changes nothing beside the outputs: the dep-info is as the compiler wrote it, and the incremental state, which a
/// compiler may be using by then, still exists.
#[test]
fn dmn_03_a_daemon_that_continues_late_changes_nothing_beside_the_outputs() {
    const SIGNS: &str = "let [begun, go] = [\"begun\", \"go\"].map(|name| env::temp_dir().join(name)); \
        fs::write(begun, \"\").unwrap(); \
        while !go.exists() { std::thread::sleep(std::time::Duration::from_millis(5)) } String::new()";
    let home = Home::without_daemon();
    let signs = home.tree("signs");
    let home = home.with("TMPDIR", signs.text());
    home.start();
    let asking = Asking::new(&home, "a", SIGNS);
    let tree = &asking.tree;
    tree.write("kache.toml", "extra_inputs = [\"declared.txt\"]\n").write("declared.txt", "");
    let state = "target/debug/incremental/prog-1/s-1/x";
    tree.write(state, "");
    let mut cargo = home.cargo(tree, &["build"]).env("CARGO_INCREMENTAL", "1").spawn();
    eventually("the macro", || signs.join("begun").exists() || cargo.try_wait().unwrap().is_some());
    let pid = home.daemon_pid().unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    signs.write("go", "");
    let ended = cargo.wait();
    let before = seen(tree);
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(ended.unwrap().success());
    until_idle(&home);
    assert_eq!(seen(tree), before);
    assert!(tree.join(state).exists());
    assert_nothing_is_left(tree);
    // A daemon that responds in time does both. The build before has waited for it in vain.
    home.forget_silence();
    tree.edit("pm/src/lib.rs", "String::new()", "String::from(\"2\")");
    home.cargo(tree, &["build"]).env("CARGO_INCREMENTAL", "1").env("KACHE_INCREMENTAL_EDITS", "0").ok();
    let dep_infos = tree.files("target/debug/deps");
    let dep_info = dep_infos.keys().find(|name| name.starts_with("prog-") && name.ends_with(".d")).unwrap();
    assert!(tree.read(&format!("target/debug/deps/{dep_info}")).contains("declared.txt"));
    assert!(!tree.join(state).exists());
}
