//! What cargo makes of restored files: RST-01, RST-02, RST-12, and what is shared (KEY-17).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::step::Built;
use crate::tree::{Tree, assert_untouched};

/// Builds once, then twice more; then cargo has nothing to do. What the first did.
#[track_caller]
fn build(home: &Home, tree: &Tree, args: &[&str]) -> Built {
    let first = home.cargo(tree, args).ok();
    for _ in 0..2 {
        home.cargo(tree, args).ok().expect_silent();
    }
    first
}

/// Builds in one worktree, then in two more; nothing is compiled again, nowhere is anything
/// left to do, and no worktree feels what is done in another.
fn in_three_worktrees(args: &[&str], prints: bool) {
    let home = Home::new();
    let trees = [project::mini(&home, "a"), project::mini_far_away(&home), project::mini(&home, "c")];
    let mut before: Vec<_> = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let first = build(&home, tree, args);
        if index == 0 {
            first.expect_all_misses();
        } else {
            first.expect_all_hits();
        }
        if prints {
            assert_eq!(tree.prints("target/debug/app"), PRINTS);
        }
        no_file_is_from_the_future(tree);
        for (earlier, files) in trees.iter().zip(&before) {
            assert_untouched(&earlier.files("target"), files);
        }
        before.push(tree.files("target"));
    }
    for tree in &trees {
        home.cargo(tree, args).ok().expect_silent();
    }
}

/// RST-12.
fn no_file_is_from_the_future(tree: &Tree) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (name, stamp) in tree.files("target") {
        assert!(stamp.mtime.0 <= now.cast_signed(), "{name}: {stamp:?}");
    }
}

#[test]
fn rst_01_after_build_nothing_is_left_to_do() {
    in_three_worktrees(&["build", "--workspace"], true);
}

#[test]
fn rst_01_after_check_nothing_is_left_to_do() {
    in_three_worktrees(&["check", "--workspace", "--all-targets"], false);
}

#[test]
fn rst_01_after_test_nothing_is_left_to_do() {
    in_three_worktrees(&["test", "--workspace", "--no-run"], true);
}

#[test]
fn rst_01_after_clippy_nothing_is_left_to_do() {
    in_three_worktrees(&["clippy", "--workspace"], false);
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
            let file = std::fs::File::options().append(true).open(tree.join(path)).unwrap();
            file.set_modified(SystemTime::now() + std::time::Duration::from_secs(1_000_000)).unwrap();
        }
        home.cargo(tree, &["build"]).ok();
        no_file_is_from_the_future(tree);
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
}
