//! One crate that is compiled by calling the wrapper directly, as cargo would call it.
//!
//! Each time it is compiled once through kache and once without, in an empty target directory. Exit code, messages,
//! dep-info and the program's output must be the same. That is a hundred times as fast as a build by cargo, which
//! only tests of cargo's own decisions need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{Home, KACHE, rustc};
use crate::report::Call;
use crate::step::{Built, Step};
use crate::tree::Tree;

const DEPS: &str = "target/debug/deps";

/// A crate.
#[derive(Clone)]
pub(crate) struct Unit<'a> {
    home: &'a Home,
    tree: &'a Tree,
    name: &'a str,
    crate_type: &'a str,
    source: String,
    emit: &'a str,
    more: Vec<String>,
    env: Vec<(String, String)>,
    compiler: PathBuf,
}

impl<'a> Unit<'a> {
    /// A program of `src/<name>.rs`.
    pub(crate) fn bin(home: &'a Home, tree: &'a Tree, name: &'a str) -> Self {
        Unit::new(home, tree, name, "bin", "dep-info,link")
    }

    /// A library of `src/<name>.rs`.
    pub(crate) fn lib(home: &'a Home, tree: &'a Tree, name: &'a str) -> Self {
        Unit::new(home, tree, name, "lib", "dep-info,metadata,link")
    }

    /// A proc macro of `src/<name>.rs`.
    pub(crate) fn proc_macro(home: &'a Home, tree: &'a Tree, name: &'a str) -> Self {
        Unit::new(home, tree, name, "proc-macro", "dep-info,link").with(&[
            "-C",
            "prefer-dynamic",
            "--extern",
            "proc_macro",
        ])
    }

    fn new(home: &'a Home, tree: &'a Tree, name: &'a str, crate_type: &'a str, emit: &'a str) -> Self {
        fs::create_dir_all(tree.join(DEPS)).unwrap();
        // kache recognises a target directory by this file.
        tree.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
        let source = format!("src/{name}.rs");
        Unit {
            home,
            tree,
            name,
            crate_type,
            source,
            emit,
            more: Vec::new(),
            env: Vec::new(),
            compiler: rustc(),
        }
    }

    pub(crate) fn with(mut self, args: &[&str]) -> Self {
        self.more.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn emit(mut self, emit: &'a str) -> Self {
        self.emit = emit;
        self
    }

    /// Compiles the unit with this compiler in place of the usual one.
    pub(crate) fn compiler(mut self, compiler: &Path) -> Self {
        compiler.clone_into(&mut self.compiler);
        self
    }

    /// Uses a library that was compiled in the same tree.
    pub(crate) fn uses(self, name: &str, file: &str) -> Self {
        let path = self.tree.join(DEPS).join(file);
        let argument = format!("{name}={}", path.display());
        self.with(&["--extern", &argument])
    }

    /// The path of the output with this suffix.
    pub(crate) fn output(&self, ending: &str) -> PathBuf {
        let before = if matches!(ending, "" | ".d") { "" } else { "lib" };
        self.tree.join(DEPS).join(format!("{before}{}-01234567{ending}", self.name))
    }

    fn args(&self) -> Vec<String> {
        let out_dir = self.tree.join(DEPS);
        let out_dir = out_dir.to_str().unwrap();
        let dependency = format!("dependency={out_dir}");
        let emit = format!("--emit={}", self.emit);
        let fixed = [
            "--crate-name",
            self.name,
            "--edition=2021",
            &self.source,
            "--error-format=json",
            "--json=diagnostic-rendered-ansi,artifacts,future-incompat",
            "--crate-type",
            self.crate_type,
            &emit,
            "-C",
            "embed-bitcode=no",
            "-C",
            "metadata=01234567",
            "-C",
            "extra-filename=-01234567",
            "--out-dir",
            out_dir,
            "-L",
            &dependency,
        ];
        fixed.iter().map(|arg| (*arg).to_owned()).chain(self.more.iter().cloned()).collect()
    }

    fn step(&self, mut command: Command) -> Step<'a> {
        command.args(self.args()).current_dir(self.tree.path());
        let step = Step::new(self.home, command);
        self.env.iter().fold(step, |step, (name, value)| step.env(name, value))
    }

    /// The call through kache, which is not run yet. Removes earlier outputs.
    pub(crate) fn kache(&self) -> Step<'a> {
        self.clear();
        self.kache_over_it()
    }

    /// The call through kache without removing earlier outputs.
    pub(crate) fn kache_over_it(&self) -> Step<'a> {
        let mut command = self.home.command(KACHE);
        command.arg(&self.compiler);
        self.step(command)
    }

    /// The call without kache, which is not run yet. Removes earlier outputs.
    pub(crate) fn plain(&self) -> Step<'a> {
        self.clear();
        self.plain_over_it()
    }

    /// The call without kache, without removing earlier outputs.
    pub(crate) fn plain_over_it(&self) -> Step<'a> {
        self.step(self.home.command(&self.compiler))
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.tree.join(DEPS)).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().contains(&format!("{}-01234567", self.name)) {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// The outcome of a compile except the bytes of its outputs.
    fn outcome(&self, built: Built) -> Outcome {
        let deps = self.tree.join(DEPS);
        let mine = |path: &PathBuf| path.to_str().unwrap().contains(&format!("{}-01234567", self.name));
        let mut files: Vec<_> =
            fs::read_dir(&deps).unwrap().map(|entry| entry.unwrap().path()).filter(mine).collect();
        files.sort();
        let program = self.output("");
        let prints = program.exists().then(|| self.tree.prints(program.to_str().unwrap()));
        let dep_info = fs::read_to_string(self.output(".d")).ok();
        Outcome { code: built.code, stdout: built.stdout, stderr: built.stderr, files, dep_info, prints }
    }

    /// Compiles with and without kache, and asserts that the outcomes are equal. Returns the call and the outcome.
    #[track_caller]
    pub(crate) fn compare(&self) -> (Call, Outcome) {
        let plain = self.outcome(self.plain().run_unwatched());
        let built = self.kache().run();
        let call = built.only_call().clone();
        let outcome = self.outcome(built);
        assert_eq!(outcome.dep_info, plain.dep_info, "with kache, and without: {call:?}");
        assert_eq!(outcome, plain, "with kache, and without: {call:?}");
        (call, outcome)
    }

    /// Asserts that the compile is a hit. Returns the program's output.
    #[track_caller]
    pub(crate) fn hits(&self) -> String {
        let (call, outcome) = self.compare();
        assert!(call.is_hit() && call.compiler_runs == 0, "{call:?}");
        outcome.prints.unwrap_or_default()
    }

    /// Asserts that the compiler runs and the result is stored. Returns the program's output.
    #[track_caller]
    pub(crate) fn misses(&self) -> String {
        let (call, outcome) = self.compare();
        assert_eq!(
            (&*call.result, call.compiler_runs, outcome.code),
            ("miss", 1, Some(0)),
            "{call:?} {outcome:?}"
        );
        outcome.prints.unwrap_or_default()
    }

    /// Asserts that the compiler runs and fails. Returns its messages.
    #[track_caller]
    pub(crate) fn fails(&self) -> String {
        let (call, outcome) = self.compare();
        assert_eq!((&*call.result, outcome.code), ("skipped", Some(1)), "{call:?}");
        outcome.stderr
    }

    /// Asserts that the call bypasses the cache for this reason.
    #[track_caller]
    pub(crate) fn passes(&self, reason: &str) {
        let (call, _) = self.compare();
        assert_eq!((&*call.result, &*call.reason), ("passthrough", reason), "{call:?}");
    }
}

/// The outcome of a compile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    files: Vec<PathBuf>,
    dep_info: Option<String>,
    prints: Option<String>,
}

impl Outcome {
    /// Returns what the program prints.
    #[track_caller]
    pub(crate) fn prints(&self) -> &str {
        self.prints.as_deref().unwrap_or_else(|| panic!("no program was built: {self:?}"))
    }
}
