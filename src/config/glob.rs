//! Globs: for words, and for paths.
//!
//! Pure. `*` stands for any run of characters, `?` for one, `[a-z]` and `[!a-z]` for one of
//! some; `\` takes the meaning away from what follows. In a path none of these stands for a
//! `/`, and `**` as a whole component stands for any number of directories. Matching costs
//! at most the pattern's length times the text's: a project's file may hold any pattern.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// The longest pattern. What is longer was not written by a person.
const PATTERN_BYTES_MAX: usize = 4096;

/// A glob for a word: a crate's name, an argument. The default one stands for the empty word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Run,
    Class { is_negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads it; `None` if it is empty, too long, or a bracket is not closed.
    pub fn new(text: &str) -> Option<Pattern> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.contains('\0') {
            return None;
        }
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '*' if tokens.last() == Some(&Token::Run) => {}
                '*' => tokens.push(Token::Run),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut rest)?),
                '\\' => push_letter(&mut tokens, rest.next()?),
                other => push_letter(&mut tokens, other),
            }
        }
        Some(Pattern { tokens })
    }

    /// Whether it stands for the whole of this text.
    pub fn matches(&self, text: &[u8]) -> bool {
        // On a mismatch the last run takes one byte more; earlier runs need no second try,
        // since whatever they could have taken the last one can take as well.
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            if self.tokens.get(token) == Some(&Token::Run) {
                retry = Some((token, at));
                token += 1;
                continue;
            }
            let taken = self.tokens.get(token).and_then(|token| token.take(&text[at..]));
            match (taken, retry) {
                (Some(len), _) => (token, at) = (token + 1, at + len),
                (None, Some((run, from))) => {
                    retry = Some((run, from + 1));
                    (token, at) = (run + 1, from + 1);
                }
                (None, None) => return false,
            }
        }
        self.tokens[token..].iter().all(|token| *token == Token::Run)
    }

    /// The text that it stands for, if there is only one.
    fn literal(&self) -> Option<Vec<u8>> {
        self.tokens
            .iter()
            .map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None })
            .collect()
    }
}

impl Token {
    /// How many bytes it takes from the beginning of a text that is not empty.
    fn take(&self, text: &[u8]) -> Option<usize> {
        match self {
            Token::Byte(byte) => (text[0] == *byte).then_some(1),
            Token::One => Some(letter(text).1),
            Token::Class { is_negated, ranges } => {
                let (letter, len) = letter(text);
                let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&letter));
                (is_in != *is_negated).then_some(len)
            }
            Token::Run => None,
        }
    }
}

/// The first character, and how many bytes it takes. What is no text goes byte by byte.
fn letter(text: &[u8]) -> (char, usize) {
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |letter| (letter, letter.len_utf8()))
}

fn push_letter(tokens: &mut Vec<Token>, letter: char) {
    let mut buffer = [0; 4];
    tokens.extend(letter.encode_utf8(&mut buffer).bytes().map(Token::Byte));
}

/// What stands between brackets; the opening one is gone already.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut letters = Vec::new();
    let mut is_negated = false;
    loop {
        match rest.next()? {
            '!' | '^' if letters.is_empty() && !is_negated => is_negated = true,
            ']' if !letters.is_empty() => break,
            '\\' => letters.push((rest.next()?, true)),
            letter => letters.push((letter, false)),
        }
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some((from, _)) = letters.get(at) {
        match (letters.get(at + 1), letters.get(at + 2)) {
            (Some(('-', false)), Some((to, _))) => {
                ranges.push((*from, *to));
                at += 3;
            }
            _ => {
                ranges.push((*from, *from));
                at += 1;
            }
        }
    }
    Some(Token::Class { is_negated, ranges })
}

/// A glob for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    is_absolute: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`
    Directories,
    /// `..`
    Up,
    One(Pattern),
}

impl PathGlob {
    /// Reads it; `None` if it is empty or too long, if a bracket is not closed, or if a `..`
    /// stands behind a wildcard, where nobody could say what it leads to.
    pub fn new(text: &str) -> Option<PathGlob> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        for part in text.split('/') {
            match (part, parts.last()) {
                ("" | ".", _) | ("**", Some(Part::Directories)) => {}
                ("**", _) => parts.push(Part::Directories),
                ("..", Some(Part::One(above))) if above.literal().is_some() => {
                    parts.pop();
                }
                ("..", None | Some(Part::Up)) if !text.starts_with('/') => parts.push(Part::Up),
                ("..", _) => return None,
                (one, _) => parts.push(Part::One(Pattern::new(one)?)),
            }
        }
        // `vendor/` means what is in it.
        if text.ends_with('/') && parts.last() != Some(&Part::Directories) {
            parts.push(Part::Directories);
        }
        (!parts.is_empty()).then_some(PathGlob { is_absolute: text.starts_with('/'), parts })
    }

    /// Whether it stands for this path. A relative glob stands for a path that begins
    /// anywhere below the root only if it says so with `**`.
    pub fn matches(&self, path: &Path) -> bool {
        let (ends, _) = self.walk(path);
        ends
    }

    /// Whether it may stand for something in this directory, at any depth: whoever walks a
    /// tree need not look into others.
    pub fn reaches(&self, dir: &Path) -> bool {
        let (_, goes_on) = self.walk(dir);
        goes_on
    }

    /// The directory that everything it stands for lies in, as far as it is written out:
    /// where to begin a walk.
    pub fn literal_dir(&self) -> Vec<u8> {
        let mut dir = if self.is_absolute { b"/".to_vec() } else { Vec::new() };
        for part in &self.parts[..self.parts.len() - 1] {
            let name = match part {
                Part::Directories => break,
                Part::Up => b"..".to_vec(),
                Part::One(pattern) => match pattern.literal() {
                    Some(name) => name,
                    None => break,
                },
            };
            if !dir.is_empty() && !dir.ends_with(b"/") {
                dir.push(b'/');
            }
            dir.extend(name);
        }
        dir
    }

    /// After these components: whether the pattern may end here, and whether it may go on.
    fn walk(&self, path: &Path) -> (bool, bool) {
        if path.is_absolute() != self.is_absolute {
            return (false, false);
        }
        let end = self.parts.len();
        // The places in the pattern where one may be, as a set: no path is tried twice.
        let mut places = vec![false; end + 1];
        places[0] = true;
        self.skip_directories(&mut places);
        let named = |component: &Component<'_>| !matches!(component, Component::RootDir | Component::CurDir);
        for component in path.components().filter(named) {
            let mut next = vec![false; end + 1];
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| places[*at]) {
                match (part, component) {
                    (Part::Directories, Component::Normal(_)) => {
                        next[at] = true;
                        // At the end it stands for what is in the directory, so for one more.
                        next[at + 1] |= at + 1 == end;
                    }
                    (Part::Up, Component::ParentDir) => next[at + 1] = true,
                    (Part::One(pattern), Component::Normal(name)) => {
                        next[at + 1] |= pattern.matches(name.as_bytes());
                    }
                    _ => {}
                }
            }
            self.skip_directories(&mut next);
            places = next;
        }
        (places[end], places[..end].contains(&true))
    }

    /// `**` stands for no directory as well, unless it is the end.
    fn skip_directories(&self, places: &mut [bool]) {
        for (at, part) in self.parts[..self.parts.len() - 1].iter().enumerate() {
            if places[at] && *part == Part::Directories {
                places[at + 1] = true;
            }
        }
    }
}

/// A relative glob as one that counts from a directory; an absolute one as it is. What the
/// directory's name holds is no pattern.
pub(super) fn anchor(glob: &str, dir: &Path) -> Option<String> {
    if glob.starts_with('/') {
        return Some(glob.to_owned());
    }
    let mut anchored = String::new();
    for letter in dir.to_str()?.trim_end_matches('/').chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            anchored.push('\\');
        }
        anchored.push(letter);
    }
    Some(format!("{anchored}/{glob}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (pattern, yes, no) in [
            ("serde", &["serde"][..], &["serde_json", "Serde", ""][..]),
            ("serde*", &["serde", "serde_json"], &["xserde"]),
            ("*", &["", "a", "a/b"], &[]),
            ("a*b*c", &["abc", "axbxc", "abcbc"], &["ab", "abcd"]),
            ("a?c", &["abc", "aßc"], &["ac", "abbc"]),
            ("[a-cx]1", &["a1", "x1"], &["d1", "1"]),
            ("[!a]", &["b", "ß"], &["a", "ab"]),
            ("[]]", &["]"], &["["]),
            ("[a\\-c]", &["a", "-", "c"], &["b"]),
            ("\\*", &["*"], &["a"]),
            ("--cfg=*", &["--cfg=x"], &["--cfg"]),
        ] {
            let read = Pattern::new(pattern).unwrap();
            for text in yes {
                assert!(read.matches(text.as_bytes()), "{pattern} {text}");
            }
            for text in no {
                assert!(!read.matches(text.as_bytes()), "{pattern} {text}");
            }
        }
        for pattern in ["", "[a", "[]", "a\\", "a\0b"] {
            assert_eq!(Pattern::new(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn paths() {
        for (pattern, yes, no) in [
            ("src/*.rs", &["src/a.rs", "src/.rs"][..], &["src/a/b.rs", "a.rs", "/src/a.rs"][..]),
            ("src/**/*.rs", &["src/a.rs", "src/a/b/c.rs"], &["src/a.txt", "b/src/a.rs"]),
            ("**/vendor/**", &["vendor/x", "a/vendor/x/y"], &["vendor", "a/vendors/x"]),
            ("vendor/", &["vendor/x", "vendor/x/y"], &["vendorx"]),
            ("/opt/**", &["/opt/a", "/opt/a/b"], &["/", "opt/a"]),
            ("**", &["a", "a/b"], &["/a"]),
            ("/**/x", &["/x", "/a/b/x"], &["/a/b/y"]),
            ("../proto/*.proto", &["../proto/a.proto"], &["proto/a.proto"]),
            ("a/../b", &["b"], &["a/b"]),
            ("./a", &["a"], &["b"]),
        ] {
            let read = PathGlob::new(pattern).unwrap();
            for path in yes {
                assert!(read.matches(Path::new(path)), "{pattern} {path}");
            }
            for path in no {
                assert!(!read.matches(Path::new(path)), "{pattern} {path}");
            }
        }
        for pattern in ["", ".", "a/[b", "*/..", "**/..", "/../x"] {
            assert_eq!(PathGlob::new(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_walk_knows_where_to_begin_and_what_to_leave_out() {
        for (pattern, dir) in [
            ("a/b/*.sql", "a/b"),
            ("*.sql", ""),
            (".sqlx/**/*.json", ".sqlx"),
            ("/x/[a]/y", "/x"),
            ("../p/f", "../p"),
        ] {
            assert_eq!(PathGlob::new(pattern).unwrap().literal_dir(), dir.as_bytes(), "{pattern}");
        }
        let glob = PathGlob::new("a/*/c/**/*.x").unwrap();
        for (dir, is_reached) in
            [("a", true), ("a/b", true), ("a/b/c/d/e", true), ("b", false), ("a/b/d", false)]
        {
            assert_eq!(glob.reaches(Path::new(dir)), is_reached, "{dir}");
        }
        assert!(!PathGlob::new("a/*.x").unwrap().reaches(Path::new("a/b")));
    }

    #[test]
    fn a_directorys_own_name_is_no_pattern() {
        let anchored = anchor("src/*.rs", Path::new("/w[1]/a*")).unwrap();
        let glob = PathGlob::new(&anchored).unwrap();
        assert!(glob.matches(Path::new("/w[1]/a*/src/x.rs")));
        assert!(!glob.matches(Path::new("/w1/ab/src/x.rs")));
        let up = PathGlob::new(&anchor("../x", Path::new("/a/b")).unwrap()).unwrap();
        assert!(up.matches(Path::new("/a/x")));
        assert_eq!(anchor("/abs/*", Path::new("/a")).unwrap(), "/abs/*");
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = Pattern::new(&("a*".repeat(500) + "b")).unwrap();
        assert!(!pattern.matches("a".repeat(20_000).as_bytes()));
        let glob = PathGlob::new(&("**/a/".repeat(200) + "b")).unwrap();
        assert!(!glob.matches(Path::new(&"a/".repeat(500))));
    }
}
