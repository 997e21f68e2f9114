//! What the model can vary, by class. A class is one kind of thing that could make a cache wrong.

use std::collections::BTreeSet;

/// One kind of thing that is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Files above the workspace, inside its repository, that the compiler itself reads.
    Above,
    /// Files above the workspace that a macro reads.
    AskedAbove,
    /// Symbolic links to files and directories, retargeted, broken and mended.
    Links,
    /// A macro that looks upwards until it finds a file, reaches the repository's root, or `/`.
    Search,
    /// A macro that starts a shell, which reads files and variables.
    Shell,
    /// A macro that lists directories, itself and by a shell.
    Lists,
    /// A macro that opens a file for reading and writing, as SQLite does, and only reads it.
    Opens,
    /// A macro that reads below `/proc/self/cwd`.
    Proc,
    /// A macro that walks through all variables.
    Variables,
    /// A macro that asks the kernel without the C library.
    Raw,
    /// A macro that takes the name of its directory apart.
    Names,
    /// A linker that is a script, which reads a file and a variable.
    Linker,
    /// One of the worktrees lies in `/dev/shm`.
    Memory,
    /// Files of another checkout's target directory get other dates and modes, or other bytes.
    Meddle,
    /// The daemon is stopped in the middle of a build and continued, at once or after it.
    Stop,
    /// Cargo is called from elsewhere, with `--manifest-path`.
    Elsewhere,
    /// A worktree is moved to another place, at another depth.
    Relocate,
}

/// Every class, by the name that `KACHE_MODEL_CLASSES` calls it.
const NAMES: &[(&str, Class)] = &[
    ("above", Class::Above),
    ("asked-above", Class::AskedAbove),
    ("links", Class::Links),
    ("search", Class::Search),
    ("shell", Class::Shell),
    ("lists", Class::Lists),
    ("opens", Class::Opens),
    ("proc", Class::Proc),
    ("variables", Class::Variables),
    ("raw", Class::Raw),
    ("names", Class::Names),
    ("linker", Class::Linker),
    ("memory", Class::Memory),
    ("meddle", Class::Meddle),
    ("stop", Class::Stop),
    ("elsewhere", Class::Elsewhere),
    ("relocate", Class::Relocate),
];

/// The classes that CI runs, in two halves that seeds take in turn: a step costs what the crates of its
/// classes cost. A class joins once kache passes it.
const PROMISED: [&[Class]; 2] = [
    &[
        Class::Above,
        Class::Links,
        Class::Shell,
        Class::Opens,
        Class::Names,
        Class::Linker,
        Class::Memory,
        Class::Meddle,
        Class::Stop,
    ],
    &[
        Class::AskedAbove,
        Class::Search,
        Class::Lists,
        Class::Proc,
        Class::Variables,
        Class::Raw,
        Class::Stop,
        Class::Elsewhere,
        Class::Relocate,
    ],
];

/// The classes that are varied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(BTreeSet<Class>);

impl Classes {
    /// The half of the promised classes that this seed takes.
    pub(super) fn promised(seed: u64) -> Classes {
        let half = PROMISED[usize::from(seed.is_multiple_of(2))];
        Classes(half.iter().copied().collect())
    }

    /// Those with these names, separated by commas; `all` is every one.
    pub(super) fn named(names: &str) -> Classes {
        let known = |name: &str| {
            let found = NAMES.iter().find(|(known, _)| *known == name);
            found.unwrap_or_else(|| panic!("there is no class `{name}`, only {NAMES:?}")).1
        };
        Classes(match names {
            "all" => NAMES.iter().map(|(_, class)| *class).collect(),
            "none" => BTreeSet::new(),
            names => names.split(',').map(known).collect(),
        })
    }

    pub(super) fn has(&self, class: Class) -> bool {
        self.0.contains(&class)
    }

    /// Their names, as `named` takes them.
    pub(super) fn text(&self) -> String {
        let names: Vec<_> =
            NAMES.iter().filter(|(_, class)| self.has(*class)).map(|(name, _)| *name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    }
}
