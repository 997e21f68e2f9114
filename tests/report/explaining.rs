//! The commands `why-miss`, `explain` and `diff`.

use std::fs;

use kache::events::{Event, EventReason, Log, MissReason, Outcome};
use kache_cas::DigestFunction;

use crate::actions::{Library, put};
use crate::calls::{all, at, changed, local_hit};
use crate::home::Home;

const DEBUG: Library = Library { source: "fn a() {}", opt_level: "0", mode: None };
const RELEASE: Library = Library { source: "fn ab() {}", opt_level: "3", mode: Some("fast") };

fn miss(seconds: u64, action: &str) -> Event {
    Event {
        kind: "lib".to_owned(),
        version: "0.1.0".to_owned(),
        reason: Some(EventReason::Miss(MissReason::New)),
        query: Some(DigestFunction::Blake3.hash(action.as_bytes())),
        action: action.parse().ok(),
        cwd: "/home/ann/app".to_owned(),
        ..Event::new(at(seconds), "app", Outcome::Miss)
    }
}

/// A home whose store has two actions of one crate, and whose log has their calls.
fn two_actions() -> (Home, Vec<String>) {
    let home = Home::new();
    let names = put(&home, &[DEBUG, RELEASE]);
    let log = Log::open(&home.cache_dir()).unwrap();
    for (name, seconds) in names.iter().zip([0, 60]) {
        log.record(&miss(seconds, name)).unwrap();
    }
    (home, names)
}

#[test]
fn why_miss_shows_the_differences_that_the_lookup_found() {
    let earlier = Event { query: changed().query, ..miss(1, &"55".repeat(32)) };
    let home = Home::with(&[earlier, changed()]);
    insta::assert_snapshot!("why_miss_changed", home.page(&["why-miss", "app"]));
}

#[test]
fn why_miss_of_other_outcomes() {
    let home = Home::with(&all());
    insta::assert_snapshot!("why_miss_hit", home.page(&["why-miss", "regex-syntax"]));
    insta::assert_snapshot!("why_miss_passed_on", home.page(&["why-miss", "app"]));
    insta::assert_snapshot!("why_miss_failed", home.page(&["why-miss", "broken"]));
    insta::assert_snapshot!("why_miss_error", home.page(&["why-miss", "unlucky"]));
    insta::assert_snapshot!("why_miss_unknown", home.page(&["why-miss", "regex"]));
    insta::assert_snapshot!("why_miss_new", Home::with(&[miss(0, "")]).page(&["why-miss", "app"]));
    let hit = Event { kind: "lib".to_owned(), ..local_hit() };
    let renamed = Event { name: "app".to_owned(), at: at(9), ..hit };
    insta::assert_snapshot!(
        "why_miss_hit_since",
        Home::with(&[changed(), renamed]).page(&["why-miss", "app"])
    );
}

/// Without a daemon the actions are not compared, and no daemon is started.
#[test]
fn dmn_06_why_miss_starts_nothing() {
    let (home, names) = two_actions();
    let page = home.page(&["why-miss", "app"]).replace(&names[0], "BEFORE").replace(&names[1], "NOW");
    insta::assert_snapshot!("why_miss_without_daemon", page);
    assert!(!home.path().join("sockets").exists());
    let empty = Home::new();
    for command in [&["why-miss", "x"][..], &["explain", &names[0]], &["diff", &names[0], &names[1]]] {
        assert_eq!(empty.run(command).status.code(), Some(1));
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[test]
fn explain_and_diff() {
    let (home, names) = two_actions();
    insta::assert_snapshot!("explain", home.page(&["explain", &names[0]]));
    insta::assert_snapshot!("explain_short", home.page(&["explain", &names[0][..8]]));
    insta::assert_snapshot!("explain_other", home.page(&["explain", &"0".repeat(64)]));
    insta::assert_snapshot!("explain_wrong", home.page(&["explain", "serde"]));
    insta::assert_snapshot!("diff", home.page(&["diff", &names[0], &names[1]]));
    assert_eq!(home.page(&["diff", &names[0], &format!("blake3/{}/99", names[0])]), "");
}

/// A running daemon compares the actions at once. Such a request does not keep the daemon running, and changes
/// nothing.
#[test]
fn why_miss_asks_a_running_daemon() {
    let (home, names) = two_actions();
    let alone = [home.page(&["explain", &names[0]]), home.page(&["diff", &names[0], &names[1]])];
    let _daemon = home.start_daemon();
    let asked = [home.page(&["explain", &names[0]]), home.page(&["diff", &names[0], &names[1]])];
    assert_eq!(asked, alone);
    let page = home.page(&["why-miss", "app"]).replace(&names[0], "BEFORE").replace(&names[1], "NOW");
    insta::assert_snapshot!("why_miss_with_daemon", page);
    let stats = home.page(&["stats", "--format", "json"]);
    assert!(
        stats.contains("\"source\": \"daemon\"") && !stats.contains("\"logical_bytes\": null"),
        "{stats}"
    );
    assert!(home.page(&["stats"]).contains("  logical    "));
}
