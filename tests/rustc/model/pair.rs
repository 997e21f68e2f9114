//! A worktree that is built through kache, and its twin with the same sources that is not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};

use super::files::WORKSPACE;
use super::meddling::SharedLibraries;
use super::order::{Call, Order, Stop};
use super::sources::Sources;
use crate::home::Home;
use crate::step::{Built, Step};
use crate::tree::Tree;

/// Where a worktree may lie, each at another depth.
pub(super) const PLACES: &[&str] = &["here", "deeper/down/there", "a place with a longer name"];

/// No build takes so long, whatever is wrong with the daemon. Of kache's part, a call waits
/// four seconds at most; the rest is a slow machine.
const BUILD_MAX: Duration = Duration::from_secs(40);

/// Both worktrees, and the sources that are in them.
pub(super) struct Pair {
    name: &'static str,
    base: PathBuf,
    pub(super) with: Tree,
    pub(super) without: Tree,
    sources: Sources,
}

impl Pair {
    /// Below a directory that other pairs may use too.
    pub(super) fn new(base: &Path, name: &'static str, sources: Sources) -> Pair {
        let [with, without] = tops(base, name, 0).map(|top| Tree::new(top.join(WORKSPACE)));
        let pair = Pair { name, base: base.to_owned(), with, without, sources };
        pair.write();
        pair
    }

    pub(super) fn both(&self) -> [&Tree; 2] {
        [&self.with, &self.without]
    }

    pub(super) fn set(&mut self, sources: &Sources) {
        self.sources = sources.clone();
        self.write();
    }

    fn write(&self) {
        let files = self.sources.files();
        self.both().iter().for_each(|tree| files.write(top(tree)));
    }

    /// Removes the files in the twin that the daemon has removed because their bytes were lost, so that cargo makes
    /// the same crates again in both.
    pub(super) fn lose_too(&self, libraries: &SharedLibraries) {
        for path in libraries.removed() {
            let _ = fs::remove_file(self.without.path().join(path.strip_prefix(self.with.path()).unwrap()));
        }
    }

    /// Gives a source another date.
    pub(super) fn touch(&self, path: &str) {
        for path in self.both().map(|tree| top(tree).join(path)) {
            fs::File::open(path).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }

    pub(super) fn empty_target(&self) {
        for tree in self.both().into_iter().filter(|tree| tree.join("target").exists()) {
            tree.remove("target");
        }
    }

    /// Moves both to another place, with what was built there.
    pub(super) fn relocate(&mut self, place: usize) {
        let [with, without] = tops(&self.base, self.name, place);
        for (tree, new) in [(&mut self.with, with), (&mut self.without, without)] {
            if top(tree) != new {
                fs::create_dir_all(new.parent().unwrap()).unwrap();
                fs::rename(top(tree), &new).unwrap();
                *tree = Tree::new(new.join(WORKSPACE));
            }
        }
    }

    /// Calls cargo in both, and compares all that can be seen of it. How many compiles were
    /// hits, and how many were not.
    pub(super) fn build(&self, home: &Home, call: &Call, compilers: &[PathBuf]) -> [usize; 2] {
        let [mut with, mut without] = self.build_both(home, call, compilers);
        let mut have_compiled = [&with, &without].map(compiled);
        if matches!((&call.order, with.code), (Order::Test, Some(1..))) {
            // `cargo test` ends at the first compile that fails, so it is chance what was compiled before.
            // Another call of cargo compiles the rest, so that both have compiled the same.
            let rest = Call { order: Order::BuildTests, stop: None, ..call.clone() };
            [with, without] = self.build_both(home, &rest, compilers);
            have_compiled[0].extend(compiled(&with));
            have_compiled[1].extend(compiled(&without));
        }
        self.compare(&with, &without, &have_compiled);
        let count = |is_hit: bool| with.calls.compiles().filter(|call| call.is_hit() == is_hit).count();
        let counts = [count(true), count(false)];
        if with.code != Some(0) {
            return counts;
        }
        if let Some(program) = call.order.program() {
            let prints = self.both().map(|tree| tree.prints(program));
            assert!(prints[0] == prints[1], "{}\n{with:#?}", differences(&prints[0], &prints[1]));
        }
        self.step(home, call, compilers, true).run().expect_silent();
        counts
    }

    /// Calls cargo in both.
    fn build_both(&self, home: &Home, call: &Call, compilers: &[PathBuf]) -> [Built; 2] {
        let with = match call.stop {
            None => self.step(home, call, compilers, true).run(),
            Some(stop) => run_with_stop(home, self.step(home, call, compilers, true), stop),
        };
        let without = self.step(home, call, compilers, false).run_unwatched();
        assert_eq!(with.code, without.code, "{with:#?}\n{without:#?}");
        [with, without]
    }

    /// Cargo in one of the two.
    fn step<'h>(&self, home: &'h Home, call: &Call, compilers: &[PathBuf], is_with: bool) -> Step<'h> {
        let tree = if is_with { &self.with } else { &self.without };
        let manifest = tree.join("Cargo.toml");
        let elsewhere = home.tree("elsewhere");
        let mut arguments = call.order.arguments();
        if call.is_from_elsewhere {
            arguments.splice(1..1, ["--manifest-path", manifest.to_str().unwrap()]);
        }
        let place = if call.is_from_elsewhere { &elsewhere } else { tree };
        let step = match is_with {
            true => home.cargo(place, &arguments),
            false => home.plain_cargo(place, &arguments),
        };
        let compiler = compilers[self.sources.compiler].to_str().unwrap();
        let variables = self.sources.variables().into_iter();
        variables.fold(step.env("RUSTC", compiler), |step, (name, value)| step.env(name, value))
    }

    /// Both said the same, and with kache nothing was compiled that needed no compiling.
    fn compare(&self, with: &Built, without: &Built, [with_kache, without_kache]: &[BTreeSet<String>; 2]) {
        let said = |built: &Built, tree: &Tree| {
            format!("{}\n{}", lines(&built.stderr, tree), lines(&built.stdout, tree))
        };
        let said = [said(with, &self.with), said(without, &self.without)];
        assert!(said[0] == said[1], "{}\n{with:#?}", differences(&said[0], &said[1]));
        let needless: Vec<_> = with_kache.difference(without_kache).collect();
        assert!(needless.is_empty(), "plain cargo did not compile {needless:?}: {with:#?}\n{without:#?}");
        let elsewhere = fs::read_dir(self.base.join("elsewhere")).into_iter().flatten().count();
        assert_eq!(elsewhere, 0, "something was left where cargo was called");
    }
}

/// The directories that belong to a pair at one of the places: with kache, and without.
fn tops(base: &Path, name: &str, place: usize) -> [PathBuf; 2] {
    ["with", "without"].map(|which| base.join(which).join(PLACES[place]).join(name))
}

/// The directory that belongs to a worktree, which holds the repository.
fn top(tree: &Tree) -> &Path {
    tree.path().ancestors().nth(WORKSPACE.split('/').count()).unwrap()
}

/// Runs cargo while the daemon is stopped for some time.
fn run_with_stop(home: &Home, step: Step<'_>, stop: Stop) -> Built {
    let Some(daemon) = home.daemon_pid() else { return step.run() };
    let begin = Instant::now();
    let built = std::thread::scope(|scope| {
        let (ended, has_ended) = mpsc::sync_channel::<()>(0);
        scope.spawn(move || {
            if has_ended.recv_timeout(stop.after).is_err() {
                let _ = kill(daemon, Signal::SIGSTOP);
                // Returns at once when cargo has ended.
                let _ = has_ended.recv_timeout(stop.length.unwrap_or(BUILD_MAX));
                let _ = kill(daemon, Signal::SIGCONT);
            }
        });
        let built = step.run_unwatched();
        drop(ended);
        built
    });
    assert!(begin.elapsed() < BUILD_MAX, "a stopped daemon stops the build: {built:#?}");
    // The daemon answers calls whose clients have not waited for it, and records them, only now.
    home.until_idle();
    home.skip_calls();
    built
}

/// Lines of cargo's that are different from run to run, or follow from what was cached.
const OF_CARGO: &[&str] = &[
    "Compiling",
    "Checking",
    "Finished",
    "Fresh",
    "Dirty",
    "Running",
    "Blocking",
    "Locking",
    "Adding",
    "Unpacking",
];

/// What was said, without what is different from run to run, in an order of its own: crates
/// that are compiled at once speak as they come.
fn lines(text: &str, tree: &Tree) -> String {
    let first = |line: &str| line.trim_start().split(' ').next().unwrap_or_default().to_owned();
    let kept = text.lines().filter(|line| !OF_CARGO.contains(&&*first(line)));
    let kept = kept.filter(|line| !line.starts_with("test result: "));
    // Of several crates that fail, the last one is named otherwise.
    let kept = kept.filter(|line| !line.contains("build failed, waiting for other jobs"));
    let mut lines: Vec<_> = kept.map(|line| line.replace(tree.text(), "<workspace>")).collect();
    lines.sort();
    lines.join("\n")
}

/// The crates that cargo says it compiles.
fn compiled(built: &Built) -> BTreeSet<String> {
    let words = built.stderr.lines().map(|line| line.trim_start().split(' ').collect::<Vec<_>>());
    let compiling = words.filter(|words| matches!(words[..], ["Compiling" | "Checking", _, ..]));
    compiling.map(|words| words[1].to_owned()).collect()
}

/// The lines that only one of the two has.
fn differences(with: &str, without: &str) -> String {
    let [with, without] = [with, without].map(|text| text.lines().collect::<BTreeSet<_>>());
    let show = |who: &str, lines: Vec<&&str>| {
        lines.into_iter().map(|line| format!("{who}: {line}\n")).collect::<String>()
    };
    show("only with kache", with.difference(&without).collect())
        + &show("only without", without.difference(&with).collect())
}
