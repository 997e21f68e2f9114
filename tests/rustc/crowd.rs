//! Many builds at once, and processes that are killed meanwhile: NET-03, RST-01, RST-02, DMN-03, STO-01.

use std::collections::BTreeSet;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::acting::{Meeting, acting, waiting};
use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::report::Calls;
use crate::tree::assert_untouched;

const BUILD: &[&str] = &["build", "--workspace"];

#[test]
fn rst_02_thirty_worktrees_are_restored_at_once() {
    let home = Home::new();
    let first = project::mini(&home, "first");
    home.cargo(&first, BUILD).ok();
    let before = first.files("target");
    let trees: Vec<_> = (0..30).map(|number| project::mini(&home, &format!("tree {number}"))).collect();
    let builds: Vec<Child> = trees.iter().map(|tree| home.cargo(tree, BUILD).spawn()).collect();
    for build in builds {
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let calls = Calls(home.new_calls());
    // On a machine that is too busy for all of them, a call may bypass the cache. None is a miss.
    assert_eq!(calls.crates("miss"), [""; 0]);
    assert!(calls.crates("local_hit").len() > calls.0.len() / 2, "{calls:#?}");
    let files: Vec<_> = trees.iter().map(|tree| tree.files("target")).collect();
    let artifacts: BTreeSet<_> = first.artifacts("target").into_keys().collect();
    for (tree, files) in trees.iter().zip(&files) {
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        assert!(artifacts.iter().all(|name| files.contains_key(name)), "{}", tree.text());
        home.cargo(tree, BUILD).ok().expect_silent();
    }
    assert_untouched(&first.files("target"), &before);
    // A build in one of them does not affect the others.
    let before: Vec<_> = trees.iter().map(|tree| tree.artifacts("target")).collect();
    trees[0].edit("util/src/lib.rs", "\"hello\"", "\"hullo\"");
    home.cargo(&trees[0], BUILD).ok();
    for (tree, before) in trees.iter().zip(&before).skip(1) {
        assert_untouched(&tree.artifacts("target"), before);
    }
}

#[test]
fn dmn_03_both_calls_end_when_the_daemon_of_a_leader_and_a_follower_is_killed() {
    let home = Home::new();
    let tree = home.tree("ws");
    let unit = acting(&home, &tree);
    let places = ["one", "two"].map(|name| home.tree(&format!("ws/{name}")));
    let [leader, follower] = places.each_ref().map(|place| {
        let child = unit.kache_over_it().env("ACT", &format!("wait {}", place.text())).spawn();
        if place.path().ends_with("one") {
            eventually("the leader's compile", || waiting(place).len() == 1);
        }
        child
    });
    home.kill_daemon();
    // The waiting call gets no response any more, so its client compiles.
    eventually("the other's compile", || waiting(&places[1]).len() == 1);
    for (place, child) in places.iter().zip([leader, follower]) {
        place.write("go", "");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(tree.prints(unit.output("").to_str().unwrap()), "acted");
    }
    home.start();
    home.new_calls();
    unit.compare();
    assert_eq!(unit.hits(), "acted");
}

#[test]
fn net_03_a_follower_compiles_when_the_leaders_compiler_was_killed() {
    let home = Home::new();
    let tree = home.tree("ws");
    let meeting = Meeting::at(home.base().join("meeting"));
    let unit = acting(&home, &tree).env("ACT", &meeting.act());
    let leader = unit.kache_over_it().spawn();
    let (compiler, _leaders) = meeting.meet("the leader's compile");
    let follower = unit.kache_over_it().spawn();
    kill(Pid::from_raw(compiler), Signal::SIGKILL).unwrap();
    let output = leader.wait_with_output().unwrap();
    assert!(!output.status.success(), "a compiler that was killed made no output: {output:?}");
    let (_, followers) = meeting.meet("the other's compile");
    drop((followers, meeting));
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(tree.prints(unit.output("").to_str().unwrap()), "acted");
    let results: BTreeSet<_> = home.new_calls().into_iter().map(|call| call.result).collect();
    assert!(results.contains("skipped") && results.contains("miss"), "{results:?}");
    assert_eq!(unit.hits(), "acted");
}
