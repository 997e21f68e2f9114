//! One thing that is not as it was, as the log keeps it: text, for reports and for people.
//!
//! A lookup finds the differences while it compares; here they only get their names.

use crate::action::Observation;
use crate::lookup::Difference;

/// One thing that is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    /// `file`, `listing`, `env`, `root`, `presentation`, …
    pub kind: String,
    /// What it is called: a path by role, a variable, a role.
    pub name: String,
    /// As it was; none if it was not there.
    pub before: Option<String>,
    /// As it is; none if it is not there.
    pub now: Option<String>,
}

/// Stands for a state that could not be found out, which is not absence (STO-08).
const UNKNOWN: &str = "unknown";

/// Stands for a value that is nobody's business (NET-06).
const HIDDEN: &str = "(hidden)";

/// Parts of names of variables whose values are not written down.
const SECRET_WORDS: &[&str] =
    &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY", "APIKEY", "AUTH"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // Cargo's own hold no secrets, and `CARGO_PKG_AUTHORS` has such a part.
    !name.starts_with("CARGO_PKG_") && SECRET_WORDS.iter().any(|word| name.contains(word))
}

impl From<&Difference> for Change {
    fn from(difference: &Difference) -> Change {
        let (kind, name, before) = described(&difference.before);
        let now = match &difference.now {
            None => Some(UNKNOWN.to_owned()),
            Some(now) => described(now).2,
        };
        // What was absent and is there is named for what it is.
        let kind = match &difference.now {
            Some(now) if before.is_none() => described(now).0,
            _ => kind,
        };
        Change { kind: kind.to_owned(), name, before, now }
    }
}

/// Its kind, its name and its value.
fn described(observation: &Observation) -> (&'static str, String, Option<String>) {
    match observation {
        Observation::File { path, digest } => ("file", path.to_string(), Some(digest.to_string())),
        Observation::Absent { path } => ("file", path.to_string(), None),
        Observation::Listing { path, digest } => ("listing", path.to_string(), Some(digest.to_string())),
        Observation::Env { name, value } => {
            let shown = |value: &[u8]| if is_secret(name) { HIDDEN.to_owned() } else { text(value) };
            ("env", name.clone(), value.as_deref().map(shown))
        }
        Observation::Root { role, path } => ("root", role.dir_name(), Some(text(path))),
        Observation::Presentation { options } => {
            ("presentation", "message format".to_owned(), Some(text(options)))
        }
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
    fn net_06_values_that_may_be_secret_are_not_written_down() {
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
    fn a_difference_gets_its_names() {
        let digest = |text: &[u8]| Digest::of(DigestFunction::Blake3, text);
        let file = |text: &[u8]| Observation::File { path: path(), digest: digest(text) };
        let shown = |text: &[u8]| Some(digest(text).to_string());
        let absent = Observation::Absent { path: path() };
        let root = |path: &str| Observation::Root { role: Role::Workspace, path: path.as_bytes().to_vec() };
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
