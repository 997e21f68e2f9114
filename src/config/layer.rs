//! Parses one TOML file into settings and mistakes, each with its position.
//!
//! Pure. An unknown key is a mistake: a misspelt limit that is silently ignored would be worse.
//! Errors quote at most `QUOTE_CHARS_MAX` characters of the file, without control characters.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{ConfigError, Site, position};
use super::key::Key;
use super::load::Origin;
use super::remotes::{self, REMOTES_MAX, RemoteEntry};
use super::value::Value;

/// The most characters of a wrong value that an error quotes.
const QUOTE_CHARS_MAX: usize = 40;

/// The deepest nesting of tables that is read; the tables of kache are nested three deep.
const DEPTH_MAX: usize = 8;

/// The table for one remote, and the list of tables for several.
const SHORT_REMOTE: &str = "cache.remote";
const REMOTES: &str = "remote";

/// A key that a file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) value: Value,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The settings and the mistakes of a file.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) settings: Vec<Setting>,
    /// `[cache.remote]` and `[[remote]]`, with the column of each in its line.
    pub(super) remotes: Vec<(RemoteEntry, usize)>,
    pub(super) errors: Vec<ConfigError>,
}

/// Parses the text of the file at `path`. The path is only used in errors.
pub(super) fn read(text: &str, path: &Path) -> Layer {
    let mut reader = LayerReader { text, path, layer: Layer::default() };
    match DeTable::parse(text) {
        Ok(table) => reader.table("", table.get_ref(), 0),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            reader.wrong(&span, what, "compare it with what `kache config default` prints".to_owned());
        }
    }
    reader.layer
}

struct LayerReader<'a> {
    text: &'a str,
    path: &'a Path,
    layer: Layer,
}

impl LayerReader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>, depth: usize) {
        for (name, value) in table.iter() {
            let full = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            // `cache` is a table of keys and `cache.dir` a key, and no name is both. So a name that
            // is neither is a mistake, and so is a table's name with a value that is not a table.
            match (Key::by_name(&full), value.get_ref()) {
                (None, DeValue::Table(remote)) if full == SHORT_REMOTE => {
                    self.remote(remote, &value.span(), true);
                }
                (None, DeValue::Array(remotes)) if full == REMOTES => self.remotes(remotes, &value.span()),
                (None, other) if full == SHORT_REMOTE || full == REMOTES => {
                    let (kind, right) = match full.as_str() {
                        REMOTES => ("a list of tables", "[[remote]]"),
                        _ => ("a table", "[cache.remote]"),
                    };
                    let what = format!("`{full}` is {kind}, not {}", describe_kind(other));
                    let remedy = format!("write `{right}` on a line of its own and the keys below it");
                    self.wrong(&value.span(), what, remedy);
                }
                (Some(key), _) => self.value(key, value),
                (None, DeValue::Table(inner)) if Key::is_table(&full) && depth < DEPTH_MAX => {
                    self.table(&full, inner, depth + 1);
                }
                (None, _) if Key::is_table(&full) => {
                    let what = format!("`{full}` is a table, not {}", describe(value.get_ref()));
                    self.wrong(
                        &value.span(),
                        what,
                        format!("write `[{full}]` on a line of its own and the keys below it"),
                    );
                }
                (None, _) => self.unknown(&full, &name.span()),
            }
        }
    }

    /// Reads the tables of `[[remote]]`.
    fn remotes(&mut self, remotes: &DeArray<'_>, span: &Range<usize>) {
        if remotes.len() > REMOTES_MAX {
            let what = format!("there are more remotes than REMOTES_MAX ({REMOTES_MAX}) allows");
            self.wrong(span, what, "remove some of them".to_owned());
            return;
        }
        for remote in remotes.iter() {
            match remote.get_ref() {
                DeValue::Table(table) => self.remote(table, &remote.span(), false),
                other => {
                    let what = format!("a remote is a table, not {}", describe_kind(other));
                    self.wrong(&remote.span(), what, "write `[[remote]]` and the keys below it".to_owned());
                }
            }
        }
    }

    fn remote(&mut self, table: &DeTable<'_>, span: &Range<usize>, is_short: bool) {
        let (line, column) = position(self.text, span.start);
        let origin = Origin::File { path: self.path.to_owned(), line };
        let mut entry = RemoteEntry::new(origin);
        entry.is_short = is_short;
        let prefix = if is_short { SHORT_REMOTE } else { REMOTES };
        for (name, value) in table.iter() {
            let name_text = name.get_ref().as_ref();
            let Some(key) = remotes::KEYS.iter().find(|key| key.name == name_text) else {
                let remedy = match remotes::nearest(name_text) {
                    Some(meant) => format!("did you mean `{prefix}.{meant}`?"),
                    None => "docs/configuration.md lists the keys of remotes".to_owned(),
                };
                self.wrong(&name.span(), format!("unknown key `{prefix}.{}`", shorten(name_text)), remedy);
                continue;
            };
            // The value is not quoted, because it may be a secret.
            if entry.set(key.name, value.get_ref()).is_none() {
                let what = format!("invalid value for `{prefix}.{}`", key.name);
                self.wrong(&value.span(), what, format!("expected {}", key.expected));
            }
        }
        self.layer.remotes.push((entry, column));
    }

    fn unknown(&mut self, name: &str, span: &Range<usize>) {
        let remedy = match Key::nearest(name) {
            Some(meant) => format!("did you mean `{}`?", meant.name()),
            None => "`kache config list` shows every key".to_owned(),
        };
        self.wrong(span, format!("unknown key `{}`", shorten(name)), remedy);
    }

    fn value(&mut self, key: Key, value: &Spanned<DeValue<'_>>) {
        match interpret(key, value.get_ref()) {
            Some(value_read) => {
                let (line, column) = position(self.text, value.span().start);
                self.layer.settings.push(Setting { key, value: value_read, line, column });
            }
            None => {
                let what = format!("invalid value for `{}`: {}", key.name(), describe(value.get_ref()));
                self.wrong(&value.span(), what, format!("expected {}", key.kind().expected()));
            }
        }
    }

    fn wrong(&mut self, span: &Range<usize>, what: String, remedy: String) {
        let (line, column) = position(self.text, span.start);
        let site = Site::File { path: self.path.to_owned(), line, column };
        self.layer.errors.push(ConfigError { site, what, remedy });
    }
}

fn interpret(key: Key, value: &DeValue<'_>) -> Option<Value> {
    let kind = key.kind();
    match (value, kind) {
        (DeValue::Boolean(yes), super::ValueKind::Bool) => Some(Value::Bool(*yes)),
        // TOML has booleans, numbers and lists, so in a file they must not be written as text.
        // Only variables hold them as text.
        (DeValue::String(_), super::ValueKind::Bool | super::ValueKind::Count) => None,
        (DeValue::String(_), _) if kind.takes_lists() => None,
        (DeValue::String(text), _) => kind.read(text),
        (DeValue::Integer(number), _) if kind.takes_numbers() && number.radix() == 10 => {
            kind.read(number.as_str())
        }
        (DeValue::Array(items), _) => {
            let texts: Vec<&str> = items.iter().map(|item| item.get_ref().as_str()).collect::<Option<_>>()?;
            kind.read_list(texts)
        }
        _ => None,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", shorten(text)),
        DeValue::Integer(number) => shorten(&number.to_string()),
        DeValue::Float(number) => shorten(number.as_str()),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "this list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Names the kind of a value that may hold secrets.
fn describe_kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        _ => "a single value",
    }
}

/// Shortens a text for an error, and escapes control characters that could reach a terminal.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let layer = read(text, Path::new("/f.toml"));
        layer.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tables_dotted_keys_and_inline_tables_mean_the_same() {
        let expected = [(Key::CacheMaxSize, Value::Size(1 << 30))];
        for text in
            ["[cache]\nmax_size = \"1GiB\"", "cache.max_size = \"1GiB\"", "cache = { max_size = 1073741824 }"]
        {
            let layer = read(text, Path::new("/f.toml"));
            let found: Vec<_> =
                layer.settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
            assert_eq!((found.as_slice(), layer.errors.len()), (&expected[..], 0), "{text}");
        }
    }

    #[test]
    fn settings_have_their_line_and_column() {
        let layer = read("[serve]\n\n  read_only = true\n", Path::new("/f.toml"));
        assert_eq!((layer.settings[0].line, layer.settings[0].column), (3, 15));
    }

    #[test]
    fn mistakes_have_a_position_and_a_hint() {
        for (text, expected) in [
            (
                "[cache]\nmax_size = \"20 apples\"\n",
                "/f.toml:2:12: invalid value for `cache.max_size`: \"20 apples\"\nhint: expected a number of bytes or a \
                 size with its unit, such as \"20GiB\" or \"500MB\"",
            ),
            (
                "[cache]\nmaxsize = 1\n",
                "/f.toml:2:1: unknown key `cache.maxsize`\nhint: did you mean `cache.max_size`?",
            ),
            (
                "colour = \"red\"",
                "/f.toml:1:1: unknown key `colour`\nhint: `kache config list` shows every key",
            ),
            (
                "cache = 3",
                "/f.toml:1:9: `cache` is a table, not 3\nhint: write `[cache]` on a line of its own and the keys below it",
            ),
            (
                "[serve]\nread_only = \"yes\"",
                "/f.toml:2:13: invalid value for `serve.read_only`: \"yes\"\nhint: expected true or false",
            ),
            (
                "daemon.idle_timeout = -1",
                "/f.toml:1:23: invalid value for `daemon.idle_timeout`: -1\nhint: expected a number of seconds or a time \
                 with its unit, such as \"600s\", \"10m\" or \"2h\"",
            ),
            (
                "serve.listen = \"9092\"",
                "/f.toml:1:16: invalid value for `serve.listen`: \"9092\"\nhint: expected a host and a port, such as \
                 \"127.0.0.1:9092\" or \"[::1]:9092\"",
            ),
            (
                "serve.hosts = [\"a\", 3]",
                "/f.toml:1:15: invalid value for `serve.hosts`: this list\nhint: expected a list of names, such as \
                 [\"cache.example\"]",
            ),
        ] {
            assert_eq!(errors(text), [expected]);
        }
    }

    #[test]
    fn a_syntax_error_has_a_position() {
        let found = errors("[cache\nmax_size = 1");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("/f.toml:1:7: this is not TOML: "), "{}", found[0]);
    }

    #[test]
    fn all_mistakes_are_found_and_correct_settings_are_kept() {
        let layer = read("a = 1\nb = 2\n[cache]\ndir = \"/x\"\n", Path::new("/f.toml"));
        assert_eq!((layer.errors.len(), layer.settings.len()), (2, 1));
    }

    #[test]
    fn quotes_are_short_and_have_no_control_characters() {
        let found = errors(&format!("cache.max_size = \"\\u001b[31m{}\"", "x".repeat(1000)));
        assert!(found[0].len() < 300 && !found[0].contains('\u{1b}'), "{}", found[0]);
    }
}
