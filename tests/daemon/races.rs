//! Many processes that start a daemon at once get one daemon (DMN-04).

use std::collections::BTreeSet;
use std::process::Stdio;

use crate::home::{Home, Ran, eventually};

/// Runs a command this many times at once, and returns the outcomes.
fn at_once(home: &Home, count: usize, args: &[&str]) -> Vec<Ran> {
    let spawn = |_| home.kache(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..count).map(spawn).collect();
    children.into_iter().map(|child| Ran::new(child.wait_with_output().unwrap())).collect()
}

fn pids(ran: &[Ran]) -> BTreeSet<String> {
    let pid = |ran: &Ran| ran.stderr.split_once("(pid ").unwrap().1.split_once(')').unwrap().0.to_owned();
    ran.iter().map(pid).collect()
}

#[test]
fn dmn_04_two_racing_starters_give_one_daemon() {
    for _ in 0..5 {
        let home = Home::new();
        let ran = at_once(&home, 2, &["daemon", "start"]);
        assert!(ran.iter().all(|ran| ran.code == 0), "{ran:?}");
        assert_eq!(pids(&ran).len(), 1, "{ran:?}");
    }
}

#[test]
fn dmn_04_fifty_racing_clients_give_one_daemon() {
    let home = Home::new();
    let ran = at_once(&home, 50, &["daemon", "start"]);
    assert!(ran.iter().all(|ran| ran.code == 0), "{ran:?}");
    assert_eq!(pids(&ran).len(), 1, "{ran:?}");
    let started = ran.iter().filter(|ran| ran.stderr.contains("daemon started")).count();
    assert_eq!(started, 1, "one of them started it, the others found it: {ran:?}");
}

/// Starts daemons without the lock for starting. Their own lock still leaves only one.
#[test]
fn dmn_04_of_daemons_that_are_started_directly_one_remains() {
    let home = Home::new();
    let spawn = |_| home.kache(&["daemon", "run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut children: Vec<_> = (0..5).map(spawn).collect();
    eventually("all but one giving up", || {
        let ended = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
        children.iter_mut().map(ended).filter(|ended| !ended).count() == 1
    });
    home.run(&["daemon", "stop"]).expect(0, &["daemon stopped"]);
    let ran: Vec<_> = children.into_iter().map(|child| Ran::new(child.wait_with_output().unwrap())).collect();
    assert_eq!(ran.iter().filter(|ran| ran.code == 0).count(), 1, "{ran:?}");
    let gave_up =
        ran.iter().filter(|ran| ran.code == 1 && ran.stderr.contains("a daemon is already running"));
    assert_eq!(gave_up.count(), 4, "{ran:?}");
}

#[test]
fn dmn_04_starts_and_stops_in_any_order_settle() {
    let home = Home::new();
    let spawn = |args: &[&str]| home.kache(args).stderr(Stdio::null()).spawn().unwrap();
    let mut children = Vec::new();
    for _ in 0..8 {
        children.push(spawn(&["daemon", "start"]));
        children.push(spawn(&["daemon", "stop"]));
    }
    for mut child in children {
        child.wait().unwrap();
    }
    home.start();
    home.run(&["daemon", "stop"]).expect(0, &[]);
}
