//! Splits a line of a log into its level and its message.

use regex::Regex;

include!(concat!(env!("OUT_DIR"), "/levels.rs"));

/// The error for a line without a known level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no level in `{0}`")]
pub struct NoLevel(pub String);

/// The parts of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The level's name in the table of levels.
    pub level: &'static str,
    /// The level's weight: errors weigh most.
    pub weight: u8,
    /// The text after the level.
    pub message: &'a str,
}

/// Splits a line into tokens by the pattern that it compiles once.
#[derive(Debug)]
pub struct Tokens {
    level: Regex,
}

impl Default for Tokens {
    fn default() -> Self {
        let names: Vec<_> = LEVELS.iter().map(|(name, _)| *name).collect();
        let pattern = format!(r"(?i)\b({})\b:?\s*(.*)$", names.join("|"));
        Self { level: Regex::new(&pattern).expect("names of levels are plain words") }
    }
}

impl Tokens {
    /// Splits a line into its level and message.
    pub fn line<'a>(&self, text: &'a str) -> Result<Line<'a>, NoLevel> {
        let unknown = || NoLevel(text.to_owned());
        let found = self.level.captures(text).ok_or_else(unknown)?;
        let name = found.get(1).ok_or_else(unknown)?.as_str();
        let (level, weight) =
            LEVELS.iter().find(|(level, _)| level.eq_ignore_ascii_case(name)).ok_or_else(unknown)?;
        let message = found.get(2).map_or("", |message| message.as_str());
        Ok(Line { level, weight: *weight, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split() {
        let line = Tokens::default().line("12:00 WARN: disk is nearly full").unwrap();
        assert_eq!(line, Line { level: "warn", weight: 3, message: "disk is nearly full" });
    }

    #[test]
    fn a_line_without_a_level_is_an_error() {
        assert_eq!(Tokens::default().line("hello"), Err(NoLevel("hello".to_owned())));
    }
}
