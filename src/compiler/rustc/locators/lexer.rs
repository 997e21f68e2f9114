//! A small lexer for Rust that tells code from strings and comments.
//!
//! Pure. It returns identifiers, string literals and punctuation, and skips numbers, characters and
//! lifetimes. A source with a token that does not end has no tokens at all, so that nothing is proven
//! about its crate.

/// A token that is not skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or keyword, without `r#`.
    Word(&'a str),
    /// The text between the quotes of a string literal, with escapes as they are written.
    Text(&'a str),
    /// One character of punctuation.
    Mark(char),
}

/// The tokens of a source file; `None` if a comment, string or character does not end.
pub(super) fn tokens(source: &str) -> Option<Vec<Token<'_>>> {
    // The order of the branches matters: `r"…"` and `b'x'` begin with a letter, so strings and characters
    // come before words.
    let mut lexer = Lexer { rest: source };
    let mut tokens = Vec::new();
    while let Some(first) = lexer.rest.chars().next() {
        if first.is_whitespace() {
            lexer.skip(first.len_utf8());
        } else if lexer.rest.starts_with("//") {
            lexer.skip(lexer.rest.find('\n').unwrap_or(lexer.rest.len()));
        } else if lexer.rest.starts_with("/*") {
            lexer.skip_comment()?;
        } else if let Some(text) = lexer.raw_string()? {
            tokens.push(Token::Text(text));
        } else if let Some(text) = lexer.string()? {
            tokens.push(Token::Text(text));
        } else if first == '\'' || lexer.rest.starts_with("b'") {
            lexer.skip_character()?;
        } else if is_word_start(first) {
            tokens.push(Token::Word(lexer.word()));
        } else if first.is_ascii_digit() {
            lexer.skip_while(|c| c == '_' || c.is_ascii_alphanumeric());
        } else {
            lexer.skip(first.len_utf8());
            tokens.push(Token::Mark(first));
        }
    }
    Some(tokens)
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn skip(&mut self, len: usize) {
        self.rest = &self.rest[len..];
    }

    fn skip_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let len = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    /// Skips a block comment. These comments nest. `None` if it does not end.
    fn skip_comment(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return Some(());
                }
            } else {
                self.skip(self.rest.chars().next()?.len_utf8());
            }
        }
    }

    /// Takes a raw string such as `r#"…"#`, also of bytes and of C strings. `Some(None)` means that no raw
    /// string begins here, and `None` that the one that begins here does not end.
    fn raw_string(&mut self) -> Option<Option<&'a str>> {
        let Some(after) = ["r", "br", "cr"].iter().find_map(|prefix| self.rest.strip_prefix(prefix)) else {
            return Some(None);
        };
        // The string ends at a quote with as many `#` as there are before its beginning.
        let hashes = after.len() - after.trim_start_matches('#').len();
        let Some(body) = after[hashes..].strip_prefix('"') else { return Some(None) };
        let end = format!("\"{}", "#".repeat(hashes));
        let len = body.find(&end)?;
        self.rest = &body[len + end.len()..];
        Some(Some(&body[..len]))
    }

    /// Takes a string with escapes, also of bytes and of C strings. `Some(None)` and `None` as above.
    fn string(&mut self) -> Option<Option<&'a str>> {
        let Some(body) = ["\"", "b\"", "c\""].iter().find_map(|prefix| self.rest.strip_prefix(prefix)) else {
            return Some(None);
        };
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.rest = &body[at + 1..];
                    return Some(Some(&body[..at]));
                }
                _ => {}
            }
        }
        None
    }

    /// Skips a character, a byte, a lifetime or a label. `None` if it is none of them.
    fn skip_character(&mut self) -> Option<()> {
        let body = self.rest.trim_start_matches('b').strip_prefix('\'')?;
        let mut chars = body.char_indices();
        let (_, first) = chars.next()?;
        let (second_at, second) = chars.next().unwrap_or((body.len(), ' '));
        if first == '\\' {
            // The escaped character may be a quote itself, so the search for the end begins after it.
            let after = body.get(second_at + second.len_utf8()..)?;
            self.rest = &after[after.find('\'')? + 1..];
        } else if second == '\'' {
            self.rest = &body[second_at + 1..];
        } else if is_word_start(first) {
            // `'a` without a closing quote is a lifetime or a label.
            self.rest = body;
            self.skip_while(is_word);
        } else {
            return None;
        }
        Some(())
    }

    fn word(&mut self) -> &'a str {
        if let Some(raw) = self.rest.strip_prefix("r#") {
            self.rest = raw;
        }
        self.skip_while(is_word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lexed(source: &str) -> Option<Vec<String>> {
        let text = |token: Token<'_>| match token {
            Token::Word(word) => word.to_owned(),
            Token::Text(text) => format!("«{text}»"),
            Token::Mark(mark) => mark.to_string(),
        };
        Some(tokens(source)?.into_iter().map(text).collect())
    }

    #[test]
    fn code_is_told_from_strings_and_comments() {
        for (source, expected) in [
            ("a!(\"b\\\"c\")", "a ! ( «b\\\"c» )"),
            ("// \"x\n/* \" /* \" */ */ y", "y"),
            ("r#\"a\"b\"# br\"\\\" c\"z\"", "«a\"b» «\\» «z»"),
            ("'a' '\\'' '\\u{1F600}' b'x' b'\\'' 'life: &'static", ": &"),
            ("'\"' \"s\" '_'", "«s»"),
            ("r#fn 1_000u32 0x1f 1.5e3 x1", "fn . x1"),
            ("#[doc = \"é\"] é", "# [ doc = «é» ] é"),
            ("", ""),
        ] {
            assert_eq!(lexed(source).unwrap().join(" "), expected, "{source}");
        }
        for source in ["\"open", "r#\"open\"", "/* open", "'", "'\\"] {
            assert_eq!(lexed(source), None, "{source}");
        }
    }

    proptest! {
        #[test]
        fn no_source_makes_the_lexer_panic(source in "([\"'r#b/*\\\\ a\n]|\\PC){0,40}") {
            let _ = tokens(&source);
        }
    }
}
