//! The compiler while it runs, and how it ends: RST-08, RST-09, RST-10, DMN-07.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::home::{Home, eventually, rustc};
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

/// A rustc that does something before the real one compiles; questions are answered as ever.
fn rustc_that(tree: &Tree, does: &str) -> PathBuf {
    let text =
        format!("case \" $* \" in *\" --crate-name \"*) {does};; esac\nexec '{}' \"$@\"", rustc().display());
    tree.script("toolchain/rustc", &text)
}

#[test]
fn rst_08_lines_pass_through_as_they_are_written() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/slow.rs", "pub fn slow() {}");
    let go = tree.join("go");
    let does = format!(
        "echo '{{\"$message_type\":\"artifact\",\"artifact\":\"x.rmeta\",\"emit\":\"metadata\"}}' >&2; n=0; while [ ! -e '{}' ] && [ $n -lt 3000 ]; do sleep 0.01; n=$((n+1)); done",
        go.display()
    );
    let compiler = rustc_that(&tree, &does);
    let mut child = Unit::lib(&home, &tree, "slow").compiler(&compiler).kache().spawn();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("x.rmeta"), "{first}");
    assert!(child.try_wait().unwrap().is_none(), "the compiler still waits");
    tree.write("go", "");
    assert!(child.wait().unwrap().success());
}

#[test]
fn rst_08_cargo_pipelines_hits_and_misses() {
    let home = Home::new();
    for checkout in ["a", "b"] {
        let tree = project::mini(&home, checkout);
        let built = home.cargo(&tree, &["build", "-v", "--message-format=json"]).ok();
        // Announced in the order in which dependents may start.
        let order = |name: &str| built.stdout.find(&format!("\"name\":\"{name}\"")).unwrap();
        assert!(order("util") < order("kcore") && order("kcore") < order("app"), "{built:#?}");
    }
}

#[test]
fn rst_09_exit_codes_and_signals_are_the_compilers() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/dies.rs", "pub fn dies() {}");
    for (does, code, signal) in [
        ("exit 101", Some(101), None),
        ("exit 3", Some(3), None),
        ("kill -SEGV $$", None, Some(11)),
        ("kill -KILL $$", None, Some(9)),
    ] {
        let compiler = rustc_that(&tree, does);
        for _ in 0..2 {
            let mut child = Unit::lib(&home, &tree, "dies").compiler(&compiler).kache().spawn();
            let status = child.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (code, signal), "{does}");
        }
        assert!(home.new_calls().iter().all(|call| !call.is_hit()), "{does}");
    }
    // A compiler that ends well stores its result, after all of this.
    let compiler = rustc_that(&tree, "true");
    let unit = Unit::lib(&home, &tree, "dies").compiler(&compiler);
    unit.misses();
    unit.hits();
}

#[test]
fn rst_09_killing_the_wrapper_kills_the_compiler() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/long.rs", "pub fn long() {}");
    let compiler = rustc_that(&tree, "echo $$ >pid.new; mv pid.new pid; exec sleep 600");
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let mut child = Unit::lib(&home, &tree, "long").compiler(&compiler).kache().spawn();
        eventually("the compiler's start", || tree.join("pid").exists());
        let pid: i32 = tree.read("pid").trim().parse().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap();
        eventually("the compiler's end", || kill(Pid::from_raw(pid), None).is_err());
        tree.remove("pid");
    }
}

#[test]
fn rst_10_a_failed_compile_is_not_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/bad.rs", "pub fn bad() -> u32 { \"no number\" }");
    let unit = Unit::lib(&home, &tree, "bad");
    for _ in 0..2 {
        assert!(unit.fails().contains("E0308"));
    }
    tree.write("src/bad.rs", "pub fn bad() -> u32 { 1 }");
    unit.misses();
    unit.hits();
}

#[test]
fn rst_10_a_build_scripts_trials_are_answered() {
    let home = Home::new();
    // As autocfg does: the source on standard input, a name that is different every time, and
    // some trials that are meant to fail.
    let script = r##"use std::io::Write as _;
fn trial(source: &str) -> bool {
    let name = format!("autocfg_{:016x}_0", std::process::id());
    let wrapper = std::env::var_os("RUSTC_WRAPPER").filter(|w| !w.is_empty());
    let rustc = std::env::var_os("RUSTC").unwrap();
    let mut command = match wrapper { Some(w) => { let mut c = std::process::Command::new(w); c.arg(rustc); c } None => std::process::Command::new(rustc) };
    command.args(["--crate-name", &name, "--crate-type=lib", "--emit=metadata", "-"]);
    command.arg("--out-dir").arg(std::env::var_os("OUT_DIR").unwrap());
    let mut child = command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    child.wait().unwrap().success()
}
fn main() {
    println!("cargo:rustc-check-cfg=cfg(good)\ncargo:rustc-check-cfg=cfg(bad)");
    if trial("pub fn f() {}") { println!("cargo:rustc-cfg=good"); }
    if trial("#![feature(never_type)] pub fn f() -> ! { loop {} }") { println!("cargo:rustc-cfg=bad"); }
}
"##;
    for checkout in ["a", "b longer"] {
        let tree =
            project::program(&home, checkout, "fn main() { println!(\"{} {}\", cfg!(good), cfg!(bad)) }");
        tree.write("build.rs", script);
        let built = home.cargo(&tree, &["build"]).ok();
        assert_eq!(tree.prints("target/debug/prog"), "true false");
        let trials: Vec<_> =
            built.calls.0.iter().filter(|call| call.crate_name.starts_with("autocfg")).collect();
        let runs: u64 = trials.iter().map(|call| call.compiler_runs + call.probe_runs).sum();
        assert_eq!(runs, if checkout == "a" { 2 } else { 0 }, "{built:#?}");
    }
}

#[test]
fn dmn_07_a_call_is_on_record_when_it_has_returned() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/seen.rs", "pub fn seen() {}");
    let unit = Unit::lib(&home, &tree, "seen");
    let result = |step: crate::step::Step<'_>| step.run().only_call().result.clone();
    assert_eq!(result(unit.kache()), "miss");
    assert_eq!(result(unit.kache()), "local_hit");
    assert_eq!(result(unit.clone().with(&["--no-such-flag"]).kache()), "passthrough");
    assert_eq!(result(unit.clone().with(&["-Dmissing_docs"]).kache()), "skipped");
    // Numbers survive the daemon (DMN-06).
    home.kill_daemon();
    assert_eq!(home.new_calls(), []);
    let report = home.kache(&["report", "--format", "json"]).run_unwatched();
    assert_eq!(crate::report::calls_in(report.stdout.as_bytes()).len(), 4);
    assert!(home.daemon_pid().is_none(), "looking starts nothing");
}
