//! Runs Bazel in a copy of `projects/bazel`: it builds, cleans, and reports which actions were hits and what the
//! outputs are.
//!
//! Outputs are random where they can be, so that every build without hits has other outputs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::process::{Finished, command, run};
use crate::tools::{project, tool};

/// The number of cacheable actions in a complete build: three of C, four genrules, the tree, and the archive and
/// shared object of the library.
pub(crate) const ACTIONS: u32 = 10;

/// The outputs of a build, by their paths below `bazel-bin`.
pub(crate) type Outputs = BTreeMap<String, Output>;

/// An output: its type, mode and content.
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

/// The outcome of a build.
#[derive(Debug)]
pub(crate) struct Build {
    /// Actions that were hits.
    pub(crate) hits: u32,
    /// Actions that ran.
    pub(crate) ran: u32,
    /// The text that Bazel printed.
    pub(crate) output: String,
}

impl Build {
    /// Asserts that every action ran.
    pub(crate) fn expect_cold(&self) {
        assert_eq!((self.hits, self.ran), (0, ACTIONS), "hits and runs\n{}", self.output);
    }

    /// Asserts that every action was a hit.
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

    /// Builds all targets, which must succeed.
    pub(crate) fn build(&self, flags: &[&str]) -> Build {
        self.build_targets(&["//..."], flags)
    }

    /// Builds these targets, which must succeed.
    pub(crate) fn build_targets(&self, targets: &[&str], flags: &[&str]) -> Build {
        let finished = self.try_build(targets, flags);
        let output = finished.expect_success("bazel build");
        let (hits, ran) = read_processes(&output);
        Build { hits, ran, output }
    }

    /// Builds these targets, which may fail.
    pub(crate) fn try_build(&self, targets: &[&str], flags: &[&str]) -> Finished {
        let mut command = self.command("build");
        for stub in ["rules_cc", "rules_java"] {
            command.arg(format!("--override_repository={stub}={}", project("stubs").join(stub).display()));
        }
        command
            .args(["--color=no", "--curses=no", "--show_progress_rate_limit=60", "--nosandbox_debug"])
            // Bazel's sandbox is not tested here, and does not work in every container.
            .args(["--spawn_strategy=local", "--jobs=2"])
            .args(["--remote_timeout=20", "--remote_retries=1"])
            .args(flags)
            .args(targets);
        run(&mut command)
    }

    /// Removes all outputs, and Bazel's own record of them.
    pub(crate) fn clean(&self) {
        run(&mut self.command("clean")).expect_success("bazel clean");
    }

    /// The outputs of a complete build.
    pub(crate) fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::new();
        let bin = self.workspace().join("bazel-bin");
        for name in ["hello", "small.bin", "large.bin", "empty.bin", "first.bin", "second", "tree"] {
            collect(&bin, name, &mut outputs);
        }
        outputs
    }

    /// Whether an output exists as a file.
    pub(crate) fn has(&self, output: &str) -> bool {
        self.workspace().join("bazel-bin").join(output).exists()
    }

    /// Runs the program that was built, and returns its output.
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
            // Bazel's server ends by itself soon after a test that was killed.
            .args(["--max_idle_secs=60", "--host_jvm_args=-Xmx512m"])
            // A Bazel server that only lives for half a minute starts twice as fast with these options.
            .args(["--host_jvm_args=-XX:TieredStopAtLevel=1", "--host_jvm_args=-XX:+UseSerialGC"])
            .arg(verb);
        command
    }
}

impl Drop for Bazel {
    fn drop(&mut self) {
        run(&mut self.command("shutdown"));
        // Outputs and their directories are read-only, so without root the test's directory could not be removed.
        make_writable(&self.dir.join("out"));
    }
}

/// Asserts that the outputs are the same, and names those that are not.
pub(crate) fn assert_same(actual: &Outputs, expected: &Outputs) {
    let names = |outputs: &Outputs| outputs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected), "the set of outputs");
    for (name, output) in expected {
        assert_eq!(&actual[name], output, "{name}");
    }
}

/// Asserts that the random outputs of two builds differ.
pub(crate) fn assert_built_anew(actual: &Outputs, before: &Outputs) {
    for name in ["small.bin", "large.bin", "first.bin", "tree/deep/3"] {
        assert_ne!(actual[name], before[name], "{name} came out of a cache");
    }
}

/// Parses `INFO: 16 processes: 10 remote cache hit, 6 internal.`
fn read_processes(output: &str) -> (u32, u32) {
    let line = output.lines().rfind(|line| line.contains(" processes: ") || line.contains(" process: "));
    let line = line.unwrap_or_else(|| panic!("bazel does not print its processes\n{output}"));
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

/// Copies a directory recursively.
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
    // A file whose mode cannot be changed cannot be removed either, and stays.
    let _ = fs::set_permissions(dir, all);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
