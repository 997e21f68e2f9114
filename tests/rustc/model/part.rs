//! What can be changed in the workspace by a number.
//!
//! Numbers are few, so that states come again, in this worktree and in others.

use super::class::Class;

/// Something that has one of a few states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A constant of the crate that everything depends on.
    Base,
    /// One in a module of its own file.
    Item,
    /// One in a module at a place named by `#[path]`.
    Placed,
    /// A file that is included as text.
    Text,
    /// A file that is included as bytes, by a macro of the crate.
    Bytes,
    /// What a procedural macro expands to.
    Macro,
    /// A file that the build script reads.
    Input,
    /// The build script itself.
    Script,
    /// What the build script sets for its crate.
    Set,
    /// A constant of the program.
    Program,
    /// The source of a test.
    Test,
    /// A file above the workspace that is included as text.
    Shared,
    /// A module above the workspace, at a place named by `#[path]`.
    PlacedAbove,
    /// Where a link leads that is included as text.
    IncludedLink,
    /// Where a link to a directory leads, in which there is a module.
    ModuleLink,
    /// A file above the workspace that a macro reads.
    AskedAbove,
    /// How far up there is a file that a macro looks for up to `/`.
    Marker,
    /// The same for one that it looks for up to the repository's root.
    Setting,
    /// A file that a macro's shell reads; it may be missing.
    ShellFile,
    /// A variable that this shell uses.
    ShellVariable,
    /// The entries of a directory that a macro lists, and of which kind they are.
    Listed,
    /// The same by a shell, with what is in the files.
    Searched,
    /// A file that is opened for reading and writing; it may be missing.
    Opened,
    /// Where a link leads that a macro reads.
    LinkedFile,
    /// Where a link to a directory leads.
    LinkedDirectory,
    /// The content of a file to which these links lead.
    LinkTarget,
    /// A file that is read below `/proc/self/cwd`.
    OfProcess,
    /// A variable that is found in a walk through all of them.
    AnyVariable,
    /// A file that is read without the C library.
    Raw,
    /// The linker: the usual one, or a script.
    Linker,
    /// A file that the script reads.
    LinkerFile,
    /// A variable that it uses.
    LinkerVariable,
}

/// How a part is varied.
pub(super) struct Varied {
    pub(super) part: Part,
    /// How many states there are.
    pub(super) states: usize,
    pub(super) class: Option<Class>,
    /// The crate that depends on it without cargo's knowing.
    pub(super) asked_by: Option<&'static str>,
}

const fn seen(part: Part) -> Varied {
    Varied { part, states: 3, class: None, asked_by: None }
}

const fn of(class: Class, part: Part, states: usize) -> Varied {
    Varied { part, states, class: Some(class), asked_by: None }
}

const fn asked(class: Class, part: Part, states: usize, by: &'static str) -> Varied {
    Varied { part, states, class: Some(class), asked_by: Some(by) }
}

/// All parts of the workspace that vary.
pub(super) const PARTS: &[Varied] = &[
    seen(Part::Base),
    seen(Part::Item),
    seen(Part::Placed),
    seen(Part::Text),
    seen(Part::Bytes),
    seen(Part::Macro),
    seen(Part::Input),
    seen(Part::Script),
    seen(Part::Set),
    seen(Part::Program),
    seen(Part::Test),
    of(Class::Above, Part::Shared, 3),
    of(Class::Above, Part::PlacedAbove, 3),
    of(Class::Links, Part::IncludedLink, 2),
    of(Class::Links, Part::ModuleLink, 2),
    asked(Class::AskedAbove, Part::AskedAbove, 4, "ask_above"),
    asked(Class::Search, Part::Marker, 5, "ask_search"),
    asked(Class::Search, Part::Setting, 4, "ask_search"),
    asked(Class::Shell, Part::ShellFile, 4, "ask_shell"),
    asked(Class::Shell, Part::ShellVariable, 4, "ask_shell"),
    asked(Class::Lists, Part::Listed, 5, "ask_lists"),
    asked(Class::Lists, Part::Searched, 5, "ask_lists"),
    asked(Class::Opens, Part::Opened, 4, "ask_opens"),
    asked(Class::Links, Part::LinkedFile, 4, "ask_links"),
    asked(Class::Links, Part::LinkedDirectory, 3, "ask_links"),
    asked(Class::Links, Part::LinkTarget, 2, "ask_links"),
    asked(Class::Proc, Part::OfProcess, 3, "ask_proc"),
    asked(Class::Variables, Part::AnyVariable, 4, "ask_variables"),
    asked(Class::Raw, Part::Raw, 4, "ask_raw"),
    of(Class::Linker, Part::Linker, 2),
    asked(Class::Linker, Part::LinkerFile, 3, "app"),
    asked(Class::Linker, Part::LinkerVariable, 4, "app"),
];

impl Part {
    pub(super) fn varied(self) -> &'static Varied {
        PARTS.iter().find(|varied| varied.part == self).expect("every part is in the table")
    }
}
