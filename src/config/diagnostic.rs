//! Mistakes in the configuration: where each is, what is wrong, and what to do.
//!
//! Pure. All mistakes are collected, so that the user can correct them at once.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// The most mistakes that are shown. A file that is not meant for kache would have hundreds.
const SHOWN_MAX: usize = 10;

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// At a position in a file.
    File {
        /// The path of the file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
    },
    /// In a file as a whole.
    WholeFile(PathBuf),
    /// In the value of the environment variable with this name.
    Variable(&'static str),
    /// Nowhere: a setting is missing.
    Nowhere,
}

/// A mistake in a file, in a variable or of a setting that is missing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigError {
    /// The file or variable that has the mistake.
    pub site: Site,
    /// A sentence that says what is wrong.
    pub what: String,
    /// A sentence that says what to do; it is printed as a hint.
    pub remedy: String,
}

/// All mistakes of a configuration; there is at least one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display()),
            Site::WholeFile(path) => write!(f, "{}: ", path.display()),
            Site::Variable(name) => write!(f, "{name}: "),
            Site::Nowhere => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\nhint: {}", self.site, self.what, self.remedy)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}

/// Returns the line and column of a byte offset in a text, both counted from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nß = x\n";
        for (offset, expected) in
            [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (8, (2, 2)), (11, (2, 5)), (99, (3, 1))]
        {
            assert_eq!(position(text, offset), expected, "{offset}");
        }
    }

    #[test]
    fn only_the_first_ten_mistakes_are_shown() {
        let error = ConfigError { site: Site::Nowhere, what: "bad".into(), remedy: "good".into() };
        let text = ConfigErrors(vec![error; 12]).to_string();
        assert_eq!(text.matches("bad").count(), 10);
        assert!(text.ends_with("… and 2 more"));
    }
}
