//! Edits: a crate that is being edited is compiled incrementally and correctly, and its outputs are not shared.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::step::Built;
use crate::tree::{Tree, assert_untouched, different};

const UTIL: &str = "util/src/lib.rs";

/// The program's output if `util` returns this text.
fn prints(said: &str) -> String {
    PRINTS.replace("said=hello", &format!("said={said}"))
}

/// Edits `util`, on which every other crate depends.
fn say(tree: &Tree, before: &str, now: &str) {
    tree.edit(UTIL, &format!("\"{before}\""), &format!("\"{now}\""));
}

/// The directories with incremental state of this crate.
fn state_of(tree: &Tree, crate_name: &str) -> usize {
    let prefix = format!("{crate_name}-");
    let Ok(entries) = fs::read_dir(tree.join("target/debug/incremental")) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(&prefix)).count()
}

/// The names of all files in the store.
fn stored(home: &Home) -> BTreeSet<String> {
    let store = Tree::new(home.variable("KACHE_CACHE_DIR"));
    store.files("blobs").into_keys().collect()
}

/// The crates that were compiled because they, or their dependencies, are being edited.
fn edited(built: &Built) -> Vec<&str> {
    let calls = built.calls.compiles().filter(|call| call.reason == "editing");
    let mut names: Vec<_> = calls.map(|call| &*call.crate_name).collect();
    names.sort_unstable();
    names
}

#[test]
fn rst_01_after_every_edit_the_program_is_right_and_cargo_finds_all_fresh() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &["build"]).ok().expect_all_misses();
    assert_eq!(state_of(&tree, "util"), 0, "no source was edited");
    let before = stored(&home);
    for (before, now) in [("hello", "one"), ("one", "two"), ("two", "three")] {
        say(&tree, before, now);
        let built = home.cargo(&tree, &["build"]).ok();
        assert_eq!(edited(&built), ["app", "kcore", "util"], "{built:#?}");
        assert_eq!(tree.prints("target/debug/app"), prints(now));
        home.cargo(&tree, &["build"]).ok().expect_silent();
        assert_eq!((state_of(&tree, "util"), state_of(&tree, "kcore"), state_of(&tree, "app")), (1, 1, 1));
    }
    assert_eq!(stored(&home), before, "the output differs from run to run");
}

#[test]
fn key_17_incremental_outputs_are_not_restored_in_another_worktree() {
    let home = Home::new();
    let [one, two, three] = ["a", "b longer", "c"].map(|name| project::mini(&home, name));
    home.cargo(&one, &["build"]).ok();
    say(&one, "hello", "hullo");
    home.cargo(&one, &["build"]).ok();
    let before = one.files("target");
    say(&two, "hello", "hullo");
    let built = home.cargo(&two, &["build"]).ok();
    assert_eq!(built.calls.crates("miss"), ["app", "kcore", "util"], "{built:#?}");
    assert_eq!(two.prints("target/debug/app"), prints("hullo"));
    assert_eq!(state_of(&two, "util"), 0, "it is compiled there for the first time");
    home.cargo(&two, &["build"]).ok().expect_silent();
    say(&three, "hello", "hullo");
    home.cargo(&three, &["build"]).ok().expect_all_hits();
    assert_eq!(different(&three.artifacts("target"), &two.artifacts("target")), [""; 0]);
    assert_eq!(three.prints("target/debug/app"), prints("hullo"));
    assert_untouched(&one.files("target"), &before);
    home.cargo(&one, &["build"]).ok().expect_silent();
}

#[test]
fn rst_01_an_edit_that_is_taken_back_is_a_hit() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    let before = tree.artifacts("target");
    for round in ["first", "second"] {
        say(&tree, "hello", round);
        assert_eq!(edited(&home.cargo(&tree, &["build"]).ok()), ["app", "kcore", "util"]);
        assert_ne!(different(&tree.artifacts("target"), &before), [""; 0]);
        say(&tree, round, "hello");
        home.cargo(&tree, &["build"]).ok().expect_all_hits();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        assert_eq!(different(&tree.artifacts("target"), &before), [""; 0], "the stored result is restored");
        assert_eq!(state_of(&tree, "util"), 0, "the crate is not being edited any more");
        home.cargo(&tree, &["build"]).ok().expect_silent();
    }
}

#[test]
fn key_17_a_committed_change_is_stored_and_shared() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    home.cargo(&one, &["build"]).ok();
    say(&one, "hello", "draft");
    assert_eq!(edited(&home.cargo(&one, &["build"]).ok()), ["app", "kcore", "util"]);
    // As git leaves the file after it has checked out another commit.
    say(&one, "draft", "commit");
    one.write(".git/logs/HEAD", "");
    let built = home.cargo(&one, &["build"]).ok();
    assert_eq!((edited(&built).len(), built.calls.crates("miss")), (0, vec!["app", "kcore", "util"]));
    assert_eq!(one.prints("target/debug/app"), prints("commit"));
    assert_eq!(state_of(&one, "util"), 0);
    home.cargo(&one, &["build"]).ok().expect_silent();
    say(&two, "hello", "commit");
    home.cargo(&two, &["build"]).ok().expect_all_hits();
    assert_eq!(two.prints("target/debug/app"), prints("commit"));
    // Then the next edit.
    say(&one, "commit", "more");
    assert_eq!(edited(&home.cargo(&one, &["build"]).ok()), ["app", "kcore", "util"]);
    assert_eq!(one.prints("target/debug/app"), prints("more"));
}

#[test]
fn rst_01_metadata_of_an_earlier_edit_gets_a_new_date() {
    // Otherwise the hit below would remove rustc's incremental state.
    let home = Home::new().with("KACHE_CLEAN_INCREMENTAL", "0");
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    say(&tree, "hello", "again");
    home.cargo(&tree, &["build"]).ok();
    say(&tree, "again", "hello");
    home.cargo(&tree, &["build"]).ok().expect_all_hits();
    // rustc's incremental state still has this version's metadata, with the date of that time.
    say(&tree, "hello", "again");
    home.cargo(&tree, &["build", "-p", "util"]).ok();
    let built = home.cargo(&tree, &["build"]).ok();
    assert_eq!(tree.prints("target/debug/app"), prints("again"), "{built:#?}");
    home.cargo(&tree, &["build"]).ok().expect_silent();
}

#[test]
fn rst_01_an_edited_crate_can_be_checked_tested_and_linted() {
    for args in
        [&["check", "--workspace", "--all-targets"][..], &["test", "--workspace"], &["clippy", "--workspace"]]
    {
        let home = Home::new();
        let tree = project::mini(&home, "a");
        tree.write("util/tests/says.rs", "#[test]\nfn says() { println!(\"{}\", util::shout()) }\n");
        home.cargo(&tree, args).ok();
        for (before, now) in [("hello", "one"), ("one", "two")] {
            say(&tree, before, now);
            let built = home.cargo(&tree, args).ok();
            let names = edited(&built);
            assert!(names.contains(&"util") && names.contains(&"app"), "{args:?} {built:#?}");
            assert!(built.calls.crates("miss").is_empty(), "{args:?} {built:#?}");
            assert!(state_of(&tree, "util") > 0);
            home.cargo(&tree, args).ok().expect_silent();
        }
        say(&tree, "two", "hello");
        home.cargo(&tree, args).ok().expect_all_hits();
        home.cargo(&tree, args).ok().expect_silent();
    }
}

#[test]
fn rst_02_edits_in_two_worktrees_do_not_affect_each_other() {
    let home = Home::new();
    let trees = [project::mini(&home, "a"), project::mini(&home, "b")];
    for tree in &trees {
        home.cargo(tree, &["build"]).ok();
    }
    // First different edits, then the same one in both worktrees.
    for edits in [[("hello", "one"), ("hello", "other")], [("one", "both"), ("other", "both")]] {
        let builds = trees.each_ref().map(|tree| home.cargo(tree, &["build"]));
        for (tree, (before, now)) in trees.iter().zip(edits) {
            say(tree, before, now);
        }
        for child in builds.map(|build| build.spawn()) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        for call in crate::report::Calls(home.new_calls()).compiles() {
            assert_eq!(call.reason, "editing", "{call:?}");
            assert!(!call.has_waited, "for what is not shared: {call:?}");
        }
        for (tree, (_, now)) in trees.iter().zip(edits) {
            assert_eq!(tree.prints("target/debug/app"), prints(now));
            home.cargo(tree, &["build"]).ok().expect_silent();
        }
    }
}

#[test]
fn dmn_03_builds_are_right_after_a_new_daemon_has_forgotten_the_edits() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    say(&tree, "hello", "before");
    home.cargo(&tree, &["build"]).ok();
    home.kill_daemon();
    home.start();
    // The daemon recognises this edit by the sources.
    tree.edit("kcore/src/a.rs", "\"a\"", "\"A\"");
    let built = home.cargo(&tree, &["build"]).ok();
    assert_eq!(edited(&built), ["app", "kcore"], "{built:#?}");
    assert_eq!(tree.prints("target/debug/app"), prints("before").replace("a=a b", "a=A b"));
    home.cargo(&tree, &["build"]).ok().expect_silent();
    // A daemon that is killed while it works.
    for (delay_ms, before, now) in [(100, "before", "then"), (300, "then", "now")] {
        say(&tree, before, now);
        let child = home.cargo(&tree, &["build"]).spawn();
        std::thread::sleep(Duration::from_millis(delay_ms));
        home.kill_daemon();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        home.cargo(&tree, &["build"]).ok_unwatched();
        assert_eq!(tree.prints("target/debug/app"), prints(now).replace("a=a b", "a=A b"));
    }
    // The edit is taken back: the result that was stored at first is right, here and in other worktrees.
    say(&tree, "now", "hello");
    tree.edit("kcore/src/a.rs", "\"A\"", "\"a\"");
    for tree in [&tree, &project::mini(&home, "b")] {
        home.cargo(tree, &["build"]).ok();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
}

#[test]
fn rst_10_an_edit_that_compiles_after_one_that_does_not_is_right() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &["build"]).ok();
    // One error is found before rustc writes a dep-info, the other one afterwards.
    for (wrong, right) in [("pub fn shout( {", "pub fn shout() {"), ("-> &'static u8", "-> &'static str")] {
        let text = tree.read(UTIL);
        let broken = if text.contains(right) { text.replace(right, wrong) } else { wrong.to_owned() };
        tree.write(UTIL, broken);
        let said = |step: crate::step::Step<'_>| {
            let built = step.run();
            assert_eq!(built.code, Some(101), "{built:#?}");
            built
                .stderr
                .lines()
                .filter(|line| line.starts_with("error"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let with = said(home.cargo(&tree, &["build"]));
        assert_eq!(with, said(home.plain_cargo(&tree, &["build"])));
        tree.write(UTIL, text + "// ");
        let built = home.cargo(&tree, &["build"]).ok();
        assert_eq!(edited(&built), ["app", "kcore", "util"], "{built:#?}");
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        home.cargo(&tree, &["build"]).ok().expect_silent();
    }
}

#[test]
fn key_09_only_compiles_that_cargo_wants_incremental_are_incremental() {
    for (args, variable, value) in [
        (&["build", "--release"][..], "X", ""),
        (&["build"], "CARGO_INCREMENTAL", "0"),
        (&["build"], "KACHE_INCREMENTAL_EDITS", "0"),
    ] {
        let home = Home::new().with(variable, value);
        let trees = [project::mini(&home, "a"), project::mini(&home, "b")];
        for (tree, is_known) in trees.iter().zip([false, true]) {
            home.cargo(tree, args).ok();
            say(tree, "hello", "hullo");
            let built = home.cargo(tree, args).ok();
            match is_known {
                true => built.expect_all_hits(),
                false => built.expect_all_misses(),
            }
            assert_eq!(state_of(tree, "util"), 0);
            home.cargo(tree, args).ok().expect_silent();
        }
    }
}

#[test]
fn key_01_a_file_that_a_build_script_generates_is_no_edit() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    for tree in [&one, &two] {
        home.cargo(tree, &["build"]).ok();
    }
    one.edit("kcore/build.rs", "\\\"made\\\"", "\\\"remade\\\"");
    let built = home.cargo(&one, &["build"]).ok();
    assert_eq!(
        (edited(&built), built.calls.crates("miss")),
        (vec!["build_script_build"], vec!["app", "kcore"])
    );
    two.edit("kcore/build.rs", "\\\"made\\\"", "\\\"remade\\\"");
    let built = home.cargo(&two, &["build"]).ok();
    assert_eq!(built.calls.crates("local_hit"), ["app", "kcore"], "{built:#?}");
    for tree in [&one, &two] {
        assert_eq!(tree.prints("target/debug/app"), PRINTS.replace("made=made", "made=remade"));
        home.cargo(tree, &["build"]).ok().expect_silent();
    }
}
