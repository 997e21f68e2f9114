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
        Observation::Env { name, value } => ("env", name.clone(), value.as_deref().map(text)),
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
