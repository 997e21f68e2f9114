//! Machines that share results through a remote: homes whose users, caches, daemons and paths differ.

use std::fs;
use std::path::{Path, PathBuf};

use crate::counting;
use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::tree::{Tree, different};

/// The program of the workspace that the machines build.
pub(crate) const PROGRAM: &str = "target/debug/app";

/// Settings of a remote. A busy machine may answer late, which is no reason to compile here.
pub(crate) const PATIENCE: &str = "connect_ms = 20000\nlookup_ms = 20000\nstall_ms = 20000\n";

/// Where machines find their remote: settings in the form of the configuration file, and variables with credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct RemoteSetup {
    lines: String,
    variables: Vec<(&'static str, String)>,
}

impl RemoteSetup {
    /// Adds a line to the remote's settings.
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push('\n');
        self
    }

    /// Sets a variable for all programs of the machine.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }
}

impl From<&str> for RemoteSetup {
    fn from(url: &str) -> Self {
        RemoteSetup::default().line(&format!("url = \"{url}\""))
    }
}

impl From<&String> for RemoteSetup {
    fn from(url: &String) -> Self {
        RemoteSetup::from(url.as_str())
    }
}

/// A machine that uses this remote. It takes packages from the registry of `other`, as all machines do from one
/// registry in the network.
pub(crate) fn machine(name: &str, remote: impl Into<RemoteSetup>, other: Option<&Home>) -> Home {
    let remote = remote.into();
    let home = Home::without_daemon().of_user(name);
    let compiler = counting::rustc(&home.variable("HOME"));
    let home = home.with("RUSTC", compiler.to_str().unwrap());
    let home = remote.variables.iter().fold(home, |home, (name, value)| home.with(name, value));
    let config = home.variable("HOME").join(".config/kache/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, format!("[[remote]]\n{}{PATIENCE}", remote.lines)).unwrap();
    let home = match other {
        Some(other) => home.with_registry_of(other),
        None => home,
    };
    home.start();
    home
}

/// A machine with these settings of its remote.
pub(crate) fn machine_with(name: &str, remote: &str, other: Option<&Home>) -> Home {
    machine(name, RemoteSetup::default().line(remote), other)
}

/// The number of uploads that wait for the machine's remote or are under way; `None` if no remote was used.
pub(crate) fn uploads_waiting(home: &Home) -> Option<u64> {
    let status = home.kache(&["daemon", "status", "--json"]).ok_unwatched();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status["remotes"][0]["uploads_waiting"].as_u64()
}

/// Waits until everything that a machine has compiled is on its remote.
pub(crate) fn wait_for_uploads(home: &Home) {
    eventually("the end of all uploads", || uploads_waiting(home) == Some(0));
}

/// Builds the workspace on a machine for which it is new, and waits until the remote has it.
pub(crate) fn fill(remote: impl Into<RemoteSetup>) -> (Home, Tree) {
    let home = machine("first", remote, None);
    let tree = project::mini(&home, "first/ws");
    let built = home.cargo(&tree, &["build", "--workspace"]).ok();
    built.expect_each_compiled_once();
    assert_eq!(compiled(&home), built.calls.crates("miss"), "kache does not tell the truth");
    wait_for_uploads(&home);
    home.stop();
    (home, tree)
}

/// Builds the workspace on a machine that compiles nothing, because the remote has it. Returns that machine.
pub(crate) fn expect_filled(
    remote: impl Into<RemoteSetup>,
    (first, tree): &(Home, Tree),
    name: &str,
) -> Home {
    let home = machine(name, remote, Some(first));
    let other = project::mini(&home, &format!("{name}/ws"));
    home.cargo(&other, &["build", "--workspace"]).ok().expect_all_hits();
    assert_eq!(compiled(&home), [""; 0]);
    expect_same_outputs(tree, &other);
    home
}

/// The names of the crates for which a machine has started rustc so far, sorted.
fn compiled(home: &Home) -> Vec<String> {
    counting::crates(&home.variable("HOME"))
}

/// Asserts that everything that compilers have made has the same bytes in two checkouts, and that it works.
pub(crate) fn expect_same_outputs(one: &Tree, other: &Tree) {
    let [before, now] = [one, other].map(|tree| tree.artifacts("target/debug"));
    assert!(before.len() > 8, "{:?}", before.keys());
    assert_eq!(different(&before, &now), [""; 0]);
    expect_same_program(one, other);
}

/// Asserts that the programs of two checkouts work, and have the same bytes.
pub(crate) fn expect_same_program(one: &Tree, other: &Tree) {
    assert_eq!(other.prints(PROGRAM), PRINTS);
    let program = |tree: &Tree| fs::read(tree.join(PROGRAM)).unwrap();
    assert!(program(one) == program(other), "the program has other bytes");
}

/// Builds on one machine and then on another, and asserts that the second one starts no compiler. Each has its own
/// address of the remote.
pub(crate) fn from_one_machine_to_another(first: impl Into<RemoteSetup>, second: impl Into<RemoteSetup>) {
    let filled = fill(first);
    let second = expect_filled(second, &filled, "second-with-a-longer-name");
    // What was fetched is in the store: no remote is needed any more.
    let third = project::mini(&second, "third/ws");
    second.cargo(&third, &["build", "--workspace"]).env("KACHE_LOCAL_ONLY", "1").ok().expect_all_hits();
    assert_eq!(compiled(&second), [""; 0]);
    expect_same_outputs(&filled.1, &third);
}

/// The variable whose value nobody may find on a remote, and its value.
const SECRET: (&str, &str) = ("SECRET_TOKEN", "hunter2-hunter2-hunter2");

/// A program that knows only whether the secret is set: from the compiler and from a proc macro.
fn secretive(home: &Home, name: &str) -> Tree {
    let tree = home.tree(name);
    tree.write_all(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"ask\", \"app\"]\nresolver = \"2\"\n"),
        (
            "ask/Cargo.toml",
            "[package]\nname = \"ask\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        ),
        (
            "ask/src/lib.rs",
            r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn is_set(_: TokenStream) -> TokenStream {
    std::env::var("SECRET_TOKEN").is_ok().to_string().parse().unwrap()
}
"#,
        ),
        (
            "app/Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nask = { path = \"../ask\" }\n",
        ),
        (
            "app/src/main.rs",
            r#"mod told;
const IS_SET: bool = option_env!("SECRET_TOKEN").is_some();
fn main() { println!("{IS_SET} {}", told::IS_SET) }
"#,
        ),
        ("app/src/told.rs", "pub const IS_SET: bool = ask::is_set!();\n"),
    ]);
    tree
}

/// Asserts that a secret with which a program is compiled is in no file of a remote, in no log and in no report,
/// although it counts.
pub(crate) fn expect_no_secret_on(url: &str, files: &Path) {
    let (name, value) = SECRET;
    let compile = |machine_name: &str, first: Option<&Home>, value: &str| {
        let home = machine(machine_name, url, first);
        let tree = secretive(&home, "ws");
        let built = home.cargo(&tree, &["build"]).env(name, value).ok();
        assert_eq!(tree.prints(PROGRAM), "true true");
        let deps = tree.files("target/debug/deps").into_keys().filter(|file| file.ends_with(".d"));
        let deps: String = deps.map(|file| tree.read(&format!("target/debug/deps/{file}"))).collect();
        assert!(deps.contains(&format!("# env-dep:{name}={value}")), "{deps}");
        wait_for_uploads(&home);
        for told in [&["daemon", "log"][..], &["report", "--format", "json"]] {
            let told = home.kache(told).ok_unwatched().stdout;
            assert!(!told.contains(value), "{told}");
        }
        // A little after a build, the list of what it has used is uploaded. Nothing may change while files are read.
        home.stop();
        (home, built)
    };
    let (first, built) = compile("first", None, value);
    built.expect_all_misses();
    let (_second, built) = compile("second-which-knows-it", Some(&first), value);
    built.expect_all_hits();
    let (_third, built) = compile("third", Some(&first), "swordfish");
    assert_eq!((built.calls.crates("miss"), built.calls.crates("remote_hit")), (vec!["app"], vec!["ask"]));

    let files = files_below(files);
    let has = |text: &str| {
        let is_in = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        files.iter().find(|path| is_in(&fs::read(path).unwrap()))
    };
    // Otherwise the files would be compressed, and nothing would be proven.
    assert!(has(name).is_some(), "the variable's name is in none of {files:?}");
    for value in [value, "swordfish"] {
        assert_eq!(has(value), None, "`{value}` is on the remote");
    }
}

/// All files below a directory, sorted.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        Tree::new(dir.to_owned()).files("").into_keys().map(|name| dir.join(name)).collect();
    files.sort();
    files
}
