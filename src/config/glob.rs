//! Globs for words and for paths. Pure.
//!
//! `*` matches any number of characters, `?` one character, `[a-z]` and `[!a-z]` one character of a
//! set; `\` makes the next character literal. In a path none of these matches a `/`, and `**` as a
//! whole component matches any number of directories. Matching takes at most the length of the
//! pattern times that of the text, because a project's file may contain any pattern.
//!
//! The crate `globset` is not used: it matches `?` and sets byte by byte, so a declared input with
//! an umlaut in its name would be lost, and it cannot say which directories a walk has to enter.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// The length limit of a pattern.
const PATTERN_BYTES_MAX: usize = 4096;

/// A glob for a word, such as a crate's name or an argument. The default matches the empty word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordGlob {
    tokens: Vec<GlobToken>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobToken {
    Byte(u8),
    One,
    Run,
    Class { is_negated: bool, ranges: Vec<(char, char)> },
}

impl WordGlob {
    /// Parses a glob; `None` if it is empty or too long, or if a bracket is not closed.
    pub fn new(text: &str) -> Option<WordGlob> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.contains('\0') {
            return None;
        }
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '*' if tokens.last() == Some(&GlobToken::Run) => {}
                '*' => tokens.push(GlobToken::Run),
                '?' => tokens.push(GlobToken::One),
                '[' => tokens.push(class(&mut rest)?),
                '\\' => push_letter(&mut tokens, rest.next()?),
                other => push_letter(&mut tokens, other),
            }
        }
        Some(WordGlob { tokens })
    }

    /// Whether the glob matches the whole text.
    pub fn matches(&self, text: &[u8]) -> bool {
        // On a mismatch the last `*` takes one byte more. Earlier ones need no second try: the
        // last `*` can take every byte that an earlier one could have taken instead.
        // `token` and `at` are the positions in the pattern and in the text. `retry` is the position
        // of the last `*` and how far it reaches in the text.
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            if self.tokens.get(token) == Some(&GlobToken::Run) {
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
        self.tokens[token..].iter().all(|token| *token == GlobToken::Run)
    }

    /// Returns the only text that the glob matches; `None` if it has a wildcard.
    fn literal(&self) -> Option<Vec<u8>> {
        self.tokens
            .iter()
            .map(|token| if let GlobToken::Byte(byte) = token { Some(*byte) } else { None })
            .collect()
    }
}

impl GlobToken {
    /// Returns how many bytes at the beginning of the text match; `None` if none do. The text is
    /// not empty.
    fn take(&self, text: &[u8]) -> Option<usize> {
        match self {
            GlobToken::Byte(byte) => (text[0] == *byte).then_some(1),
            GlobToken::One => Some(letter(text).1),
            GlobToken::Class { is_negated, ranges } => {
                let (letter, len) = letter(text);
                let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&letter));
                (is_in != *is_negated).then_some(len)
            }
            GlobToken::Run => None,
        }
    }
}

/// Returns the first character and its length in bytes. A byte that is not UTF-8 counts as a
/// character of its own.
fn letter(text: &[u8]) -> (char, usize) {
    // A character has at most four bytes, so no more are decoded. The fourth may be the first byte
    // of the next character, and then only the valid part in front of it counts.
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |letter| (letter, letter.len_utf8()))
}

fn push_letter(tokens: &mut Vec<GlobToken>, letter: char) {
    let mut buffer = [0; 4];
    tokens.extend(letter.encode_utf8(&mut buffer).bytes().map(GlobToken::Byte));
}

/// Parses a set in brackets, after its opening bracket; `None` if it is not closed.
fn class(rest: &mut std::str::Chars<'_>) -> Option<GlobToken> {
    // A `]` directly after the opening bracket is a member of the set, and a `-` that was escaped
    // with `\` does not form a range. So each letter remembers whether it was escaped.
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
    Some(GlobToken::Class { is_negated, ranges })
}

/// A glob for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    is_absolute: bool,
    parts: Vec<GlobPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobPart {
    /// `**`
    Directories,
    /// `..`
    Up,
    One(WordGlob),
}

impl PathGlob {
    /// Parses a glob; `None` if it is empty or too long, if a bracket is not closed, or if a `..`
    /// follows a wildcard, because its parent directory is then not known.
    pub fn new(text: &str) -> Option<PathGlob> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let mut parts: Vec<GlobPart> = Vec::new();
        for part in text.split('/') {
            match (part, parts.last()) {
                ("" | ".", _) | ("**", Some(GlobPart::Directories)) => {}
                ("**", _) => parts.push(GlobPart::Directories),
                // `a/..` is removed, as the paths that are matched have no `..` either.
                ("..", Some(GlobPart::One(above))) if above.literal().is_some() => {
                    parts.pop();
                }
                ("..", None | Some(GlobPart::Up)) if !text.starts_with('/') => parts.push(GlobPart::Up),
                ("..", _) => return None,
                (one, _) => parts.push(GlobPart::One(WordGlob::new(one)?)),
            }
        }
        // `vendor/` matches everything below `vendor`.
        if text.ends_with('/') && parts.last() != Some(&GlobPart::Directories) {
            parts.push(GlobPart::Directories);
        }
        (!parts.is_empty()).then_some(PathGlob { is_absolute: text.starts_with('/'), parts })
    }

    /// Whether the glob matches the whole path. A relative glob matches only relative paths.
    pub fn matches(&self, path: &Path) -> bool {
        let (ends, _) = self.walk(path);
        ends
    }

    /// Whether the glob can match something below this directory, at any depth. A walk need not
    /// enter other directories.
    pub fn reaches(&self, dir: &Path) -> bool {
        let (_, goes_on) = self.walk(dir);
        goes_on
    }

    /// Returns the directory in which a walk begins: the components in front of the first wildcard.
    pub fn literal_dir(&self) -> Vec<u8> {
        let mut dir = if self.is_absolute { b"/".to_vec() } else { Vec::new() };
        for part in &self.parts[..self.parts.len() - 1] {
            let name = match part {
                GlobPart::Directories => break,
                GlobPart::Up => b"..".to_vec(),
                GlobPart::One(pattern) => match pattern.literal() {
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

    /// Returns whether the glob matches the whole path, and whether it can match more below it.
    ///
    /// `places[n]` says whether the first `n` parts can match the components so far. Keeping all
    /// such numbers as a set, instead of trying one after the other, bounds the time.
    fn walk(&self, path: &Path) -> (bool, bool) {
        if path.is_absolute() != self.is_absolute {
            return (false, false);
        }
        let end = self.parts.len();
        let mut places = vec![false; end + 1];
        places[0] = true;
        self.skip_directories(&mut places);
        let named = |component: &Component<'_>| !matches!(component, Component::RootDir | Component::CurDir);
        for component in path.components().filter(named) {
            let mut next = vec![false; end + 1];
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| places[*at]) {
                match (part, component) {
                    (GlobPart::Directories, Component::Normal(_)) => {
                        next[at] = true;
                        // At the end `**` matches the entries of a directory, so at least one.
                        next[at + 1] |= at + 1 == end;
                    }
                    (GlobPart::Up, Component::ParentDir) => next[at + 1] = true,
                    (GlobPart::One(pattern), Component::Normal(name)) => {
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

    /// `**` also matches no directory at all, unless it is the last part.
    fn skip_directories(&self, places: &mut [bool]) {
        for (at, part) in self.parts[..self.parts.len() - 1].iter().enumerate() {
            if places[at] && *part == GlobPart::Directories {
                places[at + 1] = true;
            }
        }
    }
}

/// Makes a relative glob absolute by the directory that it is relative to. Wildcards in the
/// directory's own name are escaped. `None` if the name is not UTF-8.
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
    fn a_glob_matches_whole_words() {
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
            let read = WordGlob::new(pattern).unwrap();
            for text in yes {
                assert!(read.matches(text.as_bytes()), "{pattern} {text}");
            }
            for text in no {
                assert!(!read.matches(text.as_bytes()), "{pattern} {text}");
            }
        }
        for pattern in ["", "[a", "[]", "a\\", "a\0b"] {
            assert_eq!(WordGlob::new(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_path_glob_matches_whole_paths() {
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
    fn a_walk_enters_only_directories_with_possible_matches() {
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
    fn wildcards_in_the_name_of_the_base_directory_are_literal() {
        let anchored = anchor("src/*.rs", Path::new("/w[1]/a*")).unwrap();
        let glob = PathGlob::new(&anchored).unwrap();
        assert!(glob.matches(Path::new("/w[1]/a*/src/x.rs")));
        assert!(!glob.matches(Path::new("/w1/ab/src/x.rs")));
        let up = PathGlob::new(&anchor("../x", Path::new("/a/b")).unwrap()).unwrap();
        assert!(up.matches(Path::new("/a/x")));
        assert_eq!(anchor("/abs/*", Path::new("/a")).unwrap(), "/abs/*");
    }

    #[test]
    fn matching_a_hostile_pattern_is_fast() {
        let pattern = WordGlob::new(&("a*".repeat(500) + "b")).unwrap();
        assert!(!pattern.matches("a".repeat(20_000).as_bytes()));
        let glob = PathGlob::new(&("**/a/".repeat(200) + "b")).unwrap();
        assert!(!glob.matches(Path::new(&"a/".repeat(500))));
    }
}
