//! A note says which variables the macros of a crate, and of all crates that it depends on, may use in
//! *another* crate (KEY-07). Pure: made from the tokens of source files.
//!
//! Only code that is expanded in other crates counts. `include!(concat!(env!("X"), …))` in an ordinary
//! function was expanded when the crate itself was compiled, so the note leaves it out. The same tokens
//! in the rules of a `macro_rules!`, or in the arguments of a macro such as `quote!`, may be expanded in
//! a crate that uses this one, so the note has them. All other uses count wherever they stand.
//!
//! `OUT_DIR` is treated more exactly than other variables, because most macros that use a variable use
//! this one. A macro with `env!($name)` ([`VariableUse::Indirect`]) can only read `OUT_DIR` if some
//! source names it, and every source that contains the word is recorded. So an indirect macro alone says
//! nothing about `OUT_DIR`, while it makes every other variable suspect.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Token, tokens};
use super::locator::{
    SourceTexts, VariableUse, called_macro, is_code_of_data, is_exported, is_read_at_run_time, is_redefined,
    locator_calls,
};
use super::pattern::{ANYTHING, Pattern};

/// The variable that most macros use; see the top of this file.
const OUT_DIR: &str = "OUT_DIR";

/// The largest number of names in a note. A crate with more of them is unclear.
const NAMES_MAX: usize = 4_096;

/// The first letter of a line that holds one of [`MacroNote::quoted`].
const QUOTED: &str = "q";

/// The variables that the macros of one crate and of its dependencies may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MacroNote {
    /// Variables that the macros use, by name or by [`Pattern`], and how they use them.
    used: BTreeMap<String, VariableUse>,
    /// The locators among `used` that are in the arguments of a macro call, as in `quote!`. All other
    /// locators are in the rules of a `macro_rules!`, which are expanded as they are written.
    quoted: BTreeSet<String>,
    /// A source could not be parsed, or it may use variables that its tokens do not show.
    is_unclear: bool,
    /// A macro reads variables that its caller names, as `env!($name)` does.
    is_indirect: bool,
    /// A string of the crate contains `env!` or is `env`, so that a proc macro with this crate in it may
    /// generate code that reads variables.
    generates_env: bool,
    /// The crate contains the word `OUT_DIR`, so that a proc macro with this crate in it may generate
    /// code that names it.
    contains_out_dir: bool,
}

impl MacroNote {
    /// The note of a crate without its dependencies.
    pub(super) fn of(sources: &SourceTexts) -> MacroNote {
        let mut note = MacroNote { is_unclear: !sources.is_whole(), ..MacroNote::default() };
        for source in sources.texts() {
            match tokens(source) {
                Some(tokens) => note.add_tokens(&tokens),
                None => note.is_unclear = true,
            }
        }
        note
    }

    /// Adds what the tokens of one source file use.
    fn add_tokens(&mut self, tokens: &[Token<'_>]) {
        // `macro name($x) { … }` has no fixed form that would show where it ends. A source with the
        // keyword is taken for the argument of a macro as a whole.
        let is_everywhere_macro = tokens.contains(&Token::Word("macro"));
        // The kind of each bracket that is open at this token, from the outermost to the innermost.
        let mut open: Vec<Opening> = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let before = &tokens[..at];
            match token {
                Token::Mark('(' | '[' | '{') => open.push(opening(before)),
                Token::Mark(')' | ']' | '}') => drop(open.pop()),
                Token::Text(text) => {
                    let outer = |calls: usize| open.iter().rev().skip(calls).copied().max();
                    let everywhere = if is_everywhere_macro { Opening::Call } else { Opening::Plain };
                    self.add_text(text, before, |calls| outer(calls).unwrap_or(everywhere).max(everywhere));
                }
                Token::Word(word) => {
                    self.contains_out_dir |= *word == OUT_DIR;
                    self.is_unclear |= is_redefined(before, word) && is_for_other_crates(before);
                    self.add_word(word, &tokens[at + 1..]);
                }
                Token::Mark(_) => {}
            }
        }
    }

    /// Adds what a string literal says. `outer(calls)` is the kind of the brackets around the innermost
    /// `calls` macro calls that the literal is in.
    ///
    /// For example, in `quote! { include!(concat!(env!("X"), "/y")) }` the literal `"X"` is in three
    /// calls that make up a locator. `outer(3)` is then the kind of what the locator itself is in, which
    /// is the call of `quote!`: another macro gets the locator as tokens and may take it apart.
    fn add_text(&mut self, text: &str, before: &[Token<'_>], outer: impl Fn(usize) -> Opening) {
        self.generates_env |= matches!(text, "env" | "option_env") || text.contains("env!");
        self.is_unclear |= is_code_of_data(before, text);
        if let Some(calls) = locator_calls(before) {
            let outer = outer(calls);
            if outer != Opening::Plain {
                self.add_use(text, VariableUse::Locator);
            }
            if outer == Opening::Call {
                self.contains_out_dir |= text == OUT_DIR;
                if self.used.contains_key(text) {
                    self.quoted.insert(text.to_owned());
                }
            }
            return;
        }
        self.contains_out_dir |= text.contains(OUT_DIR);
        let is_used = match called_macro(before) {
            // A macro of another name may pass the variable on to `env!`.
            Some("env" | "option_env") => true,
            Some(_) => is_variable_name(text),
            None => text == OUT_DIR && !is_read_at_run_time(before),
        };
        if is_used {
            self.add_use(text, VariableUse::Value);
        }
    }

    /// Adds a call of `env!` whose argument is no string literal. `env!($name)` reads a variable that the
    /// caller names; `env!(concat!("X_", $name))` reads one that matches the pattern `X_*`.
    fn add_word(&mut self, word: &str, after: &[Token<'_>]) {
        if !matches!(word, "env" | "option_env") {
            return;
        }
        match after {
            [Token::Mark('!'), Token::Mark('(' | '[' | '{'), first, ..] => match first {
                Token::Text(text) => self.is_unclear |= text.contains('\\'),
                Token::Mark('$' | '#') => self.is_indirect = true,
                _ => match Pattern::of_concat(&after[2..]) {
                    Some(pattern) => self.add_use(&pattern.to_string(), VariableUse::Unclear),
                    None => self.is_unclear = true,
                },
            },
            [Token::Word("as"), ..] => self.is_indirect = true,
            _ => {}
        }
    }

    fn add_use(&mut self, name: &str, how: VariableUse) {
        // A note is stored with one name a line.
        let is_valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_valid || (self.used.len() >= NAMES_MAX && !self.used.contains_key(name)) {
            self.is_unclear = true;
            return;
        }
        let known = self.used.entry(name.to_owned()).or_insert(how);
        *known = how.max(*known);
    }

    /// Adds the note of a dependency.
    pub(super) fn add(&mut self, other: &MacroNote) {
        other.used.iter().for_each(|(name, how)| self.add_use(name, *how));
        self.quoted.extend(other.quoted.iter().cloned());
        self.is_unclear |= other.is_unclear;
        self.is_indirect |= other.is_indirect;
        self.generates_env |= other.generates_env;
        self.contains_out_dir |= other.contains_out_dir;
    }

    /// Turns the note of a crate and its dependencies into that of the proc macro that is made of them.
    ///
    /// A proc macro is a program that generates code, so that every word in it may end up in that code,
    /// and no use counts as a locator any more. The rules of its `macro_rules!` are the exception: they
    /// were expanded when the proc macro itself was compiled, and other crates cannot call them.
    pub(super) fn into_proc_macros(mut self) -> MacroNote {
        let quoted = std::mem::take(&mut self.quoted);
        self.used.retain(|name, how| *how != VariableUse::Locator || quoted.contains(name));
        self.used.values_mut().for_each(|how| *how = (*how).max(VariableUse::Unclear));
        if self.contains_out_dir {
            self.add_use(OUT_DIR, VariableUse::Unclear);
        }
        self.is_indirect |= self.generates_env;
        self
    }

    /// How the macros may use this variable.
    pub(super) fn use_of(&self, name: &str) -> VariableUse {
        let is_match =
            |used: &str| used == name || used.contains(ANYTHING) && Pattern::from(used).matches(name);
        let used = self.used.iter().filter(|(used, _)| is_match(used)).map(|(_, how)| *how).max();
        let used = used.unwrap_or(VariableUse::Unnamed);
        let least = match self {
            MacroNote { is_unclear: true, .. } => VariableUse::Unclear,
            MacroNote { is_indirect: true, .. } if name != OUT_DIR => VariableUse::Indirect,
            _ => VariableUse::Unnamed,
        };
        used.max(least)
    }

    /// The stored form: a line with a digit for each flag, then a line for each name.
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = [self.is_unclear, self.is_indirect, self.generates_env, self.contains_out_dir];
        let letters = flags.iter().map(|is_set| if *is_set { '1' } else { '0' });
        let mut text: String = letters.chain(['\n']).collect();
        let used = self.used.iter().map(|(name, how)| (how.letter(), name));
        let quoted = self.quoted.iter().map(|name| (QUOTED, name));
        for (letter, name) in used.chain(quoted) {
            text.push_str(letter);
            text.push_str(name);
            text.push('\n');
        }
        text.into_bytes()
    }

    /// Reads the stored form; `None` if it is not valid.
    pub(super) fn decode(bytes: &[u8]) -> Option<MacroNote> {
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        let flag = |letter| match letter {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        };
        let [unclear, indirect, generates, contains] = lines.next()?.as_bytes() else { return None };
        let mut note = MacroNote {
            is_unclear: flag(*unclear)?,
            is_indirect: flag(*indirect)?,
            generates_env: flag(*generates)?,
            contains_out_dir: flag(*contains)?,
            used: BTreeMap::new(),
            quoted: BTreeSet::new(),
        };
        for line in lines {
            let (letter, name) = line.split_at_checked(1)?;
            if letter == QUOTED {
                note.quoted.insert(name.to_owned());
            } else {
                note.add_use(name, VariableUse::from_letter(letter)?);
            }
        }
        Some(note)
    }
}

/// Whether other crates can use the macro whose definition these tokens begin.
fn is_for_other_crates(before: &[Token<'_>]) -> bool {
    match before {
        [before @ .., Token::Word("macro_rules"), Token::Mark('!')] => is_exported(before),
        _ => true,
    }
}

/// The kind of an opening bracket. Nested brackets count as the greatest kind among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Opening {
    /// The brackets enclose ordinary code.
    Plain,
    /// The rules of a macro: `macro_rules! name {`.
    Rules,
    /// The argument of a macro, which may take the tokens apart: `name! (`.
    Call,
}

/// The kind of a bracket that comes after these tokens.
fn opening(before: &[Token<'_>]) -> Opening {
    match before {
        [.., Token::Word("macro_rules"), Token::Mark('!'), Token::Word(_)] => Opening::Rules,
        [.., Token::Word(_), Token::Mark('!')] | [.., Token::Word(_), Token::Mark('!'), Token::Word(_)] => {
            Opening::Call
        }
        _ => Opening::Plain,
    }
}

/// Whether a text looks like the name of a variable, such as `OUT_DIR` or `X_2`.
fn is_variable_name(text: &str) -> bool {
    let is_part = |byte: u8| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.len() > 1 && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn note(text: &str) -> MacroNote {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lib.rs");
        fs::write(&path, text).unwrap();
        MacroNote::of(&SourceTexts::read(&[path], &[]))
    }

    fn library(uses: &[&MacroNote], text: &str) -> MacroNote {
        let mut whole = note(text);
        uses.iter().for_each(|used| whole.add(used));
        whole
    }

    const GEN: &str = "macro_rules! gen { ($n:tt) => { include!(concat!(env!(\"OUT_DIR\"), $n)); } }";

    #[test]
    fn key_07_the_variables_of_a_macro_are_known_from_its_tokens() {
        use VariableUse::{Indirect, Locator, Unclear, Unnamed, Value};
        for (text, of_out_dir, of_others) in [
            ("fn main() {}", Unnamed, Unnamed),
            (GEN, Locator, Unnamed),
            ("macro m() { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) }", Locator, Unnamed),
            // Expanded where it stands.
            ("include!(concat!(env!(\"OUT_DIR\"), \"/x\"));", Unnamed, Unnamed),
            ("fn f() { std::env::var(\"OUT_DIR\"); std::env::var(\"X_DIR\"); }", Unnamed, Unnamed),
            ("macro_rules! m { () => { include!(env!(\"X_DIR\")) } }", Unnamed, Locator),
            ("macro_rules! m { () => { env!(\"X_DIR\") } }", Unnamed, Value),
            ("macro_rules! m { () => { $crate::ask!(\"X_DIR\") } }", Unnamed, Value),
            ("macro_rules! m { () => { env!(\"OUT_DIR\") } }", Value, Unnamed),
            ("macro_rules! m { () => { $crate::ask!(1, \"OUT_DIR\") } }", Value, Unnamed),
            ("macro_rules! m { ($n:tt) => { env!($n) } }", Unnamed, Indirect),
            ("use std::env as e;", Unnamed, Indirect),
            ("macro_rules! m { () => { env!(concat!(\"OUT\", \"_DIR\")) } }", Unclear, Unnamed),
            ("macro_rules! m { ($n:tt) => { env!(concat!(\"CARGO_BIN_EXE_\", $n)) } }", Unnamed, Unnamed),
            ("macro_rules! m { ($n:tt) => { env!(concat!(\"X_\", $n)) } }", Unnamed, Unclear),
            ("macro_rules! m { ($n:tt) => { env!(concat!($n, \"_DIR\")) } }", Unclear, Unclear),
            ("macro_rules! m { ($n:tt) => { env!(concat!($n, 1)) } }", Unclear, Unclear),
            ("macro_rules! m { ($n:tt) => { env!(other!(\"X\", $n)) } }", Unclear, Unclear),
            ("#[macro_export]\n#[doc = \"x\"] macro_rules! concat { () => {} }", Unclear, Unclear),
            ("pub macro concat() {}", Unclear, Unclear),
            (
                "#[macro_export] macro_rules! m { () => {} }\n#[rustfmt::skip] macro_rules! concat { () => {} }",
                Unnamed,
                Unnamed,
            ),
            // Macros are looked for where they are expanded.
            ("pub use other::include;", Unnamed, Unnamed),
            ("fn f() { \"open", Unclear, Unclear),
            ("const A: &str = \"env!(\\\"OUT_DIR\\\")\"; // env!(\"OUT_DIR\")", Unnamed, Unnamed),
        ] {
            let note = note(&format!("{text} // env"));
            assert_eq!((note.use_of("OUT_DIR"), note.use_of("X_DIR")), (of_out_dir, of_others), "{text}");
        }
    }

    #[test]
    fn key_07_the_note_of_a_crate_includes_its_dependencies() {
        let (empty, locating, value) =
            (note(""), note(GEN), note("macro_rules! v { () => { env!(\"OUT_DIR\") } }"));
        let outer = library(&[&empty, &locating], "pub use inner::gen;");
        assert_eq!(outer.use_of("OUT_DIR"), VariableUse::Locator);
        assert_eq!(library(&[&outer, &value], "").use_of("OUT_DIR"), VariableUse::Value);
        assert_eq!(library(&[&value, &outer], GEN).use_of("OUT_DIR"), VariableUse::Value);
    }

    #[test]
    fn key_07_every_name_in_a_proc_macro_counts() {
        for text in [
            "fn f() { quote! { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } }",
            "fn f() { \"include!(concat!(env!(\\\"OUT_DIR\\\")))\" }",
            "fn f() { std::env::var(\"OUT_DIR\") }",
            "fn f() { quote! { OUT_DIR } }",
            // A locator within another call in a rule, and a rule in the argument of another macro.
            "macro_rules! m { () => { quote! { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } } }",
            "cfg! { macro_rules! m { () => { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } } }",
            "macro m() { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) }",
        ] {
            let macros = note(text).into_proc_macros();
            assert_eq!(macros.use_of("OUT_DIR"), VariableUse::Unclear, "{text}");
            // The same if a library that the proc macro is made of contains it.
            let macros = library(&[&note(text)], "").into_proc_macros();
            assert_eq!(library(&[&macros], "").use_of("OUT_DIR"), VariableUse::Unclear, "{text}");
        }
        let value = note("fn f() { quote! { env!(\"OUT_DIR\") } }").into_proc_macros();
        assert_eq!(value.use_of("OUT_DIR"), VariableUse::Value);
        // A rule is expanded when the proc macro is compiled, and other crates cannot call it.
        let rules = note(GEN).into_proc_macros();
        assert_eq!(
            (rules.use_of("OUT_DIR"), rules.use_of("X_DIR")),
            (VariableUse::Unnamed, VariableUse::Unnamed)
        );
        let by_both = library(&[&rules, &note(GEN)], "");
        assert_eq!(by_both.use_of("OUT_DIR"), VariableUse::Locator);
        let asking = note("macro_rules! m { () => { env!(\"OUT_DIR\") } }").into_proc_macros();
        assert_eq!(asking.use_of("OUT_DIR"), VariableUse::Value);
        // A file that the crate itself includes is in none of its macros.
        let own = note("const A: u8 = include!(concat!(env!(\"OUT_DIR\"), \"/x\"));").into_proc_macros();
        assert_eq!(
            (own.use_of("OUT_DIR"), own.use_of("X_DIR")),
            (VariableUse::Unnamed, VariableUse::Unnamed)
        );
        let generating = note("fn f() { Ident::new(\"env\", span) }").into_proc_macros();
        assert_eq!(
            (generating.use_of("OUT_DIR"), generating.use_of("X_DIR")),
            (VariableUse::Unnamed, VariableUse::Indirect)
        );
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for text in [
            "",
            GEN,
            "fn f() { quote! { include!(env!(\"X\")) } }",
            "fn f() { env!(concat!(\"X_\", $n)) }",
            "macro_rules! m { ($n:tt) => { env!($n); ask!(\"X\", \"OUT_DIR\", \"env\") } }",
        ] {
            let note = note(text);
            assert_eq!(MacroNote::decode(&note.encode()), Some(note), "{text}");
        }
        for bytes in [&b""[..], b"0000", b"000\n", b"0002\n", b"0000\nx\n", b"0000\n\n", b"\xff000\n"] {
            assert_eq!(MacroNote::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(source in "([(){}!$#\",]|env|concat|macro_rules|include|OUT_DIR| ){0,30}") {
            let note = note(&format!("// env\n{source}"));
            prop_assert_eq!(MacroNote::decode(&note.encode()), Some(note));
        }
    }
}
