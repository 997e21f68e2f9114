//! Counts the lines of a small log.

use tally::{Settings, render, tally};

const LOG: &str = include_str!("small.log");

#[test]
fn the_heaviest_level_comes_first() {
    let rows = tally(LOG, &Settings::default());
    assert_eq!(
        rows.iter().map(|row| (row.level, row.lines)).collect::<Vec<_>>(),
        [("error", 1), ("warn", 2), ("info", 1)]
    );
}

#[test]
fn light_levels_can_be_left_out() {
    let rows = tally(LOG, &Settings { at_least: 4 });
    assert_eq!(render(&rows), "level\tlines\tlast\nerror\t1\tdisk is full");
}
