//! Counts what a log says, by level.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tally_derive::Columns;
use tally_tokens::Tokens;

/// The column titles of a table of this type.
pub trait Columns {
    /// The names of the fields, in their order.
    const COLUMNS: &'static [&'static str];
}

/// The settings of a count.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Lines of levels with a lower weight are not counted.
    pub at_least: u8,
}

/// One level with the number of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Columns)]
pub struct Row {
    /// The level's name.
    pub level: &'static str,
    /// The number of lines.
    pub lines: usize,
    /// The last message of this level.
    pub last: String,
}

/// Counts the lines of a text, the heaviest level first.
pub fn tally(text: &str, settings: &Settings) -> Vec<Row> {
    let tokens = Tokens::default();
    let lines: Vec<_> = text.par_lines().filter_map(|line| tokens.line(line).ok()).collect();
    let mut rows: BTreeMap<u8, Row> = BTreeMap::new();
    for line in lines.into_iter().filter(|line| line.weight >= settings.at_least) {
        let row = rows.entry(line.weight).or_insert_with(|| Row {
            level: line.level,
            lines: 0,
            last: String::new(),
        });
        row.lines += 1;
        row.last = line.message.to_owned();
    }
    rows.into_values().rev().collect()
}

/// Prints the rows as a table.
pub fn render(rows: &[Row]) -> String {
    let mut text = Row::COLUMNS.join("\t");
    for row in rows {
        text.push_str(&format!("\n{}\t{}\t{}", row.level, row.lines, row.last));
    }
    text
}
