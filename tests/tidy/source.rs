//! A Rust file as the rules need it: its code, comments, tests and functions.
//!
//! This is a small lexer, not a parser: it knows comments, strings, braces and words. Finer checks belong to
//! clippy. It reads no files.
//!
//! Invariant: every view of a file has the same length and line breaks as the file, so that an offset in one of
//! them is valid in all.

use std::ops::Range;

/// A text file of the repository.
pub(crate) struct Source {
    /// The path relative to the repository's root, with forward slashes.
    pub(crate) path: String,
    /// The text of the file.
    pub(crate) text: String,
    /// The text with comments and the contents of literals blanked.
    pub(crate) code: String,
    /// Like `code`, with everything that is only compiled for tests blanked as well.
    pub(crate) product: String,
    /// Whether the whole file is only compiled for tests.
    pub(crate) is_test: bool,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// The number of lines from `fn` to the closing brace.
    pub(crate) lines: usize,
    /// The range of its body, braces included.
    pub(crate) body: Range<usize>,
    /// Whether an attribute makes it a test.
    pub(crate) is_test: bool,
}

impl Source {
    /// Makes the views of a file. The path decides whether it is a test; the caller finds `mod` declarations that
    /// make it one, with `test_modules`.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank_literals(text) } else { text.to_owned() };
        let is_test = path.split('/').any(|part| part == "tests" || part == "benches")
            || path.ends_with("/tests.rs")
            || path.ends_with("_tests.rs");
        let mut source =
            Source { path: path.into(), text: text.into(), product: code.clone(), code, is_test };
        for item in source.test_items() {
            blank(&mut source.product, item);
        }
        source
    }

    /// The text, in which everything that is only compiled for tests is blank.
    pub(crate) fn text_without_tests(&self) -> String {
        let mut text = self.text.clone();
        for item in self.test_items() {
            blank(&mut text, item);
        }
        text
    }

    /// Marks the whole file as a test.
    pub(crate) fn set_test(&mut self) {
        self.is_test = true;
    }

    /// The line of an offset, counted from 1.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    /// The number of lines.
    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Whether a program generates the file.
    pub(crate) fn is_generated(&self) -> bool {
        self.path.starts_with("protos/src/generated/")
    }

    /// Whether it is Rust that people write.
    pub(crate) fn is_our_rust(&self) -> bool {
        self.path.ends_with(".rs") && !self.is_generated()
    }

    /// The possible paths of files that `#[cfg(test)] mod name;` in this file makes tests.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let (dir, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let dir = match file {
            "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
            _ => format!("{dir}/{}", file.trim_end_matches(".rs")),
        };
        let name_of = |item: Range<usize>| {
            let declaration = self.code[item].strip_suffix(';')?;
            let (_, name) = declaration.rsplit_once("mod ")?;
            Some(name.trim().to_owned())
        };
        let names = self.test_items().into_iter().filter_map(name_of);
        names.flat_map(|name| [format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")]).collect()
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        words(&self.code).filter(|(_, word)| *word == "fn").filter_map(|(at, _)| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let rest = &self.code[at + "fn".len()..];
        let name_at = rest.find(|c: char| !c.is_whitespace())?;
        let name: String = rest[name_at..].chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() {
            return None; // A function pointer's type.
        }
        let open = at + "fn".len() + first_outside_parentheses(rest, &['{', ';'])?;
        let body = open..matching_brace(&self.code, open)?;
        let (line, end) = (self.line_of(at), self.line_of(body.end - 1));
        let is_test = attributes_before(&self.code, at).contains("test]")
            || attributes_before(&self.code, at).contains("test(");
        Some(Function { name, line, lines: end + 1 - line, body, is_test })
    }

    /// The ranges of items with `#[cfg(test)]`.
    fn test_items(&self) -> Vec<Range<usize>> {
        const MARK: &str = "#[cfg(test)]";
        let begins = self.code.match_indices(MARK).map(|(at, _)| at);
        let end_of = |at: usize| {
            let rest = &self.code[at + MARK.len()..];
            let end = at + MARK.len() + first_outside_parentheses(rest, &['{', ';'])?;
            if self.code.as_bytes()[end] == b';' { Some(end + 1) } else { matching_brace(&self.code, end) }
        };
        begins.filter_map(|at| Some(at..end_of(at)?)).collect()
    }
}

/// Whether a name can contain this character.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every word of a text with its offset.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let begins = text
        .char_indices()
        .filter(move |(at, c)| is_word(*c) && !text[..*at].chars().next_back().is_some_and(is_word));
    begins.map(move |(at, _)| {
        let rest = &text[at..];
        (at, &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())])
    })
}

/// The offset just after the brace that closes this block.
pub(crate) fn matching_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ => continue,
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

fn first_outside_parentheses(code: &str, wanted: &[char]) -> Option<usize> {
    let mut depth = 0i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ if depth == 0 && wanted.contains(&c) => return Some(at),
            _ => {}
        }
    }
    None
}

/// The text between the end of the previous item and a function, which contains attributes.
fn attributes_before(code: &str, at: usize) -> &str {
    let begin = code[..at].rfind(['}', ';', '{']).map_or(0, |end| end + 1);
    &code[begin..at]
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanked: String = text[range.clone()]
        .chars()
        .flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8()))
        .collect();
    text.replace_range(range, &blanked);
}

fn blank_literals(text: &str) -> String {
    let mut code = text.to_owned();
    let mut at = 0;
    while at < text.len() {
        let (inside, next) = literal(text, at);
        if !inside.is_empty() {
            blank(&mut code, inside);
        }
        at = next;
    }
    code
}

/// The range to blank for a comment or literal that begins at `at`, and where to continue.
fn literal(text: &str, at: usize) -> (Range<usize>, usize) {
    let rest = &text[at..];
    let step = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        let end = at + rest.find('\n').unwrap_or(rest.len());
        return (at..end, end);
    }
    if rest.starts_with("/*") {
        let end = block_comment_end(text, at);
        return (at..end, end);
    }
    if rest.starts_with('"') {
        let end = string_end(text, at + 1);
        return (at + 1..end, end + 1);
    }
    if rest.starts_with('r') && !text[..at].ends_with(|c| is_word(c) && c != 'b' && c != 'c') {
        let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            let begin = at + 2 + hashes;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[begin..].find(&close).map_or(text.len(), |end| begin + end);
            return (begin..end, (end + close.len()).min(text.len()));
        }
    }
    if rest.starts_with('\'')
        && let Some(end) = char_end(rest)
    {
        return (at + 1..at + end, at + end + 1);
    }
    (at..at, at + step)
}

fn block_comment_end(text: &str, begin: usize) -> usize {
    let mut depth = 0;
    let mut at = begin;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn string_end(text: &str, begin: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = begin;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// The offset of a character's closing quote. `None` for a lifetime.
fn char_end(rest: &str) -> Option<usize> {
    let mut inside = rest[1..].char_indices();
    let (_, first) = inside.next()?;
    if first == '\\' {
        inside.next();
        return Some(1 + inside.find(|(_, c)| *c == '\'')?.0);
    }
    let (at, second) = inside.next()?;
    (second == '\'').then_some(1 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        let text = "let a = \"fn x() {\"; // fn y() {\nlet b = r#\"\"fn\"#; /* { /* */ } */ let c = '{'; fn z<'a>() {}";
        let source = Source::new("src/a.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains(['x', 'y']), "{}", source.code);
        let names: Vec<_> = source.functions().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["z"]);
    }

    #[test]
    fn what_is_for_tests_is_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() {}\n}\n#[cfg(test)]\nmod more_tests;\nfn c() {}\n";
        let source = Source::new("src/daemon/core.rs", text);
        assert!(source.product.contains("fn a") && source.product.contains("fn c"));
        assert!(!source.product.contains("fn b"));
        assert_eq!(source.test_modules()[0], "src/daemon/core/more_tests.rs");
        assert!(source.functions()[1].is_test && !source.functions()[2].is_test);
    }
}
