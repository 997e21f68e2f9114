//! `kache verify`: stored actions are compiled again, and nothing else changes.

use std::fs;

use serde_json::Value;

use crate::home::Home;
use crate::project::{self, mini};
use crate::step::Built;
use crate::tree::{Tree, assert_untouched};

/// A macro whose expansion differs in each run for a reason that kache cannot observe.
const CLOCK: &str = r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn now(_: TokenStream) -> TokenStream {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}u64", now.as_nanos() as u64).parse().unwrap()
}
"#;

/// Runs `kache verify`. Returns its report and exit code.
fn verify(home: &Home, args: &[&str]) -> (Value, Built) {
    let built = home.kache(&[&["verify", "--format", "json"], args].concat()).run();
    let document = serde_json::from_str(&built.stdout).unwrap_or_else(|error| panic!("{error}: {built:#?}"));
    (document, built)
}

/// A program that prints the time of its compilation.
fn clock(home: &Home, name: &str) -> Tree {
    let tree = project::program(home, name, "fn main() { println!(\"{}\", pm::now!()) }");
    tree.edit("Cargo.toml", "[workspace]", "[dependencies]\npm = { path = \"pm\" }\n[workspace]");
    tree.write(
        "pm/Cargo.toml",
        "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    );
    tree.write("pm/src/lib.rs", CLOCK);
    tree
}

#[test]
fn key_23_a_reproducible_build_is_verified_without_changing_it() {
    let home = Home::new();
    let tree = mini(&home, "ws");
    home.cargo(&tree, &["build", "--all-targets"]).ok();
    home.cargo(&tree, &["check"]).ok();
    home.cargo(&tree, &["clippy"]).ok();
    home.cargo(&tree, &["build", "--release", "-p", "app"]).ok();
    let before = tree.files("");
    let (found, built) = verify(&home, &["--all"]);
    assert_eq!(built.code, Some(0), "{built:#?}");
    assert!(found["verified"].as_u64().unwrap() > 20, "{built:#?}");
    assert_eq!(found["agreed"], found["verified"], "{built:#?}");
    assert_eq!(found["skipped"], serde_json::json!({}), "{built:#?}");
    assert_eq!(built.calls.0, [], "verification is not logged as a wrapper call");
    assert_untouched(&tree.files(""), &before);
    let left = fs::read_dir(home.variable("KACHE_CACHE_DIR").join("verify")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["command.lock"]);
    home.cargo(&tree, &["build", "--all-targets"]).ok().expect_silent();
}

#[test]
fn key_23_two_results_of_one_action_are_found_and_named() {
    let home = Home::new();
    let tree = clock(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    let first = tree.prints("target/debug/prog");
    let (found, built) = verify(&home, &["--crate", "prog"]);
    assert_eq!(built.code, Some(7), "{built:#?}");
    assert_eq!((&found["verified"], &found["disagreed"]), (&1.into(), &1.into()), "{built:#?}");
    let one = &found["disagreements"][0];
    assert_eq!(one["crate_name"], "prog");
    assert!(one["output"].as_str().unwrap().starts_with("out/debug/deps/prog-"), "{one}");
    assert!(one["offset"].as_u64().unwrap() > 0 && one["differing_bytes"].as_u64().unwrap() > 0, "{one}");
    // The action stays quarantined, so it is not verified again.
    let (found, _) = verify(&home, &["--all"]);
    assert_eq!(found["skipped"]["out_of_service"], 1, "{found:#}");
    assert_eq!(found["agreed"], 1, "the macro itself is reproducible: {found:#}");
    // A quarantined action is compiled, and is right.
    tree.remove("target");
    let again = home.cargo(&tree, &["build"]).ok();
    let call = again.calls.compiles().find(|call| call.crate_name == "prog").unwrap();
    assert_eq!((&*call.result, call.compiler_runs), ("miss", 1), "{again:#?}");
    assert_ne!(tree.prints("target/debug/prog"), first);
}

#[test]
fn key_23_every_output_that_differs_is_named() {
    for home in Home::of_both_kinds() {
        let tree = clock(&home, "a");
        tree.remove("src/main.rs").write("src/lib.rs", "pub const NOW: u64 = pm::now!();");
        home.cargo(&tree, &["build"]).ok();
        let text = home.kache(&["verify", "--crate", "prog"]).run();
        assert_eq!(text.code, Some(7), "{text:#?}");
        let lines: Vec<_> = text.stdout.lines().filter(|line| line.starts_with("prog: action ")).collect();
        let [rlib, rmeta] = lines[..] else { panic!("{text:#?}") };
        for (line, end, says) in
            [(rlib, ".rlib` differs", "is quarantined:"), (rmeta, ".rmeta` differs", "also:")]
        {
            assert!(line.contains(end) && line.contains(says) && line.contains(" first at byte "), "{line}");
        }
        // Another checkout, whose first result has nothing to be compared with.
        let tree = clock(&home, "b");
        tree.remove("src/main.rs").write("src/lib.rs", "pub const NOW: u64 = pm::now!() + 1;");
        home.cargo(&tree, &["build"]).ok();
        let (found, _) = verify(&home, &["--crate", "prog"]);
        let one = &found["disagreements"][0];
        let outputs = one["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 2, "{found:#}");
        for output in outputs {
            for number in ["offset", "differing_bytes", "stored_bytes", "made_bytes"] {
                assert!(output[number].as_u64().unwrap() > 0, "{number} in {output}");
            }
            assert!(output["offset"].as_u64() < output["stored_bytes"].as_u64(), "{output}");
        }
        assert_eq!(one["output"], outputs[0]["output"]);
    }
}

#[test]
fn key_23_stored_actions_are_verified_without_a_daemon_too() {
    let home = Home::alone();
    let tree = mini(&home, "ws");
    home.cargo(&tree, &["check", "-p", "kcore"]).ok();
    let (found, built) = verify(&home, &["--all"]);
    assert_eq!(built.code, Some(0), "{built:#?}");
    assert!(found["verified"].as_u64().unwrap() > 3, "{built:#?}");
    assert_eq!(found["agreed"], found["verified"], "{built:#?}");
    assert!(home.daemon_pid().is_none(), "no daemon may be started");
    // A running daemon has the store open.
    let with_daemon = home.with("KACHE_DAEMON", "");
    with_daemon.start();
    let refused = with_daemon.kache(&["verify", "--all"]).env("KACHE_DAEMON", "never").run();
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stderr.contains("a daemon has the store open")
            && refused.stderr.contains("KACHE_DAEMON=never"),
        "{refused:#?}"
    );
    assert!(with_daemon.daemon_pid().is_some());
}

#[test]
fn key_23_edited_or_removed_inputs_are_no_difference() {
    let home = Home::new();
    let tree = clock(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    tree.write("src/main.rs", "fn main() { println!(\"{}\", pm::now!() + 1) }");
    let (found, built) = verify(&home, &["--crate", "prog"]);
    assert_eq!((built.code, &found["skipped"]["inputs_changed"]), (Some(0), &1.into()), "{built:#?}");
    tree.write("src/main.rs", "fn main() { println!(\"{}\", pm::now!()) }");
    fs::rename(tree.path(), tree.path().with_extension("moved")).unwrap();
    let (found, built) = verify(&home, &["--all"]);
    assert_eq!((built.code, &found["skipped"]["checkout_gone"]), (Some(0), &2.into()), "{built:#?}");
    assert_eq!(found["verified"], 0, "{built:#?}");
}

#[test]
fn key_23_a_sample_can_be_repeated_by_its_seed() {
    let home = Home::new();
    let tree = mini(&home, "ws");
    home.cargo(&tree, &["check"]).ok();
    let sample = |seed: &str| {
        let built = home.kache(&["verify", "--sample", "3", "--seed", seed]).ok();
        assert!(built.stdout.starts_with("verified 3 actions in"), "{built:#?}");
        let first_line = format!("kache: verifying a sample of 3 (--seed {seed})\n");
        assert!(built.stderr.starts_with(&first_line), "{built:#?}");
        built.stderr.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sample("1"), sample("1"));
    let unknown = home.kache(&["verify", "--crate", "nothing"]).run();
    assert_eq!(unknown.code, Some(1), "{unknown:#?}");
    assert!(
        unknown.stderr.contains("the event log has no stored action of a crate `nothing`"),
        "{unknown:#?}"
    );
}

#[test]
fn key_23_an_action_is_compared_only_with_its_own_result() {
    let home = Home::new();
    let (first, second) = (mini(&home, "a"), mini(&home, "b"));
    home.cargo(&first, &["check", "-p", "kcore"]).ok();
    second.write("kcore/src/a.rs", "pub const A: &str = \"other\";\n");
    home.cargo(&second, &["check", "-p", "kcore"]).ok();
    // From now on the first checkout's action is the second one's.
    first.write("kcore/src/a.rs", "pub const A: &str = \"other\";\n");
    let (found, built) = verify(&home, &["--crate", "kcore"]);
    assert_eq!((&found["agreed"], &found["skipped"]["inputs_changed"]), (&1.into(), &1.into()), "{built:#?}");
}
