//! A worktree that is built through kache, and its twin with the same sources that is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::sources::Sources;
use crate::home::Home;
use crate::step::{Built, Step};
use crate::tree::Tree;

/// What is asked of cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Build,
    BuildOne(String),
    Check,
    Release,
    Test,
}

impl Order {
    fn arguments(&self) -> Vec<&str> {
        match self {
            Order::Build => vec!["build", "--workspace", KEEP_GOING],
            Order::BuildOne(package) => vec!["build", "-p", package, KEEP_GOING],
            Order::Check => vec!["check", "--workspace", "--all-targets", KEEP_GOING],
            Order::Release => vec!["build", "--release", KEEP_GOING],
            Order::Test => vec!["test", "--workspace", "--bins", "--tests", "--", "--nocapture"],
        }
    }

    /// The program that it makes.
    fn program(&self) -> Option<&str> {
        match self {
            Order::Build => Some("target/debug/app"),
            Order::Release => Some("target/release/app"),
            Order::BuildOne(_) | Order::Check | Order::Test => None,
        }
    }
}

/// Else it is chance which crates are still compiled when one has failed.
const KEEP_GOING: &str = "--keep-going";

/// Both worktrees, and the sources that are in them.
pub(super) struct Pair {
    pub(super) with: Tree,
    pub(super) without: Tree,
    pub(super) sources: Sources,
}

impl Pair {
    pub(super) fn new(home: &Home, name: &str) -> Pair {
        let (with, without) = (home.tree(name), home.tree(&format!("{name} without")));
        Pair { with, without, sources: Sources::default() }
    }

    pub(super) fn both(&self) -> [&Tree; 2] {
        [&self.with, &self.without]
    }

    /// Makes the files what the sources say. What is as it should be is not written again.
    pub(super) fn write(&self) {
        let files = self.sources.files();
        for tree in self.both() {
            for name in sources_in(tree.path(), Path::new("")) {
                if !files.contains_key(name.to_str().unwrap()) {
                    fs::remove_file(tree.path().join(name)).unwrap();
                }
            }
            for (path, text) in &files {
                if fs::read_to_string(tree.join(path)).ok().as_ref() != Some(text) {
                    tree.write(path, text);
                }
            }
        }
    }

    /// Gives a source another date.
    pub(super) fn touch(&self, path: &str) {
        for tree in self.both() {
            fs::File::open(tree.join(path)).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }

    /// Carries an order out in both, and compares all that can be seen of it. How many compiles
    /// were hits, and how many were not.
    pub(super) fn carry_out(&self, home: &Home, order: &Order, compilers: &[PathBuf]) -> [usize; 2] {
        let compiler = compilers[self.sources.compiler].to_str().unwrap();
        let set = |mut step: Step<'_>| -> Built {
            step = step.env("RUSTC", compiler);
            for (name, value) in
                [("MODEL_OPTION", self.sources.option), ("MODEL_SCRIPT", self.sources.of_script)]
            {
                if let Some(value) = value {
                    step = step.env(name, value);
                }
            }
            step.run()
        };
        let arguments = order.arguments();
        let with = set(home.cargo(&self.with, &arguments));
        let without = set(home.plain_cargo(&self.without, &arguments));
        assert_eq!(with.code, without.code, "{with:#?}\n{without:#?}");
        if matches!((order, with.code), (Order::Test, Some(1..))) {
            // It keeps going for failed tests and not for failed compiles.
            return [0, 0];
        }
        let said = |built: &Built, tree: &Tree| (lines(&built.stderr, tree), lines(&built.stdout, tree));
        assert_eq!(said(&with, &self.with), said(&without, &self.without), "{with:#?}");
        let count = |is_hit: bool| with.calls.compiles().filter(|call| call.is_hit() == is_hit).count();
        let counts = [count(true), count(false)];
        if with.code != Some(0) {
            return counts;
        }
        if let Some(program) = order.program() {
            assert_eq!(self.with.prints(program), self.without.prints(program), "{with:#?}");
        }
        set(home.cargo(&self.with, &arguments)).expect_silent();
        counts
    }
}

/// What was said, without what is different from run to run, in an order of its own: crates
/// that are compiled at once speak as they come.
fn lines(text: &str, tree: &Tree) -> Vec<String> {
    let first = |line: &str| line.trim_start().split(' ').next().unwrap_or_default().to_owned();
    let of_cargo = ["Compiling", "Checking", "Finished", "Fresh", "Dirty", "Running", "Blocking", "Locking"];
    let kept = text.lines().filter(|line| !of_cargo.contains(&&*first(line)));
    let kept = kept.filter(|line| !line.starts_with("test result: "));
    // Of several crates that fail, the last one is named otherwise.
    let kept = kept.filter(|line| !line.contains("build failed, waiting for other jobs"));
    let mut lines: Vec<_> = kept.map(|line| line.replace(tree.text(), "<tree>")).collect();
    lines.sort();
    lines
}

/// All files below, but those that cargo makes.
fn sources_in(top: &Path, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if path != Path::new("target") {
                found.extend(sources_in(top, &path));
            }
        } else if path != Path::new("Cargo.lock") {
            found.push(path);
        }
    }
    found
}
