//! Drives Bazel in a copy of `projects/bazel`: builds, cleans, and says which actions were
//! hits and what the outputs are.
//!
//! A build that is not from a cache differs from every other, because the outputs are
//! random where they can be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::process::{Finished, command, run};
use crate::tools::{project, tool};

/// How many actions a build of everything has that can be cached: three of C, four
/// genrules, the tree, and the archive and shared object of the library.
pub(crate) const ACTIONS: u32 = 10;

/// The files that a build leaves behind, by their path below `bazel-bin`.
pub(crate) type Outputs = BTreeMap<String, Output>;

/// A file as cargo, make or a person would compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    is_executable: bool,
    size_bytes: usize,
    sha256: String,
}

/// A Bazel server and its workspace.
pub(crate) struct Bazel {
    program: PathBuf,
    dir: PathBuf,
}

/// What a build did.
#[derive(Debug)]
pub(crate) struct Build {
    /// Actions that a cache answered.
    pub(crate) hits: u32,
    /// Actions that ran.
    pub(crate) ran: u32,
    /// What Bazel said.
    pub(crate) output: String,
}

impl Build {
    /// Everything ran: the cache knew none of it.
    pub(crate) fn expect_cold(&self) {
        assert_eq!((self.hits, self.ran), (0, ACTIONS), "hits and runs\n{}", self.output);
    }

    /// Nothing ran: the cache knew all of it.
    pub(crate) fn expect_hits(&self) {
        assert_eq!((self.hits, self.ran), (ACTIONS, 0), "hits and runs\n{}", self.output);
    }
}

impl Bazel {
    /// Copies the project below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let bazel = Bazel { program: tool("bazel"), dir: dir.to_owned() };
        copy_dir(&project("bazel"), &bazel.workspace());
        bazel
    }

    /// Builds everything.
    pub(crate) fn build(&self, flags: &[&str]) -> Build {
        self.build_targets(&["//..."], flags)
    }

    /// Builds some of it.
    pub(crate) fn build_targets(&self, targets: &[&str], flags: &[&str]) -> Build {
        let finished = self.try_build(targets, flags);
        let output = finished.expect_success("bazel build");
        let (hits, ran) = read_processes(&output);
        Build { hits, ran, output }
    }

    /// Builds, and leaves it to the caller whether it must work.
    pub(crate) fn try_build(&self, targets: &[&str], flags: &[&str]) -> Finished {
        let mut command = self.command("build");
        for stub in ["rules_cc", "rules_java"] {
            command.arg(format!("--override_repository={stub}={}", project("stubs").join(stub).display()));
        }
        command
            .args(["--color=no", "--curses=no", "--show_progress_rate_limit=60", "--nosandbox_debug"])
            // The sandbox is Bazel's own affair, and not every container allows one.
            .args(["--spawn_strategy=local", "--jobs=2"])
            .args(["--remote_timeout=20", "--remote_retries=1"])
            .args(flags)
            .args(targets);
        run(&mut command)
    }

    /// Removes all outputs, and what Bazel remembers of them.
    pub(crate) fn clean(&self) {
        run(&mut self.command("clean")).expect_success("bazel clean");
    }

    /// What a build of everything has left behind.
    pub(crate) fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::new();
        let bin = self.workspace().join("bazel-bin");
        for name in ["hello", "small.bin", "large.bin", "empty.bin", "first.bin", "second", "tree"] {
            collect(&bin, name, &mut outputs);
        }
        outputs
    }

    /// Whether an output is in the file system.
    pub(crate) fn has(&self, output: &str) -> bool {
        self.workspace().join("bazel-bin").join(output).exists()
    }

    /// Runs the program that was built.
    pub(crate) fn hello(&self) -> String {
        run(&mut Command::new(self.workspace().join("bazel-bin/hello"))).expect_success("hello")
    }

    fn workspace(&self) -> PathBuf {
        self.dir.join("workspace")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = command(&self.program, &self.dir.join("home"));
        command
            .current_dir(self.workspace())
            .args(["--nohome_rc", "--noworkspace_rc"])
            .arg(format!("--output_user_root={}", self.dir.join("out").display()))
            // It ends by itself soon after a test that could not end it.
            .args(["--max_idle_secs=60", "--host_jvm_args=-Xmx512m"])
            // A server that lives for half a minute starts in half the time so.
            .args(["--host_jvm_args=-XX:TieredStopAtLevel=1", "--host_jvm_args=-XX:+UseSerialGC"])
            .arg(verb);
        command
    }
}

impl Drop for Bazel {
    fn drop(&mut self) {
        run(&mut self.command("shutdown"));
        // Outputs are read-only, and so are directories of them: who is not root could not
        // remove the test's directory.
        make_writable(&self.dir.join("out"));
    }
}

/// Fails if the outputs are not the same, and names those that are not.
pub(crate) fn assert_same(actual: &Outputs, expected: &Outputs) {
    let names = |outputs: &Outputs| outputs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected), "which outputs there are");
    for (name, output) in expected {
        assert_eq!(&actual[name], output, "{name}");
    }
}

/// Fails if what can differ between two builds does not.
pub(crate) fn assert_built_anew(actual: &Outputs, before: &Outputs) {
    for name in ["small.bin", "large.bin", "first.bin", "tree/deep/3"] {
        assert_ne!(actual[name], before[name], "{name} came out of a cache");
    }
}

/// Reads `INFO: 16 processes: 10 remote cache hit, 6 internal.`
fn read_processes(output: &str) -> (u32, u32) {
    let line = output.lines().rfind(|line| line.contains(" processes: ") || line.contains(" process: "));
    let line = line.unwrap_or_else(|| panic!("bazel does not say what it did\n{output}"));
    let (_, kinds) = line.split_once(": ").expect("the line begins with its level");
    let (_, kinds) = kinds.split_once(": ").expect("the line was found by what is split here");
    let (mut hits, mut ran) = (0, 0);
    for kind in kinds.trim_end_matches('.').split(", ") {
        let (count, name) = kind.split_once(' ').expect("each kind has a count");
        let count: u32 = count.parse().unwrap_or_else(|_| panic!("no count: {line}"));
        match name {
            "remote cache hit" => hits += count,
            "internal" => {}
            _ => ran += count,
        }
    }
    (hits, ran)
}

fn collect(bin: &Path, name: &str, outputs: &mut Outputs) {
    let path = bin.join(name);
    if path.is_dir() {
        for entry in fs::read_dir(&path).expect("an output can be read").flatten() {
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            collect(bin, &name, outputs);
        }
        return;
    }
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mode = fs::metadata(&path).expect("it was read a line ago").permissions().mode();
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let output = Output { is_executable: mode & 0o100 != 0, size_bytes: bytes.len(), sha256 };
    outputs.insert(name.to_owned(), output);
}

/// Copies files and directories.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's directory is writable");
    for entry in fs::read_dir(from).expect("the project can be read") {
        let path = entry.expect("the project can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file of the project can be copied");
        }
    }
}

fn make_writable(dir: &Path) {
    let all = fs::Permissions::from_mode(0o700);
    // What cannot be changed cannot be removed either, and is left to the system.
    let _ = fs::set_permissions(dir, all);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
