//! The set of variables that a macro with a name which is put together can read (KEY-07).
//!
//! Pure. `env!(concat!("CARGO_BIN_EXE_", $name))` reads some variable whose name begins with
//! `CARGO_BIN_EXE_`. Its pattern is `CARGO_BIN_EXE_*`: the literal parts, with `*` for each part that the
//! tokens do not show. The pattern rules out all names that do not match, such as `OUT_DIR`.

use std::fmt;

use super::lexer::Token;

/// Stands for an unknown part in the text of a pattern.
pub(super) const ANYTHING: char = '*';

/// A name of a variable with unknown parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    /// The pattern of the call of `concat!` that these tokens begin with; `None` if they do not begin with
    /// such a call, or it does not end.
    pub(super) fn of_concat(tokens: &[Token<'_>]) -> Option<Pattern> {
        let rest = match tokens {
            [Token::Word("std" | "core"), Token::Mark(':'), Token::Mark(':'), rest @ ..] => rest,
            rest => rest,
        };
        let [Token::Word("concat"), Token::Mark('!'), Token::Mark('(' | '[' | '{'), rest @ ..] = rest else {
            return None;
        };
        let mut pattern = String::new();
        let mut rest = rest;
        loop {
            let (part, after) = split_argument(rest)?;
            match part {
                // An escape may be any character. The lexer skips numbers and characters, so that a part
                // without tokens is unknown as well.
                [Token::Text(text)] if !text.contains(['\\', ANYTHING]) => pattern.push_str(text),
                _ => pattern.push(ANYTHING),
            }
            match after {
                [Token::Mark(','), after @ ..] => rest = after,
                _ => return Some(Pattern(pattern)),
            }
        }
    }

    /// Whether a variable of this name can be meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split(ANYTHING);
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// The tokens of the first argument, and those from the comma or closing bracket after it; `None` if the
/// call does not end.
fn split_argument<'a, 'b>(tokens: &'a [Token<'b>]) -> Option<(&'a [Token<'b>], &'a [Token<'b>])> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(',' | ')' | ']' | '}') if depth == 0 => return Some(tokens.split_at(at)),
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
    }
    None
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    #[test]
    fn key_07_a_pattern_rules_out_the_names_that_do_not_match_its_known_parts() {
        for (source, expected) in [
            ("concat!(\"A_\", $n)", Some("A_*")),
            ("std::concat![$n, \"_B\"]", Some("*_B")),
            ("core::concat! { \"A\", \"B\" }", Some("AB")),
            ("concat!(\"A\", stringify!($a, $b), \"B\")", Some("A*B")),
            // The lexer skips numbers and characters.
            ("concat!(\"A\", '_', \"B\", 1)", Some("A*B*")),
            ("concat!(\"A\",)", Some("A*")),
            ("concat!(\"A\\x42\")", Some("*")),
            ("concat!(\"A*\")", Some("*")),
            ("concat!(\"A\" $(, $x)*)", Some("*")),
            ("concat!()", Some("*")),
            ("concat!(\"A\"", None),
            ("other::concat!(\"A\")", None),
            ("concat(\"A\")", None),
            ("stringify!(A)", None),
        ] {
            let tokens = tokens(source).unwrap();
            let found = Pattern::of_concat(&tokens).map(|pattern| pattern.to_string());
            assert_eq!(found.as_deref(), expected, "{source}");
        }
        for (pattern, name, expected) in [
            ("CARGO_BIN_EXE_*", "OUT_DIR", false),
            ("CARGO_BIN_EXE_*", "CARGO_BIN_EXE_x", true),
            ("*_DIR", "OUT_DIR", true),
            ("*_DIR", "OUT_DIRS", false),
            ("O*T*R", "OUT_DIR", true),
            ("O*X*R", "OUT_DIR", false),
            ("OUT_*_DIR", "OUT_DIR", false),
            ("OUT_DIR", "OUT_DIR", true),
            ("OUT", "OUT_DIR", false),
            ("*", "OUT_DIR", true),
            ("**", "", true),
        ] {
            assert_eq!(Pattern::from(pattern).matches(name), expected, "{pattern}, {name}");
        }
    }
}
