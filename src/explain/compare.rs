//! Compares two actions.
//!
//! Differences are listed by how much they explain: causes (salt, toolchain, arguments,
//! variables) come before files, and what merely follows from another difference comes last.

use std::collections::{BTreeMap, BTreeSet};

use super::load::ExplainedAction;
use crate::action::{Entry, Section};
use crate::compiler::argument_style;
use crate::events::Change;

/// Returns the differences; there are none between an action and itself.
pub fn compare(before: &ExplainedAction, now: &ExplainedAction) -> Vec<Change> {
    let mut changes = Vec::new();
    let [old, new] = [before, now].map(|action| EntryIndex::of(&action.entries));
    // The keys are sorted by rank. Arguments are compared as a whole, because their order
    // counts: their differences go where their rank has its place.
    let keys: BTreeSet<_> = old.named.keys().chain(new.named.keys()).collect();
    let mut has_compared_arguments = false;
    for key @ (rank, kind, name) in keys {
        if *rank > ARGUMENTS_RANK && !has_compared_arguments {
            arguments(&old.arguments, &new.arguments, &mut changes);
            has_compared_arguments = true;
        }
        // A file that was absent and is now an input would be listed twice, as an input that is new
        // and as an absence that is gone. Only the first says something.
        let [before, now] = [&old, &new].map(|side| side.named.get(key).copied());
        if before != now && !(is_absence(kind) && (old.has(kind, name) || new.has(kind, name))) {
            changes.push(change(kind, name, before, now));
        }
    }
    if !has_compared_arguments {
        arguments(&old.arguments, &new.arguments, &mut changes);
    }
    // A stable sort: the order within causes and within consequences stays.
    changes.sort_by_key(is_consequence);
    changes
}

fn is_consequence(change: &Change) -> bool {
    let is_option = |option: &&str| {
        change.name.strip_prefix(*option).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    change.kind == "output"
        || (change.kind == "argument" && argument_style().consequences.iter().any(is_option))
}

/// The rank of arguments; [`named`] has the ranks of the other entries.
const ARGUMENTS_RANK: u8 = 2;

/// The rank, kind and name of an entry.
type EntryKey<'a> = (u8, &'a str, &'a str);

/// The entries of an action: the arguments in their order, the others by their names.
struct EntryIndex<'a> {
    arguments: Vec<String>,
    named: BTreeMap<EntryKey<'a>, &'a str>,
}

impl<'a> EntryIndex<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let is_argument = |entry: &&Entry| entry.section == Section::Argument;
        EntryIndex {
            arguments: entries.iter().filter(is_argument).map(|entry| entry.value.clone()).collect(),
            named: entries.iter().filter(|entry| !is_argument(entry)).map(named).collect(),
        }
    }

    /// Whether this action has the file or variable that the other action found absent or unset.
    fn has(&self, kind: &str, name: &str) -> bool {
        let present = if kind == ABSENT { (5, "file", name) } else { (4, "env", name) };
        self.named.contains_key(&present)
    }
}

/// Observations of a file that was absent and of a variable that was unset. If the other action
/// has the file or variable, that difference is listed, and the absence is not listed again.
const ABSENT: &str = "absent";
const UNSET: &str = "unset";

fn is_absence(kind: &str) -> bool {
    kind == ABSENT || kind == UNSET
}

fn named(entry: &Entry) -> (EntryKey<'_>, &str) {
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

/// Observations are `absent PATH`, `unset NAME`, `listing DIGEST PATH` and `env NAME=VALUE`.
/// Other ones, which a newer kache may store, count as a name without a value.
fn observed<'a>(what: &'a str, value: &'a str) -> (EntryKey<'a>, &'a str) {
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

/// Compares arguments as options with their values. The same arguments in another order are a
/// difference too, because of two values of an option the last one wins (KEY-09).
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

/// Compares the values of an option that may be repeated, such as `--cfg`.
fn values(name: &str, before: &[String], now: &[String], found: &mut Vec<Change>) {
    let shown = |value: &String| if value.is_empty() { name.to_owned() } else { format!("{name} {value}") };
    // The values of one side without those of the other. A value that occurs twice on one side and
    // once on the other remains once, so this removes one occurrence for each.
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

/// Groups arguments by option: `-C opt-level=3` is the option `-C opt-level` with the value `3`.
/// A word without a dash is the value of the option in front of it, unless that has a value
/// already.
fn options(arguments: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut words = arguments.iter().peekable();
    // The command of every action begins with `sh -c SCRIPT sh DIRECTORY COMPILER`: this `-c` is an
    // option of the shell and not of the compiler.
    if let [shell, option, script, name, directory, compiler, ..] = arguments
        && [shell, option, name].map(String::as_str) == ["sh", "-c", "sh"]
    {
        options.insert("the script".to_owned(), vec![script.clone()]);
        options.insert("the directory".to_owned(), vec![directory.clone()]);
        options.insert("the compiler".to_owned(), vec![compiler.clone()]);
        words.nth(5);
    }
    while let Some(word) = words.next() {
        let value =
            words.next_if(|next| word.starts_with('-') && !word.contains('=') && !next.starts_with('-'));
        let (name, value) = match value {
            Some(value) if argument_style().keyed.contains(&&**word) => {
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
    use crate::explain::testing::{MemoryBlobs, TestAction};

    const BASE: TestAction<'_> = TestAction {
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

    fn said(now: &TestAction<'_>) -> Vec<String> {
        let blobs = MemoryBlobs::default();
        let [before, now] = [&BASE, now].map(|made| load(&blobs, blobs.put(made)).unwrap());
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
    fn the_directory_and_the_compiler_are_not_taken_for_options() {
        let made = |args| TestAction { args, ..BASE };
        let rustc = "../../../../sysroot/bin/rustc";
        let before = ["sh", "-c", "exec", "sh", "cargo/git/x/1", rustc, "-C", "lto"];
        let now = ["sh", "-c", "exec", "sh", "cargo/git/x/2", "../../../../abs/opt/rustc", "-C", "lto"];
        let (before, now) = (made(&before), made(&now));
        let blobs = MemoryBlobs::default();
        let [before, now] = [before, now].map(|made| load(&blobs, blobs.put(&made)).unwrap());
        let said: Vec<String> = compare(&before, &now).iter().map(Change::to_string).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        the compiler is `../../../../abs/opt/rustc`, and was `../../../../sysroot/bin/rustc`
        the directory is `cargo/git/x/2`, and was `cargo/git/x/1`
        ");
    }

    #[test]
    fn every_part_of_an_action_is_compared() {
        let files = |files: &'static [(&'static str, &'static str)]| TestAction { files, ..BASE };
        for (now, expected) in [
            (TestAction { salt: "2", ..BASE }, &["salt `salt` is `2`, and was `1`"][..]),
            (
                TestAction { properties: &[("OSFamily", "linux"), ("ISA", "x")], ..BASE },
                &["property `ISA` is `x`, and was not set"],
            ),
            (
                TestAction { env: &[("A", "2")], ..BASE },
                &["env `A` is `2`, and was `1`", "env `B` is not set, and was empty"],
            ),
            (
                TestAction { outputs: &["out/libx.rmeta"], ..BASE },
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
    fn a_file_that_was_absent_before_is_listed_once() {
        let now = TestAction {
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
    fn consequences_of_other_differences_come_last() {
        let with = |args: &'static [&'static str]| TestAction { args, ..BASE };
        let blobs = MemoryBlobs::default();
        let [before, now] = [
            with(&["rustc", "--out-dir", "a", "-C", "metadata=1", "-C", "opt-level=0"]),
            with(&["rustc", "--out-dir", "b", "-C", "metadata=2", "-C", "opt-level=3"]),
        ]
        .map(|made| load(&blobs, blobs.put(&made)).unwrap());
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
            assert_eq!(said(&TestAction { args: now, ..BASE }), expected);
        }
    }
}
