//! Whether a variable's value is a mere locator: used to find a file, and for nothing else
//! (KEY-07).
//!
//! Proven from the tokens of the crate's own source files, all of them: the variable's name
//! stands in them, and wherever it does, it is in `include!(concat!(env!("NAME"), …))` or a
//! sibling of it. A name that is put together, a macro of another crate that asks for the
//! variable, a file that cannot be read: not proven, so the value counts as it is.

use std::fs;
use std::path::PathBuf;

use super::lexer::{Token, tokens};

/// A larger source file is not looked at, so nothing is proven of its crate.
const SOURCE_BYTES_MAX: u64 = 32 << 20;

/// Whether the value of this variable only locates files.
pub(super) fn is_mere_locator(name: &str, sources: &[PathBuf]) -> bool {
    let mut is_used = false;
    for path in sources {
        let is_large = fs::metadata(path).map_or(true, |metadata| metadata.len() > SOURCE_BYTES_MAX);
        let Some(bytes) = (!is_large).then(|| fs::read(path).ok()).flatten() else { return false };
        match (std::str::from_utf8(&bytes), path.extension().is_some_and(|extension| extension == "rs")) {
            (Ok(source), is_rust) if is_rust || source.contains("env") => match uses(name, source) {
                Some(used) => is_used |= used,
                None => return false,
            },
            // Data that was included, and that no macro can have been in.
            (_, false) => {}
            (_, true) => return false,
        }
    }
    is_used
}

/// Whether the source uses the variable, always as a locator. `None` where it may be
/// otherwise.
fn uses(name: &str, source: &str) -> Option<bool> {
    let tokens = tokens(source)?;
    let mut is_used = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Text(text) if *text == name => {
                if is_located(&tokens[..at]) {
                    is_used = true;
                } else if !is_asked_when_run(&tokens[..at]) {
                    return None;
                }
            }
            // `env!(concat!(…))`, `env!($name)`: which variable is not to be seen.
            Token::Word("env" | "option_env")
                if matches!(tokens[at + 1..], [Token::Mark('!'), Token::Mark('(' | '[' | '{'), ..])
                    && !matches!(tokens.get(at + 3), Some(Token::Text(_))) =>
            {
                return None;
            }
            _ => {}
        }
    }
    Some(is_used)
}

/// Whether these tokens end in `include!(concat!(env!(`.
fn is_located(before: &[Token<'_>]) -> bool {
    let rest = before_call(before, &["env"])
        .and_then(|rest| before_call(rest, &["concat"]))
        .and_then(|rest| before_call(rest, &["include", "include_str", "include_bytes"]));
    rest.is_some()
}

/// What stands before the opening of a call of one of these macros, at the end of the tokens.
fn before_call<'a, 'b>(tokens: &'a [Token<'b>], names: &[&str]) -> Option<&'a [Token<'b>]> {
    let [rest @ .., Token::Word(word), Token::Mark('!'), Token::Mark('(' | '[' | '{')] = tokens else {
        return None;
    };
    if !names.contains(word) {
        return None;
    }
    Some(match rest {
        [rest @ .., Token::Word("std" | "core"), Token::Mark(':'), Token::Mark(':')] => rest,
        rest => rest,
    })
}

/// `std::env::var("NAME")` reads the variable when the program runs.
fn is_asked_when_run(before: &[Token<'_>]) -> bool {
    matches!(before, [.., Token::Word("var" | "var_os"), Token::Mark('(')])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_07_a_locator_is_proven_from_the_tokens() {
        for (source, expected) in [
            ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Some(true)),
            ("static B: &[u8] = include_bytes!(std::concat!(core::env!(\"OUT_DIR\"), \"/b\"));", Some(true)),
            (
                "macro_rules! m { ($e:expr) => { include_str! { concat!(env![\"OUT_DIR\"], $e) } } }",
                Some(true),
            ),
            ("fn main() {}", Some(false)),
            ("// env!(\"OUT_DIR\")\nconst A: &str = \"env!(\\\"OUT_DIR\\\")\";", Some(false)),
            ("fn f() { std::env::var(\"OUT_DIR\"); env!(\"HOME\"); }", Some(false)),
            ("const A: &str = env!(\"OUT_DIR\");", None),
            ("const A: &str = concat!(env!(\"OUT_DIR\"), \"/x\");", None),
            ("include!(concat!(env!(\"OUT_DIR\"), \"/a\")); const A: &str = env!(\"OUT_DIR\");", None),
            ("const A: Option<&str> = option_env!(\"OUT_DIR\");", None),
            ("const A: &str = env!(concat!(\"OUT\", \"_DIR\"));", None),
            ("macro_rules! m { ($n:expr) => { env!($n) } }", None),
            ("use std::env as e; const A: &str = e!(r\"OUT_DIR\");", None),
            ("const A: &str = \"open", None),
        ] {
            assert_eq!(uses("OUT_DIR", source), expected, "{source}");
        }
    }

    #[test]
    fn key_07_every_source_file_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let good = file("lib.rs", b"include!(concat!(env!(\"OUT_DIR\"), \"/gen.in\"));");
        let value = file("gen.in", b"pub const A: &str = env!(\"OUT_DIR\");");
        let data = file("data.bin", b"\xff OUT_DIR");
        let silent = file("silent.rs", b"");
        assert!(is_mere_locator("OUT_DIR", &[good.clone(), data, silent.clone()]));
        assert!(!is_mere_locator("OUT_DIR", &[good.clone(), value]));
        assert!(!is_mere_locator("OUT_DIR", &[silent]), "another crate's macro asked for it");
        assert!(!is_mere_locator("OUT_DIR", &[good, dir.path().join("absent.rs")]));
    }
}
