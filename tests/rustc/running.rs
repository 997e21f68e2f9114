//! The compiler while it runs, and how it ends: RST-08, RST-09, RST-10 and DMN-07.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;

use nix::sys::signal::{SigHandler, Signal, kill};
use nix::unistd::Pid;

use crate::acting::{acting, waiting};
use crate::home::{Home, eventually};
use crate::project;
use crate::report::Call;
use crate::unit::Unit;

#[test]
fn rst_08_messages_pass_through_while_the_compiler_runs() {
    for home in Home::of_both_kinds() {
        let tree = home.tree("ws");
        let unit = acting(&home, &tree);
        let mut child = unit.kache().env("ACT", &format!("wait {}", tree.text())).spawn();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("early.rmeta"), "{first}");
        assert!(child.try_wait().unwrap().is_none(), "the compiler still waits");
        tree.write("go", "");
        assert!(child.wait().unwrap().success());
        assert_eq!(home.new_calls()[0].result, "miss");
    }
}

#[test]
fn rst_08_cargo_pipelines_hits_and_misses() {
    let home = Home::new();
    for checkout in ["a", "b"] {
        let tree = project::mini(&home, checkout);
        let built = home.cargo(&tree, &["build", "-v", "--message-format=json"]).ok();
        // Messages announce outputs in the order in which dependents may start.
        let order = |name: &str| built.stdout.find(&format!("\"name\":\"{name}\"")).unwrap();
        assert!(order("util") < order("kcore") && order("kcore") < order("app"), "{built:#?}");
    }
}

#[test]
fn rst_09_exit_codes_and_signals_are_those_of_the_compiler() {
    for home in Home::of_both_kinds() {
        let tree = home.tree("ws");
        let unit = acting(&home, &tree);
        for (act, code, signal) in [
            ("exit 101", Some(101), None),
            ("exit 3", Some(3), None),
            ("signal -ABRT", None, Some(6)),
            ("signal -KILL", None, Some(9)),
            ("signal -TERM", None, Some(15)),
        ] {
            for _ in 0..2 {
                let status = unit.kache().env("ACT", act).spawn().wait().unwrap();
                assert_eq!((status.code(), status.signal()), (code, signal), "{act}");
            }
            let results: Vec<_> = home.new_calls().into_iter().map(|call| call.result).collect();
            assert_eq!(results, ["skipped", "skipped"], "{act}");
        }
        // After all of these, a successful compile is stored.
        assert_eq!(unit.misses(), "acted");
        assert_eq!(unit.hits(), "acted");
    }
}

/// The processes that left a core file in this directory. Removes the files.
fn cores(directory: &Path) -> Vec<&'static str> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let cores =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("core")));
    let of = |core: fs::DirEntry| {
        let mut head = Vec::new();
        fs::File::open(core.path()).unwrap().take(64 << 10).read_to_end(&mut head).unwrap();
        fs::remove_file(core.path()).unwrap();
        let names = |name: &str| memchr::memmem::find(&head, format!("{name}\0").as_bytes()).is_some();
        if names("rustc") { "rustc" } else { "another" }
    };
    cores.map(of).collect()
}

#[test]
fn rst_09_only_the_compiler_leaves_a_core_file() {
    let home = Home::new();
    let tree = home.tree("ws");
    let unit = acting(&home, &tree);
    let dies = |step: crate::step::Step<'_>| {
        let mut command = step.env("ACT", "signal -ABRT").command();
        let allow = || {
            let any = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: the call gets a valid `rlimit` that outlives it. If it fails, no process leaves a core.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const any) };
            Ok(())
        };
        // SAFETY: `setrlimit` may be called between fork and exec.
        unsafe { command.pre_exec(allow) };
        assert_eq!(command.status().unwrap().signal(), Some(6));
        cores(tree.path())
    };
    // If the system passes cores to a program of its own, there are no files in either case.
    let without = dies(unit.plain());
    assert_eq!(dies(unit.kache()), without, "a core of the wrapper would replace the compiler's");
}

#[test]
fn rst_09_killing_the_wrapper_kills_the_compiler() {
    // A shell without job control makes background processes, and their children, ignore this signal.
    // SAFETY: this only restores the default action.
    unsafe { nix::sys::signal::signal(Signal::SIGINT, SigHandler::SigDfl) }.unwrap();
    for home in Home::of_both_kinds() {
        let tree = home.tree("ws");
        let unit = acting(&home, &tree);
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
            let mut child = unit.kache().env("ACT", &format!("wait {}", tree.text())).spawn();
            eventually("the compiler's start", || !waiting(&tree).is_empty());
            let pid = waiting(&tree)[0];
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            let status = child.wait().unwrap();
            // rustc exits with a code after an interrupt, and so does its wrapper.
            assert!(
                !status.success() && (signal == Signal::SIGINT || status.signal() == Some(signal as i32)),
                "{status:?}"
            );
            eventually("the compiler's end", || !is_running(pid));
            tree.remove(&format!("waiting.{pid}"));
        }
        // None of these compiles was stored.
        assert!(home.new_calls().iter().all(|call| call.result == "skipped"));
        assert_eq!(unit.misses(), "acted");
    }
}

/// Whether the process exists and is not a zombie.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn rst_10_a_failed_compile_is_not_stored() {
    for home in Home::of_both_kinds() {
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
}

#[test]
fn rst_10_trials_of_build_scripts_are_cached() {
    let [with, without] = Home::of_both_kinds();
    // As autocfg does it: the source on standard input, a different name each time, and some trials that are meant
    // to fail. And as rustix does it, without a name.
    let script = r##"use std::io::Write as _;
fn trial(source: &str, is_named: bool) -> bool {
    let name = format!("autocfg_{:016x}_0", std::process::id());
    let wrapper = std::env::var_os("RUSTC_WRAPPER").filter(|w| !w.is_empty());
    let rustc = std::env::var_os("RUSTC").unwrap();
    let mut command = match wrapper { Some(w) => { let mut c = std::process::Command::new(w); c.arg(rustc); c } None => std::process::Command::new(rustc) };
    let out_dir = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    if is_named { command.args(["--crate-name", &name]).arg("--out-dir").arg(&out_dir); }
    else { command.arg("-o").arg(out_dir.join("trial")); }
    command.args(["--crate-type=lib", "--emit=metadata", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    child.wait().unwrap().success()
}
fn main() {
    println!("cargo:rustc-check-cfg=cfg(good)\ncargo:rustc-check-cfg=cfg(bad)");
    let all = |source: &str| [true, false].map(|is_named| trial(source, is_named)) == [true; 2];
    if all("pub fn f() {}") { println!("cargo:rustc-cfg=good"); }
    if all("#![feature(never_type)] pub fn f() -> ! { loop {} }") { println!("cargo:rustc-cfg=bad"); }
}
"##;
    for (home, checkout) in [(&with, "a"), (&with, "b longer"), (&without, "a"), (&without, "b longer")] {
        let tree =
            project::program(home, checkout, "fn main() { println!(\"{} {}\", cfg!(good), cfg!(bad)) }");
        tree.write("build.rs", script);
        let built = home.cargo(&tree, &["build"]).ok();
        assert_eq!(tree.prints("target/debug/prog"), "true false");
        let is_trial = |call: &&Call| ["autocfg", "rust_out"].contains(&&*call.crate_name);
        let trials: Vec<_> = built.calls.0.iter().filter(is_trial).collect();
        let runs: u64 = trials.iter().map(|call| call.compiler_runs + call.probe_runs).sum();
        assert_eq!((trials.len(), runs), (4, if checkout == "a" { 4 } else { 0 }), "{trials:#?}");
    }
}

#[test]
fn why_miss_waits_for_a_result_that_is_being_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/seen.rs", "fn main() {}");
    let unit = Unit::bin(&home, &tree, "seen");
    unit.misses();
    let other = unit.with(&["-C", "opt-level=1"]).kache().spawn();
    assert!(other.wait_with_output().unwrap().status.success());
    let said = home.kache(&["why-miss", "seen"]).run_unwatched().stdout;
    assert!(said.starts_with("`seen` was compiled because `-C opt-level 1` is passed"), "{said}");
}

#[test]
fn dmn_07_a_call_is_in_the_log_when_it_has_returned() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/seen.rs", "pub fn seen() {}");
    let unit = Unit::lib(&home, &tree, "seen");
    let result = |step: crate::step::Step<'_>| step.run().only_call().result.clone();
    assert_eq!(result(unit.kache()), "miss");
    assert_eq!(result(unit.kache()), "local_hit");
    assert_eq!(result(unit.clone().with(&["--no-such-flag"]).kache()), "passthrough");
    assert_eq!(result(unit.clone().with(&["-Dmissing_docs"]).kache()), "skipped");
    // The numbers survive the daemon (DMN-06).
    home.kill_daemon();
    assert_eq!(home.new_calls(), []);
    let report = home.kache(&["report", "--format", "json"]).run_unwatched();
    assert_eq!(crate::report::calls_in(report.stdout.as_bytes()).len(), 4);
    assert!(home.daemon_pid().is_none(), "looking starts nothing");
}
