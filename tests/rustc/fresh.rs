//! How cargo judges restored files: RST-01, RST-02, RST-12, and what is shared (KEY-17).

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::step::{Built, Step};
use crate::toolchain::host;
use crate::tree::{Stamp, Tree, assert_untouched};

/// Builds once, and then asserts that two more builds find everything fresh. Returns the first build.
#[track_caller]
fn build(home: &Home, tree: &Tree, args: &[&str]) -> Built {
    let first = home.cargo(tree, args).ok();
    for _ in 0..2 {
        home.cargo(tree, args).ok().expect_silent();
    }
    first
}

/// A way to start cargo, with its arguments and variables.
pub(crate) struct Way<'a> {
    pub(crate) args: &'a [&'a str],
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// The path of the program, if one is built.
    pub(crate) program: Option<&'a str>,
}

impl Way<'_> {
    fn step<'h>(&self, home: &'h Home, tree: &Tree) -> Step<'h> {
        let step = home.cargo(tree, self.args);
        self.env.iter().fold(step, |step, (name, value)| step.env(name, value))
    }

    /// Builds once, and then asserts that two more builds find everything fresh. Returns the first build.
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

    /// Builds in one worktree and then in two more. Asserts that nothing is compiled again, that everything is
    /// fresh everywhere, and that a build changes no file of another worktree.
    #[track_caller]
    pub(crate) fn in_three_worktrees(&self, home: &Home, lay: impl Fn(&Home, &str) -> Tree) {
        let names = ["a/ws", "some where/much/longer than the first/ws", "c/ws"];
        let trees = names.map(|name| lay(home, name));
        // A target directory may be beside its worktree.
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

/// Asserts that no file has a date in the future (RST-12).
fn nothing_is_from_the_future(files: &BTreeMap<String, Stamp>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (name, stamp) in files {
        assert!(stamp.mtime.0 <= now.cast_signed(), "{name}: {stamp:?}");
    }
}

#[test]
fn rst_01_after_build_all_units_are_fresh() {
    in_three_worktrees(&["build", "--workspace"], Some("target/debug/app"));
}

#[test]
fn rst_01_after_check_all_units_are_fresh() {
    in_three_worktrees(&["check", "--workspace", "--all-targets"], None);
}

#[test]
fn rst_01_after_test_all_units_are_fresh() {
    // `cargo test` also runs the tests, including those in the documentation.
    in_three_worktrees(&["test", "--workspace"], Some("target/debug/app"));
}

#[test]
fn rst_01_after_clippy_all_units_are_fresh() {
    in_three_worktrees(&["clippy", "--workspace"], None);
}

#[test]
fn rst_01_after_doc_all_units_are_fresh() {
    // rustdoc is not called through the wrapper, but it reads metadata that the wrapper restored.
    in_three_worktrees(&["doc", "--workspace"], None);
}

#[test]
fn rst_01_after_a_release_build_all_units_are_fresh() {
    in_three_worktrees(&["build", "--workspace", "--release"], Some("target/release/app"));
}

#[test]
fn rst_01_after_a_build_with_a_custom_profile_all_units_are_fresh() {
    in_three_worktrees(&["build", "--workspace", "--profile", "quick"], Some("target/quick/app"));
}

#[test]
fn rst_01_after_examples_and_benches_all_units_are_fresh() {
    in_three_worktrees(&["build", "--workspace", "--examples"], None);
    in_three_worktrees(&["bench", "--workspace", "--no-run"], Some("target/release/app"));
}

#[test]
fn rst_01_tests_and_benches_without_a_harness_are_restored() {
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
fn rst_01_after_a_build_for_a_named_target_all_units_are_fresh() {
    let program = format!("target/{}/debug/app", host());
    in_three_worktrees(&["build", "--workspace", "--target", host()], Some(&program));
}

#[test]
fn rst_01_after_a_build_with_json_messages_all_units_are_fresh() {
    in_three_worktrees(
        &["build", "--workspace", "--message-format", "json-render-diagnostics"],
        Some("target/debug/app"),
    );
}

#[test]
fn rst_01_after_builds_with_alternating_features_all_units_are_fresh() {
    let home = Home::new();
    let turns: [&[&str]; 4] = [&["build", "-p", "a"], &["build", "-p", "b"], &["build"], &["check"]];
    // The programs' output when each is built alone, and when both are built together.
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
fn rst_01_after_alternating_commands_all_units_are_fresh() {
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
    // The number of files that cargo itself writes in each build.
    let before = one.files("target");
    // The edit is taken back: everything is a hit.
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
fn rst_12_no_file_has_a_date_in_the_future() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    for tree in [&one, &two] {
        // The files of a checkout from a machine whose clock is wrong.
        for path in ["util/src/lib.rs", "kcore/src/data.txt", "Cargo.toml"] {
            let file = fs::File::options().append(true).open(tree.join(path)).unwrap();
            file.set_modified(SystemTime::now() + std::time::Duration::from_secs(1_000_000)).unwrap();
        }
        home.cargo(tree, &["build"]).ok();
        nothing_is_from_the_future(&tree.files("target"));
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
}
