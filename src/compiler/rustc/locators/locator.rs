//! Decides whether a variable is a locator: its value serves to find files and for nothing else
//! (KEY-07).
//!
//! A locator does not bind a result to its checkout. For example, every checkout has another value
//! of `OUT_DIR`, but `include!(concat!(env!("OUT_DIR"), "/gen.rs"))` gives the same crate in each of
//! them, because the included file is an observation of its own. `const DIR: &str = env!("OUT_DIR")`
//! puts the value itself into the crate, so that this value belongs into the key as it is.
//!
//! A crate's own source files and the macros of its dependencies can use a variable. This file reads
//! the tokens of the source files; [`super::macro_note`] knows the macros of dependencies. Nothing is
//! guessed: a name that is put together at compile time, a source file that cannot be read or a
//! dependency without a note means that the variable is not proven to be a locator.

use std::fs;
use std::path::{Path, PathBuf};

use super::lexer::{Token, tokens};
use super::pattern::Pattern;

/// Larger source files are not read, and no variable of their crates is proven to be a locator.
const SOURCE_BYTES_MAX: u64 = 32 << 20;

/// Extensions of files that hold data and no Rust code. They are not searched for variables.
const DATA: &[&str] = &["md", "html", "css", "js", "json", "toml", "svg"];

/// The macros that turn a path into the content of a file.
const INCLUDES: &[&str] = &["include", "include_str", "include_bytes"];

/// How a source file, or a macro, uses a variable. Several uses together count as the greatest of
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum VariableUse {
    /// It does not name the variable.
    Unnamed,
    /// It only uses the value to find files.
    Locator,
    /// It reads a variable whose name comes from elsewhere, as in `env!($name)`: this one only if the
    /// caller of the macro names it.
    Indirect,
    /// The tokens do not say whether, or how, it uses the variable.
    Unclear,
    /// It uses the value itself.
    Value,
}

impl VariableUse {
    const LETTERS: &[(VariableUse, &str)] = &[
        (VariableUse::Unnamed, "s"),
        (VariableUse::Locator, "l"),
        (VariableUse::Indirect, "i"),
        (VariableUse::Unclear, "u"),
        (VariableUse::Value, "v"),
    ];

    pub(super) fn letter(self) -> &'static str {
        VariableUse::LETTERS.iter().find(|(known, _)| *known == self).expect("it lists all of them").1
    }

    pub(super) fn from_letter(letter: &str) -> Option<VariableUse> {
        VariableUse::LETTERS.iter().find(|(_, known)| *known == letter).map(|(found, _)| *found)
    }
}

/// Whether a variable that the dep-info names is a locator. `own` is its use in the crate's own
/// source files, and `dependencies` its use in the macros of all dependencies, or `None` if one of
/// them has no note.
///
/// If the crate's own source names the variable, macros of other crates that take the name as an
/// argument do not matter, since the source gives the name to none of them. Otherwise the macro of a
/// dependency has read the variable, and every dependency must be proven safe.
pub(super) fn is_locator(own: VariableUse, dependencies: Option<VariableUse>) -> bool {
    match (own, dependencies) {
        (VariableUse::Indirect | VariableUse::Unclear | VariableUse::Value, _) | (_, None) => false,
        (VariableUse::Locator, Some(dependencies)) => dependencies <= VariableUse::Indirect,
        (VariableUse::Unnamed, Some(dependencies)) => dependencies == VariableUse::Locator,
    }
}

/// The texts of a crate's source files, without those that cannot use a variable.
#[derive(Debug)]
pub(super) struct SourceTexts {
    texts: Vec<String>,
    is_whole: bool,
}

impl SourceTexts {
    /// Reads the files at these paths. Keeps a text if it may read a variable or names one of `names`.
    pub(super) fn read(paths: &[PathBuf], names: &[&str]) -> SourceTexts {
        let mut sources = SourceTexts { texts: Vec::new(), is_whole: true };
        for path in paths {
            match read(path, names) {
                Ok(text) => sources.texts.extend(text),
                Err(Unreadable) => sources.is_whole = false,
            }
        }
        sources
    }

    /// Whether every source file could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// How the source files use a variable. `name` is one of the names that were given to [`Self::read`].
    pub(super) fn use_of(&self, name: &str) -> VariableUse {
        let uses = self.texts().map(|text| use_in(name, text));
        let greatest = uses.max().unwrap_or(VariableUse::Unnamed);
        if self.is_whole { greatest } else { greatest.max(VariableUse::Unclear) }
    }
}

struct Unreadable;

/// The text of a source file; `None` if it cannot use a variable or name one of `names`.
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
        // The file was included as bytes, because code has to be UTF-8.
        Err(_) => return Ok(None),
    };
    let contains = |word: &str| memchr::memmem::find(text.as_bytes(), word.as_bytes()).is_some();
    let may_use = match extension {
        "rs" => ["env", "OUT_DIR", "include", "concat"].iter().chain(names).any(|word| contains(word)),
        // An included file of another kind may be code, and needs `env!` to read a variable.
        _ => contains("env"),
    };
    Ok(may_use.then_some(text))
}

/// How one source text uses the variable.
///
/// Every string literal with the variable's name counts as a use of its value, unless the tokens
/// before it show that it is part of a locator (`include!(concat!(env!("NAME"`) or is read when the
/// program runs (`std::env::var("NAME")`). This also covers names that are given to macros.
fn use_in(name: &str, source: &str) -> VariableUse {
    let Some(tokens) = tokens(source) else { return VariableUse::Unclear };
    // The greatest use decides, so a doubt about one token is not removed by another token.
    let mut found = VariableUse::Unnamed;
    for (at, token) in tokens.iter().enumerate() {
        let (before, after) = (&tokens[..at], &tokens[at + 1..]);
        found = found.max(match token {
            Token::Text(text) if *text == name => match locator_calls(before) {
                Some(_) => VariableUse::Locator,
                None if is_read_at_run_time(before) => VariableUse::Unnamed,
                None => VariableUse::Value,
            },
            // `env!($name)` may read any variable; `env!(concat!("X_", $name))` only those of the pattern.
            Token::Word("env" | "option_env") if is_call(after) && !is_literal(after.get(2)) => {
                match Pattern::of_concat(&after[2..]) {
                    Some(pattern) if !pattern.matches(name) => VariableUse::Unnamed,
                    _ => VariableUse::Unclear,
                }
            }
            Token::Word(word) if is_redefined(before, word) || is_imported(before, word, after) => {
                VariableUse::Unclear
            }
            Token::Text(text) if is_code_of_data(before, text) => VariableUse::Unclear,
            _ => VariableUse::Unnamed,
        });
    }
    found
}

fn is_call(after: &[Token<'_>]) -> bool {
    matches!(after, [Token::Mark('!'), Token::Mark('(' | '[' | '{'), ..])
}

/// Whether the token is a string literal without escapes.
fn is_literal(token: Option<&Token<'_>>) -> bool {
    matches!(token, Some(Token::Text(text)) if !text.contains('\\'))
}

/// The number of macro calls that these tokens open, if they end in the beginning of a locator: 3 for
/// `include!(concat!(env!(` and 2 for `include!(env!(`.
pub(super) fn locator_calls(before: &[Token<'_>]) -> Option<usize> {
    let rest = before_call(before, &["env"])?;
    match before_call(rest, &["concat"]) {
        Some(rest) => before_call(rest, INCLUDES).map(|_| 3),
        None => before_call(rest, INCLUDES).map(|_| 2),
    }
}

/// The tokens before `name!(`, if `tokens` end in the opening of a call of one of these macros.
fn before_call<'a, 'b>(tokens: &'a [Token<'b>], names: &[&str]) -> Option<&'a [Token<'b>]> {
    let [rest @ .., Token::Word(word), Token::Mark('!'), Token::Mark('(' | '[' | '{')] = tokens else {
        return None;
    };
    let rest = match rest {
        [rest @ .., Token::Word("std" | "core"), Token::Mark(':'), Token::Mark(':')] => rest,
        // A macro of this name from another crate: `other::include!(`.
        [.., Token::Mark(':'), Token::Mark(':')] => return None,
        rest => rest,
    };
    names.contains(word).then_some(rest)
}

/// The macro that is called with the next token as its first argument, if these tokens end in `name!(`.
pub(super) fn called_macro<'a>(before: &[Token<'a>]) -> Option<&'a str> {
    match before {
        [.., Token::Word(word), Token::Mark('!'), Token::Mark('(' | '[' | '{')] => Some(word),
        _ => None,
    }
}

/// Whether `word` is the name in a definition of a macro that shadows one of those of a locator, as in
/// `macro_rules! include`.
pub(super) fn is_redefined(before: &[Token<'_>], word: &str) -> bool {
    is_part_of_locators(word)
        && matches!(before, [.., Token::Word("macro")] | [.., Token::Word("macro_rules"), Token::Mark('!')])
}

/// Whether the attributes at the end of these tokens contain `#[macro_export]`.
pub(super) fn is_exported(mut before: &[Token<'_>]) -> bool {
    // Several attributes may stand in front of a macro. Each turn of the loop goes back over one of them, to
    // the `#` before the `[` that matches the last `]`.
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

/// Whether an import gives another meaning to a macro of a locator: `use … as concat;`,
/// `use other::include;`.
fn is_imported(before: &[Token<'_>], word: &str, after: &[Token<'_>]) -> bool {
    match before {
        [.., Token::Word("as")] => is_part_of_locators(word),
        // `use std::env;` imports the module, so that `env` is not among these.
        [.., Token::Mark(':'), Token::Mark(':')] => {
            INCLUDES.contains(&word) && matches!(after, [Token::Mark(';' | ',' | '}'), ..])
        }
        _ => false,
    }
}

fn is_part_of_locators(word: &str) -> bool {
    INCLUDES.contains(&word) || matches!(word, "concat" | "env" | "option_env")
}

/// Whether a file with the extension of data is included as code, as in `include!("x.md")`. Such a file
/// is not searched for variables.
pub(super) fn is_code_of_data(before: &[Token<'_>], text: &str) -> bool {
    /// `include!(concat!(env!("OUT_DIR"), "/x.md"))` has fewer tokens before the name.
    const TOKENS_MAX: usize = 20;
    let is_data = text.rsplit_once('.').is_some_and(|(_, extension)| DATA.contains(&extension));
    is_data && before.iter().rev().take(TOKENS_MAX).any(|token| *token == Token::Word("include"))
}

/// Whether the next token is the argument of `std::env::var(`, which reads the variable when the program
/// runs and not when it is compiled.
pub(super) fn is_read_at_run_time(before: &[Token<'_>]) -> bool {
    matches!(before, [.., Token::Word("var" | "var_os"), Token::Mark('(')])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_07_a_locator_is_proven_from_the_tokens() {
        use VariableUse::{Locator, Unclear, Unnamed, Value};
        for (source, expected) in [
            ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Locator),
            ("include!(env!(\"OUT_DIR\"));", Locator),
            ("static B: &[u8] = include_bytes!(std::concat!(core::env!(\"OUT_DIR\"), \"/b\"));", Locator),
            ("macro_rules! m { ($e:expr) => { include_str! { concat!(env![\"OUT_DIR\"], $e) } } }", Locator),
            ("fn main() {}", Unnamed),
            ("// env!(\"OUT_DIR\")\nconst A: &str = \"env!(\\\"OUT_DIR\\\")\";", Unnamed),
            ("fn f() { std::env::var(\"OUT_DIR\"); env!(\"HOME\"); }", Unnamed),
            ("use std::env; fn f() { include_str!(\"x.md\"); include!(\"x.in\"); }", Unnamed),
            ("const A: &str = env!(\"OUT_DIR\");", Value),
            ("const A: &str = concat!(env!(\"OUT_DIR\"), \"/x\");", Value),
            ("include!(concat!(env!(\"OUT_DIR\"), \"/a\")); const A: &str = env!(\"OUT_DIR\");", Value),
            ("const A: Option<&str> = option_env!(\"OUT_DIR\");", Value),
            ("include!(other::concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Value),
            ("other::include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", Value),
            ("use std::env as e; const A: &str = e!(r\"OUT_DIR\");", Value),
            ("const A: &str = env!(concat!(\"OUT\", \"_DIR\"));", Unclear),
            ("const A: &str = env!(concat!(\"OUT\", '_', \"DIR\"));", Unclear),
            ("macro_rules! m { ($n:expr) => { env!(concat!(\"CARGO_BIN_EXE_\", $n)) } }", Unnamed),
            ("macro_rules! m { ($n:expr) => { option_env!(std::concat!($n, \"_EXE\", $n)) } }", Unnamed),
            ("macro_rules! m { ($n:expr) => { env!(concat!(\"OUT\", $n)) } }", Unclear),
            ("macro_rules! m { ($n:expr) => { env!(other::concat!(\"X\", $n)) } }", Unclear),
            ("macro_rules! concat { () => {} } const A: &str = env!(concat!(\"X\"));", Unclear),
            ("const A: &str = env!(\"OUT\\x5fDIR\");", Unclear),
            ("macro_rules! m { ($n:expr) => { env!($n) } }", Unclear),
            ("const A: &str = \"open", Unclear),
            ("macro_rules! include { () => {} }", Unclear),
            ("use other::stringify as concat;", Unclear),
            ("use other::{a, include_str};\nuse other::include_str;", Unclear),
            ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.md\"));", Unclear),
        ] {
            assert_eq!(use_in("OUT_DIR", source), expected, "{source}");
        }
    }

    #[test]
    fn key_07_every_source_file_is_searched() {
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
        let empty = file("empty.rs", b"");
        let use_of = |name: &str, paths: &[&PathBuf]| {
            let paths: Vec<PathBuf> = paths.iter().copied().cloned().collect();
            SourceTexts::read(&paths, &[name]).use_of(name)
        };
        assert_eq!(use_of("OUT_DIR", &[&good, &data, &prose, &empty]), VariableUse::Locator);
        assert_eq!(use_of("OUT_DIR", &[&good, &value]), VariableUse::Value);
        assert_eq!(use_of("OUT_DIR", &[&empty]), VariableUse::Unnamed);
        assert_eq!(use_of("OUT_DIR", &[&good, &dir.path().join("absent.rs")]), VariableUse::Unclear);
        assert_eq!(use_of("X_DIR", &[&good, &renamed]), VariableUse::Value);
    }

    #[test]
    fn key_07_an_unnamed_variable_needs_every_dependency_proven() {
        use VariableUse::{Indirect, Locator, Unclear, Unnamed, Value};
        for (own, dependencies, expected) in [
            (Locator, Some(Unnamed), true),
            (Locator, Some(Locator), true),
            (Locator, Some(Indirect), true),
            (Locator, Some(Unclear), false),
            (Locator, Some(Value), false),
            (Locator, None, false),
            (Unnamed, Some(Locator), true),
            (Unnamed, Some(Unnamed), false),
            (Unnamed, Some(Indirect), false),
            (Unnamed, Some(Unclear), false),
            (Unnamed, None, false),
            (Unclear, Some(Locator), false),
            (Value, Some(Locator), false),
        ] {
            assert_eq!(is_locator(own, dependencies), expected, "{own:?}, {dependencies:?}");
        }
    }
}
