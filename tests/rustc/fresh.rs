//! What cargo makes of restored files: RST-01, RST-02, RST-12, and what is shared (KEY-17).

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::step::{Built, Step};
use crate::toolchain::host;
use crate::tree::{Stamp, Tree, assert_untouched};

/// Builds once, then twice more; then cargo has nothing to do. What the first did.
#[track_caller]
fn build(home: &Home, tree: &Tree, args: &[&str]) -> Built {
    let first = home.cargo(tree, args).ok();
    for _ in 0..2 {
        home.cargo(tree, args).ok().expect_silent();
    }
    first
}

/// A way to build the small project, or another.
pub(crate) struct Way<'a> {
    pub(crate) args: &'a [&'a str],
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// Where the program then lies, if one is made.
    pub(crate) program: Option<&'a str>,
}

impl Way<'_> {
    fn step<'h>(&self, home: &'h Home, tree: &Tree) -> Step<'h> {
        let step = home.cargo(tree, self.args);
        self.env.iter().fold(step, |step, (name, value)| step.env(name, value))
    }

    /// Builds once, then twice more; then cargo has nothing to do. What the first did.
    #[track_caller]
    fn build(&self, home: &Home, tree: &Tree) -> Built {
        let first = self.step(home, tree).ok();
        for _ in 0..2 {
            self.step(home, tree).ok().expect_silent();
        }
        if let Some(program) = self.program {
            assert_eq!(tree.prints(program), PRINTS);
        }
        first
    }

    /// Builds in one worktree, then in two more; nothing is compiled again, nowhere is
    /// anything left to do, and no worktree feels what is done in another.
    #[track_caller]
    pub(crate) fn in_three_worktrees(&self, home: &Home, lay: impl Fn(&Home, &str) -> Tree) {
        let names = ["a/ws", "some where/much/longer than the first/ws", "c/ws"];
        let trees = names.map(|name| lay(home, name));
        // What is built may lie beside a worktree.
        let holders = names.map(|name| home.tree(name.strip_suffix("/ws").unwrap()));
        let mut before: Vec<_> = Vec::new();
        for (index, tree) in trees.iter().enumerate() {
            let first = self.build(home, tree);
            if index == 0 {
                first.expect_each_compiled_once();
            } else {
                first.expect_all_hits();
            }
            for (earlier, files) in holders.iter().zip(&before) {
                assert_untouched(&earlier.files(""), files);
            }
            before.push(holders[index].files(""));
            nothing_is_from_the_future(&before[index]);
        }
        for tree in &trees {
            self.step(home, tree).ok().expect_silent();
        }
    }
}

fn in_three_worktrees(args: &[&str], program: Option<&str>) {
    Way { args, env: &[], program }.in_three_worktrees(&Home::new(), project::mini);
}

/// RST-12.
fn nothing_is_from_the_future(files: &BTreeMap<String, Stamp>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (name, stamp) in files {
        assert!(stamp.mtime.0 <= now.cast_signed(), "{name}: {stamp:?}");
    }
}

#[test]
fn rst_01_after_build_nothing_is_left_to_do() {
    in_three_worktrees(&["build", "--workspace"], Some("target/debug/app"));
}

#[test]
fn rst_01_after_check_nothing_is_left_to_do() {
    in_three_worktrees(&["check", "--workspace", "--all-targets"], None);
}

#[test]
fn rst_01_after_test_nothing_is_left_to_do() {
    // It runs the tests, too, those in the documentation included.
    in_three_worktrees(&["test", "--workspace"], Some("target/debug/app"));
}

#[test]
fn rst_01_after_clippy_nothing_is_left_to_do() {
    in_three_worktrees(&["clippy", "--workspace"], None);
}

#[test]
fn rst_01_after_doc_nothing_is_left_to_do() {
    // rustdoc is not called through the wrapper, but what it reads of other crates is made by it.
    in_three_worktrees(&["doc", "--workspace"], None);
}

#[test]
fn rst_01_after_a_release_build_nothing_is_left_to_do() {
    in_three_worktrees(&["build", "--workspace", "--release"], Some("target/release/app"));
}

#[test]
fn rst_01_after_a_build_by_a_profile_of_ones_own_nothing_is_left_to_do() {
    in_three_worktrees(&["build", "--workspace", "--profile", "quick"], Some("target/quick/app"));
}

#[test]
fn rst_01_after_examples_and_benches_nothing_is_left_to_do() {
    in_three_worktrees(&["build", "--workspace", "--examples"], None);
    in_three_worktrees(&["bench", "--workspace", "--no-run"], Some("target/release/app"));
}

#[test]
fn rst_01_tests_and_benches_without_a_harness_are_found_again() {
    let home = Home::new();
    for place in ["a", "longer/b"] {
        let tree = project::program(&home, place, "fn main() {}");
        let target = |kind: &str| format!("[[{kind}]]\nname = \"own_{kind}\"\nharness = false\n");
        let manifest = fs::read_to_string(tree.join("Cargo.toml")).unwrap();
        tree.write("Cargo.toml", [manifest, target("test"), target("bench")].concat());
        for path in ["tests/own_test.rs", "benches/own_bench.rs"] {
            tree.write(path, "fn main() { println!(\"ran {}\", cfg!(test)) }");
        }
        for line in [&["test"][..], &["bench"]] {
            let built = home.cargo(&tree, line).ok();
            assert!(built.stdout.contains("ran true"), "{built:#?}");
            if place == "a" {
                built.expect_all_misses();
            } else {
                built.expect_all_hits();
            };
            home.cargo(&tree, &[line, &["--no-run"]].concat()).ok().expect_silent();
        }
    }
}

#[test]
fn rst_01_after_a_build_for_a_named_target_nothing_is_left_to_do() {
    let program = format!("target/{}/debug/app", host());
    in_three_worktrees(&["build", "--workspace", "--target", host()], Some(&program));
}

#[test]
fn rst_01_after_a_build_that_programs_read_nothing_is_left_to_do() {
    in_three_worktrees(
        &["build", "--workspace", "--message-format", "json-render-diagnostics"],
        Some("target/debug/app"),
    );
}

#[test]
fn rst_01_features_by_turns_leave_nothing_to_do() {
    let home = Home::new();
    let turns: [&[&str]; 4] = [&["build", "-p", "a"], &["build", "-p", "b"], &["build"], &["check"]];
    // What one and the other say when built alone, and when built together.
    let said = |turn: usize, tree: &Tree| {
        let prints = |name| tree.prints(&format!("target/debug/{name}"));
        match turn {
            0 => assert_eq!(prints("a"), "x=true y=false"),
            1 => assert_eq!(prints("b"), "x=false y=true"),
            2 => assert_eq!([prints("a"), prints("b")], ["x=true y=true"; 2]),
            _ => {}
        }
    };
    for (name, order) in
        [("one", [0, 1, 2, 3]), ("another which is longer", [2, 3, 1, 0]), ("c", [3, 0, 2, 1])]
    {
        let tree = project::features(&home, name);
        for turn in order {
            let first = build(&home, &tree, turns[turn]);
            if name == "one" {
                first.expect_each_compiled_once();
            } else {
                first.expect_all_hits();
            }
            said(turn, &tree);
        }
        for turn in [2, 0, 1, 0, 3, 2] {
            home.cargo(&tree, turns[turn]).ok().expect_silent();
            said(turn, &tree);
        }
    }
}

#[test]
fn rst_01_one_command_after_another_leaves_nothing_to_do() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini_far_away(&home));
    let commands: &[&[&str]] = &[
        &["build"],
        &["check"],
        &["build", "--release"],
        &["build", "-p", "util", "--features", "loud"],
        &["test", "--no-run", "-p", "kcore"],
    ];
    for args in commands {
        home.cargo(&one, args).ok();
    }
    for args in commands {
        build(&home, &two, args).expect_all_hits();
    }
    for tree in [&one, &two] {
        for args in commands {
            home.cargo(tree, args).ok().expect_silent();
        }
    }
}

#[test]
fn rst_02_edits_in_one_worktree_stay_there() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    for tree in [&one, &two] {
        home.cargo(tree, &["build"]).ok();
    }
    let before = one.files("target");
    let edits = [
        ("kcore/src/data.txt", "data", "datum"),
        ("util/src/lib.rs", "\"hello\"", "\"hullo\""),
        ("kcore/build.rs", "\\\"made\\\"", "\\\"remade\\\""),
        ("kcore/src/a.rs", "\"a\"", "\"A\""),
    ];
    for (path, from, to) in edits {
        two.edit(path, from, to);
        build(&home, &two, &["build"]);
    }
    let expected =
        PRINTS.replace("hello", "hullo").replace("data=data", "data=datum").replace("a=a b", "a=A b");
    assert_eq!(two.prints("target/debug/app"), expected.replace("made=made", "made=remade"));
    assert_untouched(&one.files("target"), &before);
    home.cargo(&one, &["build"]).ok().expect_silent();
    // That much cargo itself writes anew each time.
    let before = one.files("target");
    // And back: all of it is known.
    for (path, from, to) in edits {
        two.edit(path, to, from);
    }
    build(&home, &two, &["build"]).expect_all_hits();
    assert_eq!(two.prints("target/debug/app"), PRINTS);
    assert_untouched(&one.files("target"), &before);
}

#[test]
fn rst_02_cleaning_one_worktree_leaves_the_others() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    for tree in [&one, &two] {
        home.cargo(tree, &["build", "--workspace"]).ok();
    }
    let before = one.files("target");
    home.cargo(&two, &["clean"]).ok();
    assert!(!two.join("target").exists());
    build(&home, &two, &["build", "--workspace"]).expect_all_hits();
    home.cargo(&two, &["clean", "-p", "kcore"]).ok();
    build(&home, &two, &["build", "--workspace"]).expect_all_hits();
    assert_untouched(&one.files("target"), &before);
    home.cargo(&one, &["build", "--workspace"]).ok().expect_silent();
}

#[test]
fn rst_12_nothing_is_dated_later_than_now() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    for tree in [&one, &two] {
        // A checkout from a machine whose clock is wrong.
        for path in ["util/src/lib.rs", "kcore/src/data.txt", "Cargo.toml"] {
            let file = fs::File::options().append(true).open(tree.join(path)).unwrap();
            file.set_modified(SystemTime::now() + std::time::Duration::from_secs(1_000_000)).unwrap();
        }
        home.cargo(tree, &["build"]).ok();
        nothing_is_from_the_future(&tree.files("target"));
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
}
