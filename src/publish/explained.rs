//! Whether a directory's name in an output has another explanation than the directory (KEY-07).
//!
//! A checkout is often called like its crate, or like a word of its sources. A name that also stands in
//! the key's text, in an observation or in a file that the compiler read, is taken for that one. What
//! was read is searched as the outputs are, and only for names that were found in an output.

use std::collections::BTreeSet;

use super::scan::{PLAIN_BYTES_MIN, Scanner};
use crate::action::{Entry, Observation, Task};
use crate::inputs::{Input, InputKind};
use crate::roles::{Role, RolePath};

/// What a compile read.
pub(super) struct Readings<'a> {
    pub(super) task: &'a Task,
    pub(super) inputs: &'a [Input],
    pub(super) observations: &'a [Observation],
    /// The text of the key: arguments and variables, with stand-ins for roots, and the paths of inputs.
    pub(super) key: Vec<Entry>,
}

impl Readings<'_> {
    /// Of these names, those that stand in nothing that was read. A file that cannot be read explains
    /// nothing.
    pub(super) fn unexplained<'n>(&self, names: &'n BTreeSet<Vec<u8>>) -> BTreeSet<&'n [u8]> {
        let mut unexplained: BTreeSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut texts = Scanner::default().with_names(unexplained.iter().copied());
        for entry in &self.key {
            texts.look(entry.name.as_bytes());
            texts.look(entry.value.as_bytes());
        }
        self.observations.iter().for_each(|observation| look_at(observation, &mut texts));
        self.scan(self.texts(), &mut texts);
        unexplained.retain(|name| !texts.found_names().contains(*name));
        // Machine code holds every short name somewhere by chance, so libraries explain none.
        let long = unexplained.iter().copied().filter(|name| name.len() >= PLAIN_BYTES_MIN);
        let mut libraries = Scanner::default().with_names(long);
        self.scan(self.libraries(), &mut libraries);
        unexplained.retain(|name| !libraries.found_names().contains(*name));
        unexplained
    }

    /// Scans files until all names are found.
    fn scan<'p>(&self, paths: impl Iterator<Item = &'p RolePath>, scanner: &mut Scanner) {
        for place in paths.filter_map(|path| self.task.roots.locate(path)) {
            if scanner.is_done() {
                break;
            }
            let _ = scanner.scan(&place);
        }
    }

    /// Sources, and files that a macro or an option named.
    fn texts(&self) -> impl Iterator<Item = &RolePath> {
        let observed = self.observations.iter().filter_map(|observation| match observation {
            Observation::File { path, .. } => Some(path),
            _ => None,
        });
        observed.chain(self.inputs_of(&[InputKind::Source, InputKind::Declared, InputKind::Option]))
    }

    /// Crates and native libraries, and what links them at last, which is large.
    fn libraries(&self) -> impl Iterator<Item = &RolePath> {
        let crates = self.inputs_of(&[InputKind::Extern, InputKind::Reachable, InputKind::Native]);
        crates.chain(self.inputs_of(&[InputKind::LinkToolchain]))
    }

    fn inputs_of(&self, kinds: &'static [InputKind]) -> impl Iterator<Item = &RolePath> {
        self.inputs.iter().filter(|input| kinds.contains(&input.kind)).map(|input| &input.path)
    }
}

/// What an observation says in words that every checkout with this observation reads, too.
fn look_at(observation: &Observation, scanner: &mut Scanner) {
    match observation {
        Observation::Env { name, value } => {
            scanner.look(name.as_bytes());
            scanner.look(value.as_deref().unwrap_or_default());
        }
        Observation::Link { path, text } => {
            look_at_path(path, scanner);
            scanner.look(text);
        }
        Observation::File { path, .. }
        | Observation::Absent { path }
        | Observation::Listing { path, .. }
        | Observation::Directory { path } => look_at_path(path, scanner),
        Observation::Environment { .. } | Observation::Root { .. } | Observation::Presentation { .. } => {}
    }
}

/// A path as it is may be one of this checkout, which tells its name.
fn look_at_path(path: &RolePath, scanner: &mut Scanner) {
    if path.role() != Role::Absolute {
        scanner.look(path.rest());
    }
}
