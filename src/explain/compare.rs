//! How two actions differ, in the order in which it is worth knowing: what was decided
//! (salt, toolchain, arguments, variables) before what follows from it (files).

use std::collections::{BTreeMap, BTreeSet};

use super::load::Explained;
use crate::action::{Entry, Section};
use crate::events::Change;

/// The differences; empty for an action and itself.
pub fn compare(before: &Explained, now: &Explained) -> Vec<Change> {
    let mut changes = Vec::new();
    let [old, new] = [before, now].map(|action| Sides::of(&action.entries));
    let keys: BTreeSet<_> = old.named.keys().chain(new.named.keys()).collect();
    let mut has_compared_arguments = false;
    for key @ (rank, kind, name) in keys {
        if *rank > ARGUMENTS_RANK && !has_compared_arguments {
            arguments(&old.arguments, &new.arguments, &mut changes);
            has_compared_arguments = true;
        }
        let [before, now] = [&old, &new].map(|side| side.named.get(key).copied());
        if before != now && !(is_absence(kind) && (old.has(kind, name) || new.has(kind, name))) {
            changes.push(change(kind, name, before, now));
        }
    }
    if !has_compared_arguments {
        arguments(&old.arguments, &new.arguments, &mut changes);
    }
    changes.sort_by_key(follows);
    changes
}

/// Options that say where things go and what they are called. Cargo makes them of what it
/// decided, so they differ because something else does.
const CONSEQUENCES: &[&str] = &["--out-dir", "-L", "-C metadata", "-C extra-filename"];

fn follows(change: &Change) -> bool {
    let is_option = |option: &&str| {
        change.name.strip_prefix(*option).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    change.kind == "output" || (change.kind == "argument" && CONSEQUENCES.iter().any(is_option))
}

/// Where arguments stand among the rest.
const ARGUMENTS_RANK: u8 = 2;

/// What has a name: its rank, its kind, its name.
type Key<'a> = (u8, &'a str, &'a str);

/// An action's entries, to be looked up.
struct Sides<'a> {
    arguments: Vec<String>,
    named: BTreeMap<Key<'a>, &'a str>,
}

impl<'a> Sides<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let is_argument = |entry: &&Entry| entry.section == Section::Argument;
        Sides {
            arguments: entries.iter().filter(is_argument).map(|entry| entry.value.clone()).collect(),
            named: entries.iter().filter(|entry| !is_argument(entry)).map(named).collect(),
        }
    }

    /// Whether what was not there on one side is there on this.
    fn has(&self, kind: &str, name: &str) -> bool {
        let there = if kind == ABSENT { (5, "file", name) } else { (4, "env", name) };
        self.named.contains_key(&there)
    }
}

/// What was looked for and not found: a file, a variable. Where the other action has it, its
/// coming or going is told by that.
const ABSENT: &str = "absent";
const UNSET: &str = "unset";

fn is_absence(kind: &str) -> bool {
    kind == ABSENT || kind == UNSET
}

fn named(entry: &Entry) -> (Key<'_>, &str) {
    let (name, value) = (&*entry.name, &*entry.value);
    match entry.section {
        Section::Salt => ((0, "salt", "salt"), value),
        Section::Toolchain => ((1, "toolchain", name), value),
        Section::Argument => ((ARGUMENTS_RANK, "argument", name), value),
        Section::Platform => ((3, "property", name), value),
        Section::Variable => ((4, "env", name), value),
        Section::Input => ((5, "file", name), value),
        Section::Observed => observed(name, value),
        Section::Output => ((7, "output", name), ""),
    }
}

/// `absent PATH`, `unset NAME`, `listing DIGEST PATH`, `env NAME=VALUE`, and what may come.
fn observed<'a>(what: &'a str, value: &'a str) -> (Key<'a>, &'a str) {
    match what {
        ABSENT | UNSET => ((6, what, value), ""),
        "listing" => {
            let (digest, path) = value.split_once(' ').unwrap_or((value, ""));
            ((6, "listing", path), digest)
        }
        "env" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            ((4, "env", name), value)
        }
        _ => ((6, what, value), ""),
    }
}

fn change(kind: &str, name: &str, before: Option<&str>, now: Option<&str>) -> Change {
    let [before, now] = [before, now].map(|value| value.map(str::to_owned));
    Change { kind: kind.to_owned(), name: name.to_owned(), before, now }
}

/// Arguments that only one side has, as options with their values. The same ones in another
/// order are a change too: the last one wins (KEY-09).
fn arguments(before: &[String], now: &[String], changes: &mut Vec<Change>) {
    if before == now {
        return;
    }
    let [before, now] = [before, now].map(options);
    let names: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let empty = Vec::new();
        let (old, new) = (before.get(name).unwrap_or(&empty), now.get(name).unwrap_or(&empty));
        match (&old[..], &new[..]) {
            _ if old == new => {}
            ([old], [new]) => found.push(change("argument", name, Some(old), Some(new))),
            _ => values(name, old, new, &mut found),
        }
    }
    if found.is_empty() {
        found.push(change("argument", "the order of the arguments", None, None));
    }
    changes.extend(found);
}

/// An option that may come more than once, such as `--cfg`.
fn values(name: &str, before: &[String], now: &[String], found: &mut Vec<Change>) {
    let shown = |value: &String| if value.is_empty() { name.to_owned() } else { format!("{name} {value}") };
    let without = |from: &[String], other: &[String]| {
        let mut left = from.to_vec();
        for value in other {
            if let Some(place) = left.iter().position(|one| one == value) {
                left.remove(place);
            }
        }
        left
    };
    let (gone, new) = (without(before, now), without(now, before));
    if gone.is_empty() && new.is_empty() {
        found.push(change("argument", &format!("the order of `{name}`"), None, None));
    }
    found.extend(gone.iter().map(|value| change("argument", &shown(value), Some(""), None)));
    found.extend(new.iter().map(|value| change("argument", &shown(value), None, Some(""))));
}

/// Arguments by option: `-C opt-level=3` is the option `-C opt-level` with the value `3`.
/// What stands alone is an option without a value, or belongs to the one before it.
fn options(arguments: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut words = arguments.iter().peekable();
    // Every compile begins with `env -C DIRECTORY COMPILER`, and those are no options of rustc's.
    if let [env, change, directory, compiler, ..] = arguments
        && (env.as_str(), change.as_str()) == ("env", "-C")
    {
        options.insert("the directory".to_owned(), vec![directory.clone()]);
        options.insert("the compiler".to_owned(), vec![compiler.clone()]);
        words.nth(3);
    }
    while let Some(word) = words.next() {
        let value =
            words.next_if(|next| word.starts_with('-') && !word.contains('=') && !next.starts_with('-'));
        let (name, value) = match value {
            Some(value) if matches!(&**word, "-C" | "--codegen" | "-Z" | "--extern") => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                (format!("{word} {key}"), value)
            }
            Some(value) => (word.clone(), &**value),
            None => match word.split_once('=').filter(|_| word.starts_with("--")) {
                Some((name, value)) => (name.to_owned(), value),
                None => (word.clone(), ""),
            },
        };
        options.entry(name).or_default().push(value.to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::load;
    use crate::explain::testing::{Made, Shelf};

    const BASE: Made<'_> = Made {
        args: &["rustc", "--crate-name", "x", "-C", "opt-level=0", "--cfg", "a", "--cfg", "b", "-O"],
        env: &[("A", "1"), ("B", "")],
        files: &[
            ("observed", "absent ws/src/m/mod.rs\nlisting d1 ws/m\nunset C"),
            ("sysroot/bin/rustc", "rustc"),
            ("ws/src/lib.rs", "lib"),
            ("ws/src/m.rs", "m"),
        ],
        properties: &[("OSFamily", "linux")],
        salt: "1",
        outputs: &["out/libx.rlib"],
    };

    const PATCHED: &[(&str, &str)] =
        &[BASE.files[0], ("sysroot/bin/rustc", "patched"), ("ws/src/lib.rs", "longer")];

    fn said(now: &Made<'_>) -> Vec<String> {
        let shelf = Shelf::default();
        let [before, now] = [&BASE, now].map(|made| load(&shelf, shelf.put(made)).unwrap());
        compare(&before, &now).iter().map(|one| format!("{} {}", one.kind, without_hashes(one))).collect()
    }

    fn without_hashes(change: &Change) -> String {
        let is_hash = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let text = change.to_string();
        let words = text.split(' ').map(|word| if is_hash(word) { "HASH" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_action_and_itself_do_not_differ() {
        assert_eq!(said(&BASE), [""; 0]);
    }

    #[test]
    fn where_it_ran_and_what_ran_are_no_options() {
        let made = |args| Made { args, ..BASE };
        let before = made(&["env", "-C", "cargo/git/x/1", "../../../../sysroot/bin/rustc", "-C", "lto"]);
        let now = made(&["env", "-C", "cargo/git/x/2", "../../../../abs/opt/rustc", "-C", "lto"]);
        let shelf = Shelf::default();
        let [before, now] = [before, now].map(|made| load(&shelf, shelf.put(&made)).unwrap());
        let said: Vec<String> = compare(&before, &now).iter().map(Change::to_string).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        the compiler is `../../../../abs/opt/rustc`, and was `../../../../sysroot/bin/rustc`
        the directory is `cargo/git/x/2`, and was `cargo/git/x/1`
        ");
    }

    #[test]
    fn every_part_of_an_action_is_compared() {
        let files = |files: &'static [(&'static str, &'static str)]| Made { files, ..BASE };
        for (now, expected) in [
            (Made { salt: "2", ..BASE }, &["salt `salt` is `2`, and was `1`"][..]),
            (
                Made { properties: &[("OSFamily", "linux"), ("ISA", "x")], ..BASE },
                &["property `ISA` is `x`, and was not set"],
            ),
            (
                Made { env: &[("A", "2")], ..BASE },
                &["env `A` is `2`, and was `1`", "env `B` is not set, and was empty"],
            ),
            (
                Made { outputs: &["out/libx.rmeta"], ..BASE },
                &[
                    "output `out/libx.rlib` is no output, and was",
                    "output `out/libx.rmeta` is an output, and was not",
                ],
            ),
            (
                files(PATCHED),
                &[
                    "toolchain `sysroot` changed: was HASH (77 bytes), is HASH (77 bytes)",
                    "file `ws/src/lib.rs` changed: was HASH (3 bytes), is HASH (6 bytes)",
                    "file `ws/src/m.rs` no longer exists or is no longer used",
                ],
            ),
        ] {
            assert_eq!(said(&now), expected);
        }
    }

    #[test]
    fn what_appears_where_nothing_was_is_told_once() {
        let now = Made {
            env: &[("A", "1"), ("B", ""), ("C", "new")],
            files: &[
                ("observed", "listing d2 ws/m\nabsent ws/src/n.rs"),
                BASE.files[1],
                BASE.files[2],
                ("ws/src/m/mod.rs", "m"),
                BASE.files[3],
            ],
            ..BASE
        };
        assert_eq!(
            said(&now),
            [
                "env `C` is `new`, and was not set",
                "file `ws/src/m/mod.rs` exists, and was absent or not used before",
                "absent `ws/src/n.rs` was looked for and is absent, and was not looked for before",
                "listing the names in `ws/m` changed: was d1, is d2",
            ]
        );
    }

    #[test]
    fn what_follows_from_something_else_comes_last() {
        let with = |args: &'static [&'static str]| Made { args, ..BASE };
        let shelf = Shelf::default();
        let [before, now] = [
            with(&["rustc", "--out-dir", "a", "-C", "metadata=1", "-C", "opt-level=0"]),
            with(&["rustc", "--out-dir", "b", "-C", "metadata=2", "-C", "opt-level=3"]),
        ]
        .map(|made| load(&shelf, shelf.put(&made)).unwrap());
        let names: Vec<_> = compare(&before, &now).into_iter().map(|change| change.name).collect();
        assert_eq!(names, ["-C opt-level", "--out-dir", "-C metadata"]);
    }

    #[test]
    fn arguments_are_compared_as_options() {
        for (now, expected) in [
            (
                &["rustc", "--crate-name", "x", "-C", "opt-level=3", "--cfg", "a", "--cfg", "b", "-O"][..],
                &["argument `-C opt-level` is `3`, and was `0`"][..],
            ),
            (
                &["rustc", "--crate-name", "x", "-C", "opt-level=0", "--cfg", "a", "--cfg", "c", "-O"],
                &["argument `--cfg b` is not passed, and was", "argument `--cfg c` is passed, and was not"],
            ),
            (
                &["rustc", "--crate-name", "x", "-C", "opt-level=0", "--cfg", "b", "--cfg", "a", "-O"],
                &["argument the order of `--cfg` changed"],
            ),
            (
                &["rustc", "-O", "--crate-name", "x", "-C", "opt-level=0", "--cfg", "a", "--cfg", "b"],
                &["argument the order of the arguments changed"],
            ),
            (
                &["rustc", "--crate-name", "x", "-C", "opt-level=0", "--cfg", "a", "--cfg", "b"],
                &["argument `-O` is not passed, and was"],
            ),
        ] {
            assert_eq!(said(&Made { args: now, ..BASE }), expected);
        }
    }
}
