//! `KACHE_DAEMON=never`: every call opens the store itself, and no daemon is started.

use std::fs::{self, File};

use nix::fcntl::{Flock, FlockArg};

use crate::acting::{acting, waiting};
use crate::home::{Home, eventually};
use crate::project::{PRINTS, mini, mini_far_away};
use crate::report::Call;
use crate::step::Built;
use crate::unit::Unit;

/// Asserts that no daemon was started and that there is no socket directory.
#[track_caller]
fn assert_alone(home: &Home) {
    assert_eq!(home.daemon_pid(), None);
    assert!(!home.variable("KACHE_SOCKET_DIR").exists());
}

#[track_caller]
fn assert_passed_by(built: &Built) {
    let compiles: Vec<&Call> = built.calls.compiles().collect();
    assert!(!compiles.is_empty(), "{built:#?}");
    for call in compiles {
        assert_eq!((&*call.result, &*call.reason), ("passthrough", "store_unusable"), "{built:#?}");
    }
}

#[test]
fn dmn_03_without_a_daemon_the_second_worktree_gets_hits() {
    let home = Home::alone();
    let first = mini(&home, "a");
    let cold = home.cargo(&first, &["build", "--all-targets"]).ok();
    cold.expect_all_misses();
    let second = mini_far_away(&home);
    let warm = home.cargo(&second, &["build", "--all-targets"]).ok();
    warm.expect_all_hits();
    for tree in [&first, &second] {
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        home.cargo(tree, &["build", "--all-targets"]).ok().expect_silent();
    }
    assert_alone(&home);
}

#[test]
fn rst_07_without_a_daemon_messages_and_exit_codes_are_the_same() {
    let home = Home::alone();
    let tree = home.tree("ws");
    tree.write("src/one.rs", "fn main() { let unused = 1; println!(\"1\") }");
    let unit = Unit::bin(&home, &tree, "one");
    assert_eq!(unit.misses(), "1");
    assert_eq!(unit.hits(), "1");
    tree.write("src/one.rs", "fn main() { wrong }");
    assert!(unit.fails().contains("E0425"));
    tree.write("src/one.rs", "fn main() { println!(\"2\") }");
    assert_eq!(unit.misses(), "2");
    assert_alone(&home);
}

#[test]
fn dmn_03_without_a_daemon_two_builds_at_once_share_the_store() {
    let home = Home::alone();
    let trees = ["a", "b"].map(|name| mini(&home, name));
    let running = trees.each_ref().map(|tree| home.cargo(tree, &["build"]).spawn());
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    for tree in &trees {
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
    let (mut stored, calls) = (0, home.new_calls());
    for call in &calls {
        // On a busy machine, a call may have given up waiting for the store.
        assert!(call.is_hit() || call.result == "miss" || call.reason == "store_unusable", "{calls:#?}");
        stored += usize::from(call.is_compile() && !call.action.is_empty());
    }
    assert!(stored > 0, "{calls:#?}");
    let third = mini(&home, "c");
    let again = home.cargo(&third, &["build"]).ok();
    assert!(again.calls.compiles().any(Call::is_hit), "{again:#?}");
    assert_eq!(third.prints("target/debug/app"), PRINTS);
    assert_alone(&home);
}

#[test]
fn dmn_03_without_a_daemon_the_store_is_closed_while_a_compiler_runs() {
    let home = Home::alone();
    let tree = home.tree("ws");
    let unit = acting(&home, &tree);
    let child = unit.kache().env("ACT", &format!("wait {}", tree.text())).spawn();
    eventually("the compiler's waiting", || !waiting(&tree).is_empty());
    tree.write("src/other.rs", "pub fn other() {}");
    let other = Unit::lib(&home, &tree, "other");
    other.misses();
    other.hits();
    tree.write("go", "");
    assert!(child.wait_with_output().unwrap().status.success());
    let calls = home.new_calls();
    assert_eq!(calls[0].result, "miss", "{calls:#?}");
    assert!(
        !calls[0].not_stored.contains("failed to read"),
        "the observer's record of the waiting compile is still there: {calls:#?}"
    );
}

#[test]
fn dmn_03_a_call_compiles_if_another_process_has_the_store_open() {
    let home = Home::alone();
    let tree = mini(&home, "a");
    let cache = home.variable("KACHE_CACHE_DIR");
    fs::create_dir_all(&cache).unwrap();
    let held =
        Flock::lock(File::create(cache.join("lock")).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
    let built = home.cargo(&tree, &["build"]).ok();
    assert_passed_by(&built);
    assert_eq!(tree.prints("target/debug/app"), PRINTS);
    drop(held);
    tree.remove("target");
    fs::remove_file(cache.join("embedded.busy")).expect("a call that waited in vain leaves this file");
    home.cargo(&tree, &["build"]).ok().expect_all_misses();
}

#[test]
fn dmn_03_a_daemon_keeps_its_store() {
    let home = Home::new();
    let tree = mini(&home, "a");
    let built = home.cargo(&tree, &["build"]).env("KACHE_DAEMON", "never").ok();
    assert_passed_by(&built);
    let busy = home.variable("KACHE_CACHE_DIR").join("embedded.busy");
    assert!(!busy.exists(), "a call does not wait for a store that a daemon has open");
    tree.remove("target");
    home.cargo(&tree, &["build"]).ok().expect_all_misses();
}

#[test]
fn without_a_daemon_no_remote_is_asked_and_results_are_stored_all_the_same() {
    let remote = tempfile::tempdir().unwrap();
    let home = Home::alone().with("KACHE_REMOTE", &format!("file://{}", remote.path().display()));
    let first = mini(&home, "a");
    home.cargo(&first, &["build", "--workspace"]).ok().expect_all_misses();
    let second = mini_far_away(&home);
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
    assert_eq!(fs::read_dir(remote.path()).unwrap().count(), 0);
    assert_alone(&home);
}
