//! What a crate's macros may ask for: the tokens of its sources and the notes of the crates
//! that it uses, put together (KEY-07).
//!
//! Pure. A note speaks of what is expanded in *another* crate. `include!(concat!(env!("X"), …))`
//! that stands in no macro is expanded where it stands and is nobody else's business; within
//! `macro_rules!` or `quote!` it is handed on. `OUT_DIR` is told more closely than others, as
//! nearly everybody who asks through a macro asks for it: where a name is not to be seen
//! (`env!($name)`), it has to be given by somebody, and nobody who gives `OUT_DIR` goes unseen.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Token, tokens};
use super::locator::{
    Sources, Verdict, asked_macro, is_asked_when_run, is_code_of_data, is_exported, is_redefined, located,
};
use super::pattern::{ANYTHING, Pattern};

/// The variable that nearly everybody means.
const OUT_DIR: &str = "OUT_DIR";

/// More names are not kept: then nothing is told of the crate.
const NAMES_MAX: usize = 4_096;

/// What a line begins with that tells of a name in tokens which a macro is given.
const QUOTED: &str = "q";

/// Of one crate and of all that it uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Variables that its macros ask for, and how; also [`Pattern`]s of their names.
    asked: BTreeMap<String, Verdict>,
    /// Those of them that are asked for in tokens which a macro is given, as in `quote!`. What else
    /// is asked for stands in the rules of `macro_rules!` and is expanded as a whole.
    quoted: BTreeSet<String>,
    /// It could not be told apart, or it puts names together.
    is_unclear: bool,
    /// It asks for variables that others name.
    is_indirect: bool,
    /// It may write a request for a variable as text: counts once a proc macro is made of it.
    writes_requests: bool,
    /// It says `OUT_DIR` somewhere: counts once a proc macro is made of it.
    says_out_dir: bool,
}

impl Note {
    /// Of a crate by itself.
    pub(super) fn of(sources: &Sources) -> Note {
        let mut note = Note { is_unclear: !sources.is_whole(), ..Note::default() };
        for source in sources.texts() {
            match tokens(source) {
                Some(tokens) => note.look(&tokens),
                None => note.is_unclear = true,
            }
        }
        note
    }

    fn look(&mut self, tokens: &[Token<'_>]) {
        let is_everywhere_macro = tokens.contains(&Token::Word("macro"));
        // What each opening is that is not closed yet.
        let mut open: Vec<Opening> = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let before = &tokens[..at];
            match token {
                Token::Mark('(' | '[' | '{') => open.push(opening(before)),
                Token::Mark(')' | ']' | '}') => drop(open.pop()),
                Token::Text(text) => {
                    let outer = |chain: usize| open.iter().rev().skip(chain).copied().max();
                    let everywhere = if is_everywhere_macro { Opening::Call } else { Opening::Plain };
                    self.text(text, before, |chain| outer(chain).unwrap_or(everywhere).max(everywhere));
                }
                Token::Word(word) => {
                    self.says_out_dir |= *word == OUT_DIR;
                    self.is_unclear |= is_redefined(before, word) && is_for_others(before);
                    self.word(word, &tokens[at + 1..]);
                }
                Token::Mark(_) => {}
            }
        }
    }

    /// `outer` says in what stands what stands in that many calls.
    fn text(&mut self, text: &str, before: &[Token<'_>], outer: impl Fn(usize) -> Opening) {
        self.writes_requests |= matches!(text, "env" | "option_env") || text.contains("env!");
        self.is_unclear |= is_code_of_data(before, text);
        if let Some(chain) = located(before) {
            let outer = outer(chain);
            if outer != Opening::Plain {
                self.ask(text, Verdict::Locator);
            }
            if outer == Opening::Call {
                self.says_out_dir |= text == OUT_DIR;
                if self.asked.contains_key(text) {
                    self.quoted.insert(text.to_owned());
                }
            }
            return;
        }
        self.says_out_dir |= text.contains(OUT_DIR);
        let is_asked = match asked_macro(before) {
            Some("env" | "option_env") => true,
            Some(_) => is_name(text),
            None => text == OUT_DIR && !is_asked_when_run(before),
        };
        if is_asked {
            self.ask(text, Verdict::Value);
        }
    }

    /// `env!($name)`: which variable is not to be seen. Of `env!(concat!("X_", $name))` it is seen
    /// which ones cannot be meant.
    fn word(&mut self, word: &str, after: &[Token<'_>]) {
        if !matches!(word, "env" | "option_env") {
            return;
        }
        match after {
            [Token::Mark('!'), Token::Mark('(' | '[' | '{'), first, ..] => match first {
                Token::Text(text) => self.is_unclear |= text.contains('\\'),
                Token::Mark('$' | '#') => self.is_indirect = true,
                _ => match Pattern::of_concat(&after[2..]) {
                    Some(pattern) => self.ask(&pattern.to_string(), Verdict::Unknown),
                    None => self.is_unclear = true,
                },
            },
            [Token::Word("as"), ..] => self.is_indirect = true,
            _ => {}
        }
    }

    fn ask(&mut self, name: &str, how: Verdict) {
        let is_sane = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_sane || (self.asked.len() >= NAMES_MAX && !self.asked.contains_key(name)) {
            self.is_unclear = true;
            return;
        }
        let known = self.asked.entry(name.to_owned()).or_insert(how);
        *known = how.max(*known);
    }

    /// Adds what another crate's note says.
    pub(super) fn add(&mut self, other: &Note) {
        other.asked.iter().for_each(|(name, how)| self.ask(name, *how));
        self.quoted.extend(other.quoted.iter().cloned());
        self.is_unclear |= other.is_unclear;
        self.is_indirect |= other.is_indirect;
        self.writes_requests |= other.writes_requests;
        self.says_out_dir |= other.says_out_dir;
    }

    /// What those who use this as a proc macro have to reckon with. It writes code, so whatever
    /// it is made of may have been said to write some. What only stands in the rules of a macro was
    /// expanded when the proc macro itself was compiled: it hands on no such macros.
    pub(super) fn into_proc_macros(mut self) -> Note {
        let quoted = std::mem::take(&mut self.quoted);
        self.asked.retain(|name, how| *how != Verdict::Locator || quoted.contains(name));
        self.asked.values_mut().for_each(|how| *how = (*how).max(Verdict::Unknown));
        if self.says_out_dir {
            self.ask(OUT_DIR, Verdict::Unknown);
        }
        self.is_indirect |= self.writes_requests;
        self
    }

    /// How its macros may ask for this variable.
    pub(super) fn verdict(&self, name: &str) -> Verdict {
        let is_meant =
            |asked: &str| asked == name || asked.contains(ANYTHING) && Pattern::from(asked).matches(name);
        let asked = self.asked.iter().filter(|(asked, _)| is_meant(asked)).map(|(_, how)| *how).max();
        let asked = asked.unwrap_or(Verdict::Silent);
        let least = match self {
            Note { is_unclear: true, .. } => Verdict::Unknown,
            Note { is_indirect: true, .. } if name != OUT_DIR => Verdict::Indirect,
            _ => Verdict::Silent,
        };
        asked.max(least)
    }

    /// As bytes: a line of letters for what holds, then a line for each name.
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = [self.is_unclear, self.is_indirect, self.writes_requests, self.says_out_dir];
        let letters = flags.iter().map(|is_set| if *is_set { '1' } else { '0' });
        let mut text: String = letters.chain(['\n']).collect();
        let asked = self.asked.iter().map(|(name, how)| (how.letter(), name));
        let quoted = self.quoted.iter().map(|name| (QUOTED, name));
        for (letter, name) in asked.chain(quoted) {
            text.push_str(letter);
            text.push_str(name);
            text.push('\n');
        }
        text.into_bytes()
    }

    /// From bytes; `None` if they say nothing sensible.
    pub(super) fn decode(bytes: &[u8]) -> Option<Note> {
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        let flag = |letter| match letter {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        };
        let [unclear, indirect, writes, says] = lines.next()?.as_bytes() else { return None };
        let mut note = Note {
            is_unclear: flag(*unclear)?,
            is_indirect: flag(*indirect)?,
            writes_requests: flag(*writes)?,
            says_out_dir: flag(*says)?,
            asked: BTreeMap::new(),
            quoted: BTreeSet::new(),
        };
        for line in lines {
            let (letter, name) = line.split_at_checked(1)?;
            if letter == QUOTED {
                note.quoted.insert(name.to_owned());
            } else {
                note.ask(name, Verdict::from_letter(letter)?);
            }
        }
        Some(note)
    }
}

/// Whether the macro whose name comes after these tokens is there for other crates.
fn is_for_others(before: &[Token<'_>]) -> bool {
    match before {
        [before @ .., Token::Word("macro_rules"), Token::Mark('!')] => is_exported(before),
        _ => true,
    }
}

/// What an opening is. In order: what is worse hides what is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Opening {
    /// None of a macro.
    Plain,
    /// The rules of a macro: `macro_rules! name {`.
    Rules,
    /// Tokens that a macro is given, which may take them apart: `name! (`.
    Call,
}

/// What opens after these tokens.
fn opening(before: &[Token<'_>]) -> Opening {
    match before {
        [.., Token::Word("macro_rules"), Token::Mark('!'), Token::Word(_)] => Opening::Rules,
        [.., Token::Word(_), Token::Mark('!')] | [.., Token::Word(_), Token::Mark('!'), Token::Word(_)] => {
            Opening::Call
        }
        _ => Opening::Plain,
    }
}

/// Whether this is how variables that build scripts set are called.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.len() > 1 && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn note(text: &str) -> Note {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lib.rs");
        fs::write(&path, text).unwrap();
        Note::of(&Sources::read(&[path], &[]))
    }

    fn library(uses: &[&Note], text: &str) -> Note {
        let mut whole = note(text);
        uses.iter().for_each(|used| whole.add(used));
        whole
    }

    const GEN: &str = "macro_rules! gen { ($n:tt) => { include!(concat!(env!(\"OUT_DIR\"), $n)); } }";

    #[test]
    fn key_07_what_macros_ask_for_is_told_from_their_tokens() {
        use Verdict::{Indirect, Locator, Silent, Unknown, Value};
        for (text, of_out_dir, of_others) in [
            ("fn main() {}", Silent, Silent),
            (GEN, Locator, Silent),
            ("macro m() { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) }", Locator, Silent),
            // Expanded where it stands.
            ("include!(concat!(env!(\"OUT_DIR\"), \"/x\"));", Silent, Silent),
            ("fn f() { std::env::var(\"OUT_DIR\"); std::env::var(\"X_DIR\"); }", Silent, Silent),
            ("macro_rules! m { () => { include!(env!(\"X_DIR\")) } }", Silent, Locator),
            ("macro_rules! m { () => { env!(\"X_DIR\") } }", Silent, Value),
            ("macro_rules! m { () => { $crate::ask!(\"X_DIR\") } }", Silent, Value),
            ("macro_rules! m { () => { env!(\"OUT_DIR\") } }", Value, Silent),
            ("macro_rules! m { () => { $crate::ask!(1, \"OUT_DIR\") } }", Value, Silent),
            ("macro_rules! m { ($n:tt) => { env!($n) } }", Silent, Indirect),
            ("use std::env as e;", Silent, Indirect),
            ("macro_rules! m { () => { env!(concat!(\"OUT\", \"_DIR\")) } }", Unknown, Silent),
            ("macro_rules! m { ($n:tt) => { env!(concat!(\"CARGO_BIN_EXE_\", $n)) } }", Silent, Silent),
            ("macro_rules! m { ($n:tt) => { env!(concat!(\"X_\", $n)) } }", Silent, Unknown),
            ("macro_rules! m { ($n:tt) => { env!(concat!($n, \"_DIR\")) } }", Unknown, Unknown),
            ("macro_rules! m { ($n:tt) => { env!(concat!($n, 1)) } }", Unknown, Unknown),
            ("macro_rules! m { ($n:tt) => { env!(other!(\"X\", $n)) } }", Unknown, Unknown),
            ("#[macro_export]\n#[doc = \"x\"] macro_rules! concat { () => {} }", Unknown, Unknown),
            ("pub macro concat() {}", Unknown, Unknown),
            (
                "#[macro_export] macro_rules! m { () => {} }\n#[rustfmt::skip] macro_rules! concat { () => {} }",
                Silent,
                Silent,
            ),
            // Macros are looked for where they are expanded.
            ("pub use other::include;", Silent, Silent),
            ("fn f() { \"open", Unknown, Unknown),
            ("const A: &str = \"env!(\\\"OUT_DIR\\\")\"; // env!(\"OUT_DIR\")", Silent, Silent),
        ] {
            let note = note(&format!("{text} // env"));
            assert_eq!((note.verdict("OUT_DIR"), note.verdict("X_DIR")), (of_out_dir, of_others), "{text}");
        }
    }

    #[test]
    fn key_07_a_crate_answers_for_those_that_it_uses() {
        let (silent, locating, value) =
            (note(""), note(GEN), note("macro_rules! v { () => { env!(\"OUT_DIR\") } }"));
        let outer = library(&[&silent, &locating], "pub use inner::gen;");
        assert_eq!(outer.verdict("OUT_DIR"), Verdict::Locator);
        assert_eq!(library(&[&outer, &value], "").verdict("OUT_DIR"), Verdict::Value);
        assert_eq!(library(&[&value, &outer], GEN).verdict("OUT_DIR"), Verdict::Value);
    }

    #[test]
    fn key_07_of_a_proc_macro_every_mention_counts() {
        for text in [
            "fn f() { quote! { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } }",
            "fn f() { \"include!(concat!(env!(\\\"OUT_DIR\\\")))\" }",
            "fn f() { std::env::var(\"OUT_DIR\") }",
            "fn f() { quote! { OUT_DIR } }",
            // What a rule says within another call, and what another macro makes a rule of.
            "macro_rules! m { () => { quote! { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } } }",
            "cfg! { macro_rules! m { () => { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } } }",
            "macro m() { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) }",
        ] {
            let macros = note(text).into_proc_macros();
            assert_eq!(macros.verdict("OUT_DIR"), Verdict::Unknown, "{text}");
            // Also if only a library that it is made of says so.
            let macros = library(&[&note(text)], "").into_proc_macros();
            assert_eq!(library(&[&macros], "").verdict("OUT_DIR"), Verdict::Unknown, "{text}");
        }
        let value = note("fn f() { quote! { env!(\"OUT_DIR\") } }").into_proc_macros();
        assert_eq!(value.verdict("OUT_DIR"), Verdict::Value);
        // A rule is expanded when the proc macro is compiled, and nobody else can call it.
        let rules = note(GEN).into_proc_macros();
        assert_eq!((rules.verdict("OUT_DIR"), rules.verdict("X_DIR")), (Verdict::Silent, Verdict::Silent));
        let by_both = library(&[&rules, &note(GEN)], "");
        assert_eq!(by_both.verdict("OUT_DIR"), Verdict::Locator);
        let asking = note("macro_rules! m { () => { env!(\"OUT_DIR\") } }").into_proc_macros();
        assert_eq!(asking.verdict("OUT_DIR"), Verdict::Value);
        // What the crate itself includes is in none of its macros.
        let own = note("const A: u8 = include!(concat!(env!(\"OUT_DIR\"), \"/x\"));").into_proc_macros();
        assert_eq!((own.verdict("OUT_DIR"), own.verdict("X_DIR")), (Verdict::Silent, Verdict::Silent));
        let writing = note("fn f() { Ident::new(\"env\", span) }").into_proc_macros();
        assert_eq!(
            (writing.verdict("OUT_DIR"), writing.verdict("X_DIR")),
            (Verdict::Silent, Verdict::Indirect)
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
            assert_eq!(Note::decode(&note.encode()), Some(note), "{text}");
        }
        for bytes in [&b""[..], b"0000", b"000\n", b"0002\n", b"0000\nx\n", b"0000\n\n", b"\xff000\n"] {
            assert_eq!(Note::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(source in "([(){}!$#\",]|env|concat|macro_rules|include|OUT_DIR| ){0,30}") {
            let note = note(&format!("// env\n{source}"));
            prop_assert_eq!(Note::decode(&note.encode()), Some(note));
        }
    }
}
