//! Whether a variable's value is a mere locator: used to find a file, and for nothing else
//! (KEY-07).
//!
//! Proven from the tokens of the crate's own source files, all of them, and from the notes of
//! all crates that it is given ([`super::note`]), whose macros may ask in its name. Wherever the
//! variable's name stands, it is in `include!(concat!(env!("NAME"), …))` or a sibling of it. A
//! name that is put together, a crate of which there is no note, a file that cannot be read: not
//! proven, so the value counts as it is.

use std::fs;
use std::path::{Path, PathBuf};

use super::lexer::{Token, tokens};
use super::pattern::Pattern;

/// A larger source file is not looked at, so nothing is proven of its crate.
const SOURCE_BYTES_MAX: u64 = 32 << 20;

/// Files that are data, whoever includes them.
const DATA: &[&str] = &["md", "html", "css", "js", "json", "toml", "svg"];

/// The macros that a locator is made of.
const INCLUDES: &[&str] = &["include", "include_str", "include_bytes"];

/// How a variable is asked for. In order: what is worse hides what is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Not at all.
    Silent,
    /// As a locator, and not otherwise.
    Locator,
    /// Only if somebody else names it: by `env!($name)`, or by code that is put together.
    Indirect,
    /// It cannot be told.
    Unknown,
    /// As a value.
    Value,
}

impl Verdict {
    const LETTERS: &[(Verdict, &str)] = &[
        (Verdict::Silent, "s"),
        (Verdict::Locator, "l"),
        (Verdict::Indirect, "i"),
        (Verdict::Unknown, "u"),
        (Verdict::Value, "v"),
    ];

    pub(super) fn letter(self) -> &'static str {
        Verdict::LETTERS.iter().find(|(verdict, _)| *verdict == self).expect("it lists all of them").1
    }

    pub(super) fn from_letter(letter: &str) -> Option<Verdict> {
        Verdict::LETTERS.iter().find(|(_, known)| *known == letter).map(|(verdict, _)| *verdict)
    }
}

/// Whether the value only locates files, by the crate's own tokens and the notes of the crates
/// that it uses; `None` where one of them has none.
///
/// Where its own tokens say who asked, another crate's macro that asks for what it is told to is
/// no matter: these tokens tell it nothing. Where they do not name the variable, somebody else
/// asked, and all have to be cleared.
pub(super) fn is_mere_locator(own: Verdict, used: Option<Verdict>) -> bool {
    match (own, used) {
        (Verdict::Indirect | Verdict::Unknown | Verdict::Value, _) | (_, None) => false,
        (Verdict::Locator, Some(used)) => used <= Verdict::Indirect,
        (Verdict::Silent, Some(used)) => used == Verdict::Locator,
    }
}

/// A crate's source files, as far as they can say anything of variables.
#[derive(Debug)]
pub(super) struct Sources {
    texts: Vec<String>,
    is_whole: bool,
}

impl Sources {
    /// Reads them. Files are looked at that may ask for a variable or speak of one of these.
    pub(super) fn read(paths: &[PathBuf], names: &[&str]) -> Sources {
        let mut sources = Sources { texts: Vec::new(), is_whole: true };
        for path in paths {
            match read(path, names) {
                Ok(text) => sources.texts.extend(text),
                Err(Unreadable) => sources.is_whole = false,
            }
        }
        sources
    }

    /// Whether all of them could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// How they ask for a variable that they were read for.
    pub(super) fn verdict(&self, name: &str) -> Verdict {
        let verdicts = self.texts().map(|text| uses(name, text));
        let worst = verdicts.max().unwrap_or(Verdict::Silent);
        if self.is_whole { worst } else { worst.max(Verdict::Unknown) }
    }
}

struct Unreadable;

/// The text of a source file; none if it says nothing of variables.
fn read(path: &Path, names: &[&str]) -> Result<Option<String>, Unreadable> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if DATA.contains(&extension) {
        return Ok(None);
    }
    let is_large = fs::metadata(path).map_or(true, |metadata| metadata.len() > SOURCE_BYTES_MAX);
    let bytes = (!is_large).then(|| fs::read(path).ok()).flatten().ok_or(Unreadable)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) if extension == "rs" => return Err(Unreadable),
        // Data that was included, and that no macro can have been in.
        Err(_) => return Ok(None),
    };
    let says = |word: &str| memchr::memmem::find(text.as_bytes(), word.as_bytes()).is_some();
    let is_asking = match extension {
        "rs" => ["env", "OUT_DIR", "include", "concat"].iter().chain(names).any(|word| says(word)),
        _ => says("env"),
    };
    Ok(is_asking.then_some(text))
}

/// How a source asks for the variable.
fn uses(name: &str, source: &str) -> Verdict {
    let Some(tokens) = tokens(source) else { return Verdict::Unknown };
    let mut verdict = Verdict::Silent;
    for (at, token) in tokens.iter().enumerate() {
        let (before, after) = (&tokens[..at], &tokens[at + 1..]);
        verdict = verdict.max(match token {
            Token::Text(text) if *text == name => match located(before) {
                Some(_) => Verdict::Locator,
                None if is_asked_when_run(before) => Verdict::Silent,
                None => Verdict::Value,
            },
            // `env!($name)`: which variable is not to be seen.
            Token::Word("env" | "option_env") if is_call(after) && !is_literal(after.get(2)) => {
                match Pattern::of_concat(&after[2..]) {
                    Some(pattern) if !pattern.matches(name) => Verdict::Silent,
                    _ => Verdict::Unknown,
                }
            }
            Token::Word(word) if is_redefined(before, word) || is_imported(before, word, after) => {
                Verdict::Unknown
            }
            Token::Text(text) if is_code_of_data(before, text) => Verdict::Unknown,
            _ => Verdict::Silent,
        });
    }
    verdict
}

fn is_call(after: &[Token<'_>]) -> bool {
    matches!(after, [Token::Mark('!'), Token::Mark('(' | '[' | '{'), ..])
}

/// Whether this is a text that says what it means.
fn is_literal(token: Option<&Token<'_>>) -> bool {
    matches!(token, Some(Token::Text(text)) if !text.contains('\\'))
}

/// How many calls these tokens end in, if they end in `include!(concat!(env!(` or
/// `include!(env!(`.
pub(super) fn located(before: &[Token<'_>]) -> Option<usize> {
    let rest = before_call(before, &["env"])?;
    match before_call(rest, &["concat"]) {
        Some(rest) => before_call(rest, INCLUDES).map(|_| 3),
        None => before_call(rest, INCLUDES).map(|_| 2),
    }
}

/// What stands before the opening of a call of one of these macros, at the end of the tokens.
fn before_call<'a, 'b>(tokens: &'a [Token<'b>], names: &[&str]) -> Option<&'a [Token<'b>]> {
    let [rest @ .., Token::Word(word), Token::Mark('!'), Token::Mark('(' | '[' | '{')] = tokens else {
        return None;
    };
    let rest = match rest {
        [rest @ .., Token::Word("std" | "core"), Token::Mark(':'), Token::Mark(':')] => rest,
        // Somebody else's macro of this name.
        [.., Token::Mark(':'), Token::Mark(':')] => return None,
        rest => rest,
    };
    names.contains(word).then_some(rest)
}

/// The macro whose first argument comes after these tokens.
pub(super) fn asked_macro<'a>(before: &[Token<'a>]) -> Option<&'a str> {
    match before {
        [.., Token::Word(word), Token::Mark('!'), Token::Mark('(' | '[' | '{')] => Some(word),
        _ => None,
    }
}

/// Whether this word is where a macro that locators are made of gets another meaning.
pub(super) fn is_redefined(before: &[Token<'_>], word: &str) -> bool {
    is_of_locators(word)
        && matches!(before, [.., Token::Word("macro")] | [.., Token::Word("macro_rules"), Token::Mark('!')])
}

/// Whether what comes after these tokens is for other crates, by the attributes before it.
pub(super) fn is_exported(mut before: &[Token<'_>]) -> bool {
    while let Some(Token::Mark(']')) = before.last() {
        let mut depth = 0usize;
        let opening = before.iter().rposition(|token| {
            match token {
                Token::Mark(']') => depth += 1,
                Token::Mark('[') => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some(opening) = opening else { return false };
        if before[opening..].contains(&Token::Word("macro_export")) {
            return true;
        }
        before = &before[..opening.saturating_sub(1)];
    }
    false
}

/// Whether something else is called so here: `… as concat`, `use other::include;`.
fn is_imported(before: &[Token<'_>], word: &str, after: &[Token<'_>]) -> bool {
    match before {
        [.., Token::Word("as")] => is_of_locators(word),
        // `use std::env;` is no such thing.
        [.., Token::Mark(':'), Token::Mark(':')] => {
            INCLUDES.contains(&word) && matches!(after, [Token::Mark(';' | ',' | '}'), ..])
        }
        _ => false,
    }
}

fn is_of_locators(word: &str) -> bool {
    INCLUDES.contains(&word) || matches!(word, "concat" | "env" | "option_env")
}

/// Whether a file that is not looked at is included as code: `include!("x.md")`.
pub(super) fn is_code_of_data(before: &[Token<'_>], text: &str) -> bool {
    /// Those of `include!(concat!(env!("OUT_DIR"), "/x.md"))`, and some more.
    const TOKENS_MAX: usize = 20;
    let is_data = text.rsplit_once('.').is_some_and(|(_, extension)| DATA.contains(&extension));
    is_data && before.iter().rev().take(TOKENS_MAX).any(|token| *token == Token::Word("include"))
}

/// `std::env::var("NAME")` reads the variable when the program runs.
pub(super) fn is_asked_when_run(before: &[Token<'_>]) -> bool {
    matches!(before, [.., Token::Word("var" | "var_os"), Token::Mark('(')])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_07_a_locator_is_proven_from_the_tokens() {
        use Verdict::{Locator, Silent, Unknown, Value};
        for (source, expected) in [
            ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Locator),
            ("include!(env!(\"OUT_DIR\"));", Locator),
            ("static B: &[u8] = include_bytes!(std::concat!(core::env!(\"OUT_DIR\"), \"/b\"));", Locator),
            ("macro_rules! m { ($e:expr) => { include_str! { concat!(env![\"OUT_DIR\"], $e) } } }", Locator),
            ("fn main() {}", Silent),
            ("// env!(\"OUT_DIR\")\nconst A: &str = \"env!(\\\"OUT_DIR\\\")\";", Silent),
            ("fn f() { std::env::var(\"OUT_DIR\"); env!(\"HOME\"); }", Silent),
            ("use std::env; fn f() { include_str!(\"x.md\"); include!(\"x.in\"); }", Silent),
            ("const A: &str = env!(\"OUT_DIR\");", Value),
            ("const A: &str = concat!(env!(\"OUT_DIR\"), \"/x\");", Value),
            ("include!(concat!(env!(\"OUT_DIR\"), \"/a\")); const A: &str = env!(\"OUT_DIR\");", Value),
            ("const A: Option<&str> = option_env!(\"OUT_DIR\");", Value),
            ("include!(other::concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Value),
            ("other::include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Value),
            ("use std::env as e; const A: &str = e!(r\"OUT_DIR\");", Value),
            ("const A: &str = env!(concat!(\"OUT\", \"_DIR\"));", Unknown),
            ("const A: &str = env!(concat!(\"OUT\", '_', \"DIR\"));", Unknown),
            ("macro_rules! m { ($n:expr) => { env!(concat!(\"CARGO_BIN_EXE_\", $n)) } }", Silent),
            ("macro_rules! m { ($n:expr) => { option_env!(std::concat!($n, \"_EXE\", $n)) } }", Silent),
            ("macro_rules! m { ($n:expr) => { env!(concat!(\"OUT\", $n)) } }", Unknown),
            ("macro_rules! m { ($n:expr) => { env!(other::concat!(\"X\", $n)) } }", Unknown),
            ("macro_rules! concat { () => {} } const A: &str = env!(concat!(\"X\"));", Unknown),
            ("const A: &str = env!(\"OUT\\x5fDIR\");", Unknown),
            ("macro_rules! m { ($n:expr) => { env!($n) } }", Unknown),
            ("const A: &str = \"open", Unknown),
            ("macro_rules! include { () => {} }", Unknown),
            ("use other::stringify as concat;", Unknown),
            ("use other::{a, include_str};\nuse other::include_str;", Unknown),
            ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.md\"));", Unknown),
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
        let renamed = file("renamed.rs", b"pub const A: &str = e!(\"X_DIR\");");
        let data = file("data.bin", b"\xff OUT_DIR");
        let prose = file("README.md", b"Don't say env!(\"OUT_DIR\")");
        let silent = file("silent.rs", b"");
        let verdict = |name: &str, paths: &[&PathBuf]| {
            let paths: Vec<PathBuf> = paths.iter().copied().cloned().collect();
            Sources::read(&paths, &[name]).verdict(name)
        };
        assert_eq!(verdict("OUT_DIR", &[&good, &data, &prose, &silent]), Verdict::Locator);
        assert_eq!(verdict("OUT_DIR", &[&good, &value]), Verdict::Value);
        assert_eq!(verdict("OUT_DIR", &[&silent]), Verdict::Silent);
        assert_eq!(verdict("OUT_DIR", &[&good, &dir.path().join("absent.rs")]), Verdict::Unknown);
        assert_eq!(verdict("X_DIR", &[&good, &renamed]), Verdict::Value);
    }

    #[test]
    fn key_07_who_is_silent_needs_all_others_cleared() {
        use Verdict::{Indirect, Locator, Silent, Unknown, Value};
        for (own, used, expected) in [
            (Locator, Some(Silent), true),
            (Locator, Some(Locator), true),
            (Locator, Some(Indirect), true),
            (Locator, Some(Unknown), false),
            (Locator, Some(Value), false),
            (Locator, None, false),
            (Silent, Some(Locator), true),
            (Silent, Some(Silent), false),
            (Silent, Some(Indirect), false),
            (Silent, Some(Unknown), false),
            (Silent, None, false),
            (Unknown, Some(Locator), false),
            (Value, Some(Locator), false),
        ] {
            assert_eq!(is_mere_locator(own, used), expected, "{own:?}, {used:?}");
        }
    }
}
