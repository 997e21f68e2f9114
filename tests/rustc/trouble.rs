//! Processes that die in the middle of a build, and several builds at once: DMN-03, NET-03 and STO-01.

use std::fs;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::acting::{Meeting, acting, waiting};
use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::tree::Tree;

fn start(home: &Home, tree: &Tree) -> Child {
    home.cargo(tree, &["build", "--workspace"]).spawn()
}

/// Builds to the end, and compares the outputs with those of plain cargo.
#[track_caller]
fn finish_and_compare(home: &Home, tree: &Tree) {
    let built = home.cargo(tree, &["build", "--workspace"]).run_unwatched();
    assert_eq!(built.code, Some(0), "{built:#?}");
    assert_eq!(tree.prints("target/debug/app"), PRINTS);
    home.cargo(tree, &["build", "--workspace"]).ok_unwatched();
}

/// The processes that run this program with this home's sockets.
fn processes(home: &Home, name: &str) -> Vec<Pid> {
    let sockets = home.variable("KACHE_SOCKET_DIR");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let is_named = fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if is_named && String::from_utf8_lossy(&environment).contains(sockets.to_str().unwrap()) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

#[test]
fn dmn_03_a_build_ends_right_if_the_daemon_is_killed_in_the_middle() {
    let home = Home::new();
    for (round, delay_ms) in [50, 200, 500, 900].into_iter().enumerate() {
        let tree = project::mini(&home, &format!("t{round}"));
        tree.edit("util/src/lib.rs", "hello", "hello").write("kcore/src/round.rs", format!("{round}"));
        let child = start(&home, &tree);
        std::thread::sleep(Duration::from_millis(delay_ms));
        home.kill_daemon();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        finish_and_compare(&home, &tree);
    }
    // The results that were stored in between are right.
    let last = project::mini(&home, "last");
    finish_and_compare(&home, &last);
}

#[test]
fn dmn_03_a_daemon_that_hangs_costs_its_budget_once() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    let pid = home.daemon_pid().unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    let built = home.cargo(&tree, &["build"]).run_unwatched();
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(built.code, Some(0), "{built:#?}");
    assert_eq!(tree.prints("target/debug/app"), PRINTS);
    finish_and_compare(&home, &tree);
}

#[test]
fn sto_01_a_build_is_right_after_compilers_and_wrappers_were_killed() {
    for victim in ["rustc", "kache"] {
        let home = Home::new();
        let tree = project::mini(&home, "a");
        for _ in 0..3 {
            let child = start(&home, &tree);
            let mut killed = false;
            for _ in 0..200 {
                // Not the first compiler, which only prints its version.
                if let [pid, ..] = processes(&home, victim)[..] {
                    killed |= kill(pid, Signal::SIGKILL).is_ok();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let output = child.wait_with_output().unwrap();
            assert!(
                !killed || !output.status.success() || tree.join("target/debug/app").exists(),
                "{output:?}"
            );
        }
        finish_and_compare(&home, &tree);
        let second = project::mini(&home, "b");
        finish_and_compare(&home, &second);
    }
}

#[test]
fn sto_01_a_build_is_right_after_cargo_was_killed() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    for delay_ms in [150, 400, 700] {
        let mut child = start(&home, &tree);
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually("the wrappers' end", || processes(&home, "kache").is_empty());
    finish_and_compare(&home, &tree);
    finish_and_compare(&home, &project::mini(&home, "b"));
}

#[test]
fn net_03_two_builds_compile_each_action_once() {
    let home = Home::new();
    let trees = [project::mini(&home, "a"), project::mini_far_away(&home), project::mini(&home, "c")];
    let children: Vec<_> = trees.iter().map(|tree| start(&home, tree)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let calls = crate::report::Calls(home.new_calls());
    let mut runs = std::collections::BTreeMap::<_, u64>::new();
    for call in calls.compiles() {
        *runs.entry((&call.crate_name, &call.action)).or_default() += call.compiler_runs;
    }
    assert!(runs.len() >= 10 && runs.values().all(|runs| *runs == 1), "{runs:#?}");
    for tree in &trees {
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
        home.cargo(tree, &["build", "--workspace"]).ok().expect_silent();
    }
}

#[test]
fn net_03_a_follower_compiles_when_the_leader_died() {
    let home = Home::new();
    let tree = home.tree("ws");
    let meeting = Meeting::at(home.base().join("meeting"));
    let unit = acting(&home, &tree).env("ACT", &meeting.act());
    let start = || unit.kache_over_it().spawn();
    let mut leader = start();
    let leaders = meeting.meet("the leader's compile");
    let waiters = [start(), start()];
    std::thread::sleep(Duration::from_millis(200));
    assert!(meeting.is_over(), "the others wait");
    leader.kill().unwrap();
    leader.wait().unwrap();
    let others = meeting.meet("another's compile");
    drop((leaders, others));
    for waiter in waiters {
        let output = waiter.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(meeting.is_over(), "only one of the two was compiled");
    assert_eq!(tree.prints(unit.output("").to_str().unwrap()), "acted");
    let results: Vec<_> = home.new_calls().into_iter().map(|call| call.result).collect();
    assert!(results.contains(&"dup".to_owned()) && results.contains(&"miss".to_owned()), "{results:?}");
}

/// The same crate is edited in two worktrees at the same time.
#[test]
fn net_03_a_call_does_not_wait_for_the_compile_of_another_edit() {
    let home = Home::new();
    let (one, two) = (home.tree("one"), home.tree("two"));
    let units = [&one, &two].map(|tree| {
        let unit = acting(&home, tree);
        tree.write("src/acts.rs", "mod part; pm::act!(); fn main() { println!(\"{}\", part::PART) }");
        tree.write("src/part.rs", "pub const PART: &str = \"before\";");
        unit
    });
    units[0].misses();
    units[1].hits();
    for (tree, text) in [(&one, "one"), (&two, "two")] {
        tree.edit("src/part.rs", "before", text);
    }
    let start = |index: usize, tree: &Tree| {
        units[index].kache_over_it().env("ACT", &format!("wait {}", tree.text())).spawn()
    };
    let leader = start(0, &one);
    eventually("the first compile", || waiting(&one).len() == 1);
    let other = start(1, &two);
    eventually("the other's compile, meanwhile", || waiting(&two).len() == 1);
    for (tree, child) in [(&two, other), (&one, leader)] {
        tree.write("go", "");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    for (unit, text) in units.iter().zip(["one", "two"]) {
        assert_eq!(one.prints(unit.output("").to_str().unwrap()), text);
    }
}
