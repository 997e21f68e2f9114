//! Decides whether a directory's name in an output has another explanation than the directory (KEY-07).
//!
//! A checkout often has the name of its crate, or of a word in its sources. So a name that also occurs in
//! the text of the key, in an observation or in a file that the compiler read is taken to come from there.
//! Every checkout with the same action reads the same texts, so such a name does not bind the result. The
//! search is limited to names that were found in an output, because the texts are large.

use std::collections::BTreeSet;

use super::scan::{PLAIN_BYTES_MIN, Scanner};
use crate::action::{Entry, Observation, Task};
use crate::inputs::{Input, InputKind};
use crate::roles::{Role, RolePath};

/// Everything that a compile read.
pub(super) struct CompileReads<'a> {
    pub(super) task: &'a Task,
    pub(super) inputs: &'a [Input],
    pub(super) observations: &'a [Observation],
    /// The text of the key: arguments and variables, with stand-ins for roots, and the paths of inputs.
    pub(super) key: Vec<Entry>,
}

impl CompileReads<'_> {
    /// The names among these that occur in nothing that the compile read. A file that cannot be read
    /// explains no name.
    pub(super) fn unexplained<'n>(&self, names: &'n BTreeSet<Vec<u8>>) -> BTreeSet<&'n [u8]> {
        let mut unexplained: BTreeSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        // The texts come first: they are small and explain most names, so that few libraries are searched.
        let mut texts = Scanner::default().with_names(unexplained.iter().copied());
        for entry in &self.key {
            texts.look(entry.name.as_bytes());
            texts.look(entry.value.as_bytes());
        }
        self.observations.iter().for_each(|observation| search_observation(observation, &mut texts));
        self.scan(self.texts(), &mut texts);
        unexplained.retain(|name| !texts.found_names().contains(*name));
        // Machine code holds every short name by chance, so libraries do not explain short names.
        let long = unexplained.iter().copied().filter(|name| name.len() >= PLAIN_BYTES_MIN);
        let mut libraries = Scanner::default().with_names(long);
        self.scan(self.libraries(), &mut libraries);
        unexplained.retain(|name| !libraries.found_names().contains(*name));
        unexplained
    }

    /// Searches files until all names are found.
    fn scan<'p>(&self, paths: impl Iterator<Item = &'p RolePath>, scanner: &mut Scanner) {
        for place in paths.filter_map(|path| self.task.roots.locate(path)) {
            if scanner.is_done() {
                break;
            }
            let _ = scanner.scan(&place);
        }
    }

    /// Sources, and files that a macro or an option names.
    fn texts(&self) -> impl Iterator<Item = &RolePath> {
        let observed = self.observations.iter().filter_map(|observation| match observation {
            Observation::File { path, .. } => Some(path),
            _ => None,
        });
        observed.chain(self.inputs_of(&[InputKind::Source, InputKind::Declared, InputKind::Option]))
    }

    /// Crates and native libraries, and at the end the link toolchain, because it is the largest.
    fn libraries(&self) -> impl Iterator<Item = &RolePath> {
        let crates = self.inputs_of(&[InputKind::Extern, InputKind::Reachable, InputKind::Native]);
        crates.chain(self.inputs_of(&[InputKind::LinkToolchain]))
    }

    fn inputs_of(&self, kinds: &'static [InputKind]) -> impl Iterator<Item = &RolePath> {
        self.inputs.iter().filter(|input| kinds.contains(&input.kind)).map(|input| &input.path)
    }
}

/// Searches the parts of an observation that are the same in every checkout for which it holds.
fn search_observation(observation: &Observation, scanner: &mut Scanner) {
    match observation {
        Observation::Env { name, value } => {
            scanner.look(name.as_bytes());
            scanner.look(value.as_deref().unwrap_or_default());
        }
        Observation::Link { path, text } => {
            search_path(path, scanner);
            scanner.look(text);
        }
        Observation::File { path, .. }
        | Observation::Absent { path }
        | Observation::Listing { path, .. }
        | Observation::Directory { path } => search_path(path, scanner),
        Observation::Environment { .. } | Observation::Root { .. } | Observation::Presentation { .. } => {}
    }
}

/// Searches a path by role. An absolute path is not searched: it may lie in this checkout and hold the very
/// name that is to be explained.
fn search_path(path: &RolePath, scanner: &mut Scanner) {
    if path.role() != Role::Absolute {
        scanner.look(path.rest());
    }
}
