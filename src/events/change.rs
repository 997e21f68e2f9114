//! A difference between a call and an earlier one, as text for the log and for reports.
//!
//! The lookup finds the differences while it compares observations; here they only get names.

use std::fmt;

use crate::action::{Observation, is_shared_variable};
use crate::lookup::Difference;

/// One input or setting that differs from an earlier call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    /// The kind of thing: `file`, `listing`, `env`, `root`, `presentation`, …
    pub kind: String,
    /// A path by role, the name of a variable, or a role.
    pub name: String,
    /// The earlier value; `None` if it was absent or not set.
    pub before: Option<String>,
    /// The value now; `None` if it is absent or not set.
    pub now: Option<String>,
}

/// The value of a file that could not be read, which does not mean that it is absent (STO-08).
const UNKNOWN: &str = "unknown";

/// The text that replaces a value which may be secret (NET-06).
const HIDDEN: &str = "(hidden)";

/// A variable whose name contains one of these words may be secret.
const SECRET_WORDS: &[&str] =
    &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY", "APIKEY", "AUTH"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !is_shared_variable(&name) && SECRET_WORDS.iter().any(|word| name.contains(word))
}

impl From<&Difference> for Change {
    fn from(difference: &Difference) -> Change {
        let (kind, name, before) = described(&difference.before);
        let now = match &difference.now {
            None => Some(UNKNOWN.to_owned()),
            Some(now) => described(now).2,
        };
        // A file that was absent has the kind of what exists there now.
        let kind = match &difference.now {
            Some(now) if before.is_none() => described(now).0,
            _ => kind,
        };
        Change { kind: kind.to_owned(), name, before, now }
    }
}

/// Returns the kind, the name and the value of an observation.
fn described(observation: &Observation) -> (&'static str, String, Option<String>) {
    match observation {
        Observation::File { path, digest } => ("file", path.to_string(), Some(digest.to_string())),
        Observation::Absent { path } => ("file", path.to_string(), None),
        Observation::Listing { path, digest } => ("listing", path.to_string(), Some(digest.to_string())),
        Observation::Directory { path } => ("file", path.to_string(), Some("a directory".to_owned())),
        Observation::Env { name, value } => {
            let shown = |value: &[u8]| if is_secret(name) { HIDDEN.to_owned() } else { text(value) };
            ("env", name.clone(), value.as_deref().map(shown))
        }
        Observation::Environment { digest } => {
            ("environment", "the environment".to_owned(), Some(digest.to_string()))
        }
        Observation::Link { path, text: says } if says.is_empty() => {
            ("link", path.to_string(), Some("no symbolic link".to_owned()))
        }
        Observation::Link { path, text: says } => ("link", path.to_string(), Some(text(says))),
        Observation::Root { role, up, path, .. } => ("root", role.dir_name_above(*up), Some(text(path))),
        Observation::Presentation { options } => {
            ("presentation", "message format".to_owned(), Some(text(options)))
        }
    }
}

/// Writes one sentence without a full stop: the value now and the earlier one.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = printable(&self.name);
        let [before, now] = [&self.before, &self.now].map(|value| value.as_deref().map(short));
        match (&*self.kind, before, now) {
            ("more", ..) => write!(f, "{name}"),
            ("file" | "toolchain" | "listing", Some(before), Some(now)) => {
                let what = match &*self.kind {
                    "listing" => "the names in ",
                    _ if is_made_by_the_build(&self.name) => "the dependency ",
                    _ => "",
                };
                write!(f, "{what}`{name}` changed: was {before}, is {now}")
            }
            ("file" | "toolchain", None, Some(_)) => {
                write!(f, "`{name}` exists, and was absent or not used before")
            }
            ("file" | "toolchain", Some(_), None) => {
                write!(f, "`{name}` no longer exists or is no longer used")
            }
            ("absent" | "unset", None, _) => {
                write!(f, "`{name}` was looked for and is absent, and was not looked for before")
            }
            ("absent" | "unset", Some(_), None) => write!(f, "`{name}` is no longer looked for"),
            ("output", None, _) => write!(f, "`{name}` is an output, and was not"),
            ("output", Some(_), None) => write!(f, "`{name}` is no output, and was"),
            ("argument", None, Some(now)) if now.is_empty() => write!(f, "`{name}` is passed, and was not"),
            ("argument", Some(before), None) if before.is_empty() => {
                write!(f, "`{name}` is not passed, and was")
            }
            ("root", Some(before), Some(now)) => {
                write!(f, "the {name} directory is `{now}`, and the result is good for `{before}` only")
            }
            ("argument", Some(before), Some(now)) if name.starts_with("the ") => {
                write!(f, "{name} is {}, and was {}", quoted(&now), quoted(&before))
            }
            ("environment", ..) => {
                write!(
                    f,
                    "the environment changed, and the compile starts a program that may read every variable"
                )
            }
            ("presentation", ..) => write!(f, "the requested format of messages changed"),
            (_, None, Some(now)) => write!(f, "`{name}` is {}, and was not set", quoted(&now)),
            (_, Some(before), None) => write!(f, "`{name}` is not set, and was {}", quoted(&before)),
            (_, Some(before), Some(now)) => {
                write!(f, "`{name}` is {}, and was {}", quoted(&now), quoted(&before))
            }
            (_, None, None) => write!(f, "{name} changed"),
        }
    }
}

/// Returns whether the file is a dependency that was built in the target directory.
fn is_made_by_the_build(name: &str) -> bool {
    name.starts_with("out/") && name.contains("/deps/")
}

/// Quotes a value; an empty one is shown as `empty`, because that differs from not set (KEY-06).
fn quoted(value: &str) -> String {
    if value.is_empty() { "empty".to_owned() } else { format!("`{value}`") }
}

/// Replaces control characters, which could move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The number of digits of a hash that are shown, which is enough to tell two hashes apart.
const HASH_DIGITS_SHOWN: usize = 12;

/// Shortens a digest to its first digits and its size; any other value stays as it is.
fn short(value: &str) -> String {
    let bare = value.strip_prefix("blake3/").unwrap_or(value);
    match bare.split_once('/') {
        Some((hash, size)) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{} ({size} bytes)", &hash[..HASH_DIGITS_SHOWN])
        }
        _ => printable(value),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use kache_cas::{Digest, DigestFunction};

    use super::*;
    use crate::roles::{Role, RolePath};

    fn path() -> RolePath {
        RolePath::new(Role::Workspace, "src/lib.rs").unwrap()
    }

    fn env(value: Option<&str>) -> Observation {
        Observation::Env { name: "X".to_owned(), value: value.map(|value| value.as_bytes().to_vec()) }
    }

    #[test]
    fn a_change_is_a_sentence() {
        let change = |kind: &str, name: &str, before: Option<&str>, now: Option<&str>| {
            let [before, now] = [before, now].map(|value| value.map(str::to_owned));
            Change { kind: kind.to_owned(), name: name.to_owned(), before, now }.to_string()
        };
        let [old, new] = ["a", "b"].map(|digit| format!("blake3/{}/7", digit.repeat(64)));
        let [old, new] = [Some(&*old), Some(&*new)];
        for (said, expected) in [
            (
                change("file", "ws/a.rs", old, new),
                "`ws/a.rs` changed: was aaaaaaaaaaaa (7 bytes), is bbbbbbbbbbbb (7 bytes)",
            ),
            (
                change("file", "out/debug/deps/libx-1.rmeta", old, new),
                "the dependency `out/debug/deps/libx-1.rmeta` changed: was aaaaaaaaaaaa (7 bytes), is \
                 bbbbbbbbbbbb (7 bytes)",
            ),
            (change("file", "ws/a.rs", None, new), "`ws/a.rs` exists, and was absent or not used before"),
            (change("file", "ws/a.rs", old, None), "`ws/a.rs` no longer exists or is no longer used"),
            (
                change("listing", "ws/m", old, new),
                "the names in `ws/m` changed: was aaaaaaaaaaaa (7 bytes), is bbbbbbbbbbbb (7 bytes)",
            ),
            (change("env", "X", Some("1"), Some("2")), "`X` is `2`, and was `1`"),
            (change("env", "X", None, Some("")), "`X` is empty, and was not set"),
            (change("env", "X", Some("1"), None), "`X` is not set, and was `1`"),
            (change("env", "X\x1b[2J", Some("1"), None), "`X\u{fffd}[2J` is not set, and was `1`"),
            (
                change("root", "ws", Some("/a"), Some("/b")),
                "the ws directory is `/b`, and the result is good for `/a` only",
            ),
            (change("argument", "--cfg fast", None, Some("")), "`--cfg fast` is passed, and was not"),
            (change("argument", "--cfg fast", Some(""), None), "`--cfg fast` is not passed, and was"),
            (change("argument", "-C opt-level", Some("0"), Some("3")), "`-C opt-level` is `3`, and was `0`"),
            (change("more", "9 more", None, None), "9 more"),
        ] {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn net_06_values_that_may_be_secret_are_not_recorded() {
        for (name, is_hidden) in [
            ("GITHUB_TOKEN", true),
            ("db_password", true),
            ("AWS_ACCESS_KEY_ID", true),
            ("CARGO_PKG_AUTHORS", false),
            ("APP_MODE", false),
        ] {
            let env = |value: &str| Observation::Env { name: name.to_owned(), value: Some(value.into()) };
            let change = Change::from(&Difference { before: env("one"), now: Some(env("two")) });
            assert_eq!(change.before != Some("one".to_owned()), is_hidden, "{name}");
            assert_eq!(change.now != Some("two".to_owned()), is_hidden, "{name}");
        }
    }

    #[test]
    fn a_difference_gets_a_kind_and_a_name() {
        let digest = |text: &[u8]| Digest::of(DigestFunction::Blake3, text);
        let file = |text: &[u8]| Observation::File { path: path(), digest: digest(text) };
        let shown = |text: &[u8]| Some(digest(text).to_string());
        let absent = Observation::Absent { path: path() };
        let root = |path: &str| Observation::Root {
            role: Role::Workspace,
            up: 0,
            is_real: false,
            path: path.as_bytes().to_vec(),
        };
        for (before, now, expected) in [
            (file(b"a"), Some(file(b"b")), ("file", "ws/src/lib.rs", shown(b"a"), shown(b"b"))),
            (absent.clone(), Some(file(b"b")), ("file", "ws/src/lib.rs", None, shown(b"b"))),
            (file(b"a"), Some(absent), ("file", "ws/src/lib.rs", shown(b"a"), None)),
            (file(b"a"), None, ("file", "ws/src/lib.rs", shown(b"a"), Some(UNKNOWN.to_owned()))),
            (env(None), Some(env(Some(""))), ("env", "X", None, Some(String::new()))),
            (root("/a"), Some(root("/b")), ("root", "ws", Some("/a".to_owned()), Some("/b".to_owned()))),
        ] {
            let (kind, name, before_text, now_text) = expected;
            let expected =
                Change { kind: kind.to_owned(), name: name.to_owned(), before: before_text, now: now_text };
            assert_eq!(Change::from(&Difference { before, now }), expected);
        }
    }
}
