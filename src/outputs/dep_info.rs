//! The dep-info file (`.d`), which names the files and variables that a compile read.
//!
//! Pure. Paths are replaced in the parsed form and not in the text: a name with a space is written in
//! two ways in one file (escaped among the prerequisites, plain among the targets), so replacing text
//! would get one of them wrong. A file that would be rendered differently is refused (KEY-04).
//!
//! Invariant (RST-06): a rendered dep-info parses back to the same value.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use thiserror::Error;

/// The content of a dep-info file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DepInfo {
    /// The outputs; the `.d` file comes first.
    pub targets: Vec<Vec<u8>>,
    /// The files that were read, in the compiler's order.
    pub files: Vec<Vec<u8>>,
    /// The variables that were read; the value is `None` where a variable was not set (KEY-06).
    pub env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Why a dep-info file is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DepInfoError {
    /// The compiler is not known to write such a line.
    #[error("line {line} of the dep-info is not understood")]
    Line {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The content is understood, but the compiler would have written it differently.
    #[error("the dep-info is not in the compiler's own form")]
    Form,
}

const ENV_PREFIX: &[u8] = b"# env-dep:";

impl DepInfo {
    /// Parses the text of a dep-info file.
    pub fn parse(text: &[u8]) -> Result<DepInfo, DepInfoError> {
        let mut info = DepInfo::default();
        let mut phony = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            info.take_line(line, &mut phony).ok_or(DepInfoError::Line { line: number + 1 })?;
        }
        if info.render() == text { Ok(info) } else { Err(DepInfoError::Form) }
    }

    fn take_line(&mut self, line: &[u8], phony: &mut Vec<Vec<u8>>) -> Option<()> {
        if let Some(variable) = line.strip_prefix(ENV_PREFIX) {
            self.env.push(parse_variable(variable)?);
        } else if let Some(at) = rule_separator(line) {
            self.targets.push(line[..at].to_vec());
            let files = split_names(&line[at + 2..]);
            if self.targets.len() == 1 {
                self.files = files;
            } else if self.files != files {
                // The compiler writes the same prerequisites for every target.
                return None;
            }
        } else if let Some(name) = line.strip_suffix(b":") {
            phony.push(unescape_name(name));
        } else if !line.is_empty() {
            return None;
        }
        Some(())
    }

    /// Renders the text of the file as the compiler writes it.
    pub fn render(&self) -> Vec<u8> {
        let names: Vec<Vec<u8>> = self.files.iter().map(|name| escape_name(name)).collect();
        let line = names.join(&b' ');
        let mut text = Vec::new();
        for target in &self.targets {
            text.extend_from_slice(target);
            text.extend_from_slice(b": ");
            text.extend_from_slice(&line);
            text.extend_from_slice(b"\n\n");
        }
        for name in &names {
            text.extend_from_slice(name);
            text.extend_from_slice(b":\n");
        }
        if !self.env.is_empty() {
            text.push(b'\n');
        }
        for (name, value) in &self.env {
            text.extend_from_slice(ENV_PREFIX);
            escape_variable(name, &mut text);
            if let Some(value) = value {
                text.push(b'=');
                escape_variable(value, &mut text);
            }
            text.push(b'\n');
        }
        text
    }

    /// Replaces every path and the value of every variable; `None` if one of the functions returns
    /// `None`.
    pub fn map(
        &self,
        map_path: impl Fn(&[u8]) -> Option<Vec<u8>>,
        map_value: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<DepInfo> {
        let paths =
            |paths: &[Vec<u8>]| -> Option<Vec<Vec<u8>>> { paths.iter().map(|path| map_path(path)).collect() };
        let value = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
            Some(value) => Some((name.clone(), Some(map_value(value)?))),
            None => Some((name.clone(), None)),
        };
        Some(DepInfo {
            targets: paths(&self.targets)?,
            files: paths(&self.files)?,
            env: self.env.iter().map(value).collect::<Option<_>>()?,
        })
    }

    /// Removes the values of these variables. A variable without a value looks like one that is not set.
    pub fn remove_values(&mut self, is_private: impl Fn(&str) -> bool) {
        for (name, value) in &mut self.env {
            // The value of a variable with a name that nobody knows is nobody's business either.
            if std::str::from_utf8(name).map_or(true, &is_private) {
                *value = None;
            }
        }
    }

    /// Gives every variable without a value the one that it has in a call. So it still has none if it is not set.
    pub fn fill_in_values(&mut self, value_of: impl Fn(&str) -> Option<Vec<u8>>) {
        for (name, value) in self.env.iter_mut().filter(|(_, value)| value.is_none()) {
            *value = std::str::from_utf8(name).ok().and_then(&value_of);
        }
    }

    /// Adds files, except for those that the list contains already.
    pub fn add_files(&mut self, paths: &[PathBuf]) {
        for path in paths {
            let path = path.as_os_str().as_bytes();
            if self.files.iter().all(|file| file != path) {
                self.files.push(path.to_vec());
            }
        }
    }
}

/// The position of the `: ` after a rule's target. It is the last one in the line, because spaces are
/// escaped in prerequisites and plain in targets.
fn rule_separator(line: &[u8]) -> Option<usize> {
    line.windows(2).rposition(|pair| pair == b": ")
}

/// Splits a list of prerequisites, and unescapes them.
fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut name = Vec::new();
    let mut bytes = list.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.peek() == Some(&b' ') => {
                bytes.next();
                name.push(b' ');
            }
            b' ' => names.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    if !name.is_empty() || !names.is_empty() {
        names.push(name);
    }
    names
}

fn unescape_name(name: &[u8]) -> Vec<u8> {
    split_names(name).join(&b' ')
}

fn escape_name(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        if byte == b' ' {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

fn parse_variable(text: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    match text.iter().position(|&byte| byte == b'=') {
        Some(at) => Some((unescape_variable(&text[..at])?, Some(unescape_variable(&text[at + 1..])?))),
        None => Some((unescape_variable(text)?, None)),
    }
}

fn unescape_variable(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

fn escape_variable(plain: &[u8], text: &mut Vec<u8>) {
    for &byte in plain {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The dep-info that rustc 1.95 wrote for a crate in a directory `a b/c: d`.
    const REAL: &[u8] = b"/a b/c: d/x.d: /a\\ b/c:\\ d/l\\ b.rs /a\\ b/c:\\ d/x\\ y.txt

/a b/c: d/libx.rlib: /a\\ b/c:\\ d/l\\ b.rs /a\\ b/c:\\ d/x\\ y.txt

/a\\ b/c:\\ d/l\\ b.rs:
/a\\ b/c:\\ d/x\\ y.txt:

# env-dep:BAR
# env-dep:EMPTY=
# env-dep:FOO=a\\nb\\\\c\\r d
";

    #[test]
    fn rst_06_a_dep_info_of_the_compiler_is_understood() {
        let info = DepInfo::parse(REAL).unwrap();
        assert_eq!(info.targets, [&b"/a b/c: d/x.d"[..], b"/a b/c: d/libx.rlib"]);
        assert_eq!(info.files, [&b"/a b/c: d/l b.rs"[..], b"/a b/c: d/x y.txt"]);
        assert_eq!(
            info.env,
            [
                (b"BAR".to_vec(), None),
                (b"EMPTY".to_vec(), Some(Vec::new())),
                (b"FOO".to_vec(), Some(b"a\nb\\c\r d".to_vec())),
            ]
        );
        assert_eq!(info.render(), REAL);
    }

    #[test]
    fn key_04_a_dep_info_in_another_form_is_refused() {
        for text in [
            &b"x.d: a.rs\n\ny.rmeta: b.rs\n\na.rs:\n"[..], // Two rules that differ.
            b"x.d: a.rs\n\n",                              // A file without its own rule.
            b"x.d: a.rs\n\na.rs:",                         // Cut off.
            b"x.d: a.rs\n\na.rs:\n\n# checksum:blake3=00 file_len:1 a.rs\n",
            b"x.d: a.rs\n\na.rs:\n\n# env-dep:A=\\q\n",
            b"x.d: a.rs \\\n  b.rs\n",
            b"nonsense",
        ] {
            assert!(DepInfo::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_file_is_added_once() {
        let mut info = DepInfo::parse(b"x.d: a.rs\n\na.rs:\n").unwrap();
        info.add_files(&["e f".into(), "e f".into()]);
        assert_eq!(info.render(), b"x.d: a.rs e\\ f\n\na.rs:\ne\\ f:\n");
    }

    #[test]
    fn net_06_a_value_that_was_removed_comes_from_the_call() {
        let text = b"x.d: a.rs\n\na.rs:\n\n# env-dep:PUBLIC=p\n# env-dep:SECRET=s\n# env-dep:UNSET\n";
        let mut info = DepInfo::parse(text).unwrap();
        info.remove_values(|name| name != "PUBLIC");
        let told: &[u8] = b"x.d: a.rs\n\na.rs:\n\n# env-dep:PUBLIC=p\n# env-dep:SECRET\n# env-dep:UNSET\n";
        assert_eq!(info.render(), told);
        info.fill_in_values(|name| match name {
            "PUBLIC" | "SECRET" => Some(b"s".to_vec()),
            _ => None,
        });
        assert_eq!(info.render(), text);
    }

    fn names() -> impl Strategy<Value = Vec<u8>> {
        "[a-z/][a-z ./:\"=#]{0,6}[a-z]".prop_map(String::into_bytes)
    }

    /// A variable may hold any bytes.
    fn variables() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
        ("[A-Z_]{1,4}".prop_map(String::into_bytes), proptest::option::of(any::<Vec<u8>>()))
    }

    proptest! {
        #[test]
        fn rst_06_a_rendered_dep_info_parses_back(
            targets in proptest::collection::vec(names(), 1..4),
            files in proptest::collection::vec(names(), 1..5),
            env in proptest::collection::vec(variables(), 0..4),
        ) {
            let info = DepInfo { targets, files, env };
            prop_assert_eq!(DepInfo::parse(&info.render()).unwrap(), info);
        }

        #[test]
        fn a_text_is_refused_or_rendered_again_byte_for_byte(text: Vec<u8>) {
            if let Ok(info) = DepInfo::parse(&text) {
                prop_assert_eq!(info.render(), text);
            }
        }
    }
}
