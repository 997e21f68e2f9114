//! Every page as it is printed. A change of a page is reviewed as a diff.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache::events::{Event, Outcome};

use crate::calls::all;
use crate::home::Home;

#[test]
fn reports() {
    let home = Home::with(&all());
    insta::assert_snapshot!("report_text", home.page(&["report"]));
    insta::assert_snapshot!("report_json", home.page(&["report", "--format", "json"]));
    insta::assert_snapshot!("report_markdown", home.page(&["report", "--format", "markdown"]));
}

#[test]
fn reports_of_nothing() {
    let home = Home::new();
    insta::assert_snapshot!("report_empty_text", home.page(&["report"]));
    insta::assert_snapshot!("report_empty_json", home.page(&["report", "--format=json"]));
    insta::assert_snapshot!("report_empty_markdown", home.page(&["report", "--format=markdown"]));
    insta::assert_snapshot!("report_wrong_since", home.page(&["report", "--since", "yesterday"]));
}

#[test]
fn stats() {
    let home = Home::with(&all());
    insta::assert_snapshot!("stats_text", home.page(&["stats"]));
    insta::assert_snapshot!("stats_json", home.page(&["stats", "--format", "json"]));
    insta::assert_snapshot!("stats_empty", Home::new().page(&["stats"]));
}

/// Statistics create no directory, socket or daemon.
#[test]
fn dmn_06_statistics_start_nothing_and_change_nothing() {
    let home = Home::new();
    for command in ["report", "stats"] {
        assert!(home.run(&[command]).status.success());
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn since_leaves_out_older_calls() {
    let home = Home::with(&[
        Event::new(UNIX_EPOCH + Duration::from_secs(1000), "old", Outcome::Miss),
        Event::new(SystemTime::now(), "new", Outcome::LocalHit),
    ]);
    let page = home.page(&["report", "--since", "1h"]);
    assert!(page.contains("new") && !page.contains("old"), "{page}");
    assert!(home.page(&["report"]).contains("old"));
}

#[test]
fn a_truncated_log_is_reported() {
    let home = Home::with(&all());
    fs::copy("/proc/self/cmdline", home.cache_dir().join("events/00000000.events")).unwrap();
    insta::assert_snapshot!("report_not_whole", home.page(&["report"]));
}

#[test]
fn a_reader_that_closes_the_output_is_no_error() {
    let home = Home::with(&vec![all().remove(0); 3000]);
    let program = env!("CARGO_BIN_EXE_kache");
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("'{program}' report --format json | head -1; exit ${{PIPESTATUS:-0}}")])
        .env("HOME", home.path())
        .env("KACHE_CACHE_DIR", home.cache_dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "{\n");
    assert_eq!(String::from_utf8_lossy(&status.stderr), "");
}
