//! Stores a [`MacroNote`] for each compiled crate and reads those of its dependencies, in order to prove
//! which variables are locators.
//!
//! A note is a record in the action cache under a digest of the content of an `.rmeta`, `.rlib` or `.so`
//! file. A crate that is given this file as a dependency finds the note by that content, in every
//! checkout. A note that cannot be read counts as absent. Notes are read and written only while a result
//! is published.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use kache_cas::{ActionCache, Digest, StoreError};

use super::locator::{SourceTexts, is_locator};
use super::macro_note::MacroNote;
use crate::action::{OutputKind, Task};
use crate::inputs::{Input, InputKind};
use crate::lookup::{read_record, write_record};
use crate::outputs::dep_info::DepInfo;
use crate::publish::{LocatorProof, LocatorProver};
use crate::roles::Form;

/// The kind of the record and the version of its form.
const PURPOSE: &str = "kache macros 3";

/// Facts about the macros that a compile makes and uses, from its arguments. It proves which variables of
/// the compile are locators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacroArguments {
    /// Whether the crate is compiled into a proc macro.
    pub is_proc_macro: bool,
    /// Whether a dependency is neither a crate of the toolchain nor an input of the key.
    pub uses_unknown_crates: bool,
}

/// Proves which variables of a compile are locators, from the source texts of the crate and the notes of
/// its dependencies.
struct MacroProof {
    own: SourceTexts,
    /// The notes of all dependencies together; `None` if one of them has no note.
    dependencies: Option<MacroNote>,
    is_proc_macro: bool,
}

impl LocatorProver for MacroArguments {
    /// Reads the sources and notes of a compile. Returns `None` if no variable of the dep-info holds the
    /// path of a root, and no note has to be written.
    fn prove(
        &self,
        task: &Task,
        info: &DepInfo,
        inputs: &[Input],
        actions: &dyn ActionCache,
    ) -> Result<Option<Box<dyn LocatorProof>>, StoreError> {
        let is_path = |value: &Vec<u8>| task.roots.generalise(value, Form::Value).as_ref() != Some(value);
        let names = info.env.iter().filter(|(_, value)| value.as_ref().is_some_and(is_path));
        let names: Vec<&str> = names.filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect();
        if names.is_empty() && !task.outputs.iter().any(|output| is_crate(output.kind)) {
            return Ok(None);
        }
        let path = |name: &Vec<u8>| task.cwd.join(OsStr::from_bytes(name));
        let sources: Vec<PathBuf> = info.files.iter().map(path).collect();
        let dependencies =
            if self.uses_unknown_crates { None } else { note_of_dependencies(actions, inputs)? };
        // There is no variable to be proven, and a note could not be written without the others.
        if names.is_empty() && dependencies.is_none() {
            return Ok(None);
        }
        let own = SourceTexts::read(&sources, &names);
        Ok(Some(Box::new(MacroProof { own, dependencies, is_proc_macro: self.is_proc_macro })))
    }

    fn notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        actions: &dyn ActionCache,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some((_, digest)) = outputs.iter().find(|(kind, _)| is_crate(*kind)) else { return Ok(None) };
        let note = read_record(actions, PURPOSE, &digest.coerce())?;
        Ok(note.map(|note| Bytes::from([PURPOSE.as_bytes(), b"\n", &note[..]].concat())))
    }

    fn accept_notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        notes: &[u8],
        actions: &dyn ActionCache,
    ) -> Result<(), StoreError> {
        let note = notes.strip_prefix(PURPOSE.as_bytes()).and_then(|notes| notes.strip_prefix(b"\n"));
        let Some(note) = note.and_then(MacroNote::decode) else { return Ok(()) };
        let mut crates = outputs.iter().filter(|(kind, _)| is_crate(*kind));
        crates.try_for_each(|(_, digest)| write_note(actions, digest, &note))
    }
}

impl LocatorProof for MacroProof {
    fn is_locator(&self, name: &str) -> bool {
        is_locator(self.own.use_of(name), self.dependencies.as_ref().map(|note| note.use_of(name)))
    }

    /// Stores the crate's note for each output that other crates can be given as a dependency. Stores
    /// nothing if the note of a dependency is missing.
    fn store_notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        actions: &dyn ActionCache,
    ) -> Result<(), StoreError> {
        let Some(dependencies) = &self.dependencies else { return Ok(()) };
        let mut outputs = outputs.iter().filter(|(kind, _)| is_crate(*kind)).peekable();
        if outputs.peek().is_none() {
            return Ok(());
        }
        let mut note = MacroNote::of(&self.own);
        note.add(dependencies);
        let note = if self.is_proc_macro { note.into_proc_macros() } else { note };
        outputs.try_for_each(|(_, digest)| write_note(actions, digest, &note))
    }
}

/// Whether other crates can be given an output of this kind as a dependency.
fn is_crate(kind: OutputKind) -> bool {
    matches!(kind, OutputKind::Metadata | OutputKind::Rlib | OutputKind::SharedLibrary)
}

/// The notes of all dependencies together; `None` if one of them has no note.
fn note_of_dependencies(
    actions: &dyn ActionCache,
    inputs: &[Input],
) -> Result<Option<MacroNote>, StoreError> {
    let mut whole = MacroNote::default();
    for input in inputs.iter().filter(|input| input.kind == InputKind::Extern) {
        match read_note(actions, &input.digest)? {
            Some(note) => whole.add(&note),
            None => return Ok(None),
        }
    }
    Ok(Some(whole))
}

fn read_note(actions: &dyn ActionCache, crate_file: &Digest) -> Result<Option<MacroNote>, StoreError> {
    let bytes = read_record(actions, PURPOSE, &crate_file.coerce())?;
    Ok(bytes.and_then(|bytes| MacroNote::decode(&bytes)))
}

/// Stores the note of a crate whose file has this content.
fn write_note(actions: &dyn ActionCache, crate_file: &Digest, note: &MacroNote) -> Result<(), StoreError> {
    write_record(actions, PURPOSE, &crate_file.coerce(), note.encode())
}
