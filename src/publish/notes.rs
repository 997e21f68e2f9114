//! Notes on what crates' macros may ask for, kept beside what was made of the crates.
//!
//! A note lies, as a result that names no outputs, under a digest made of the content of an
//! `.rmeta`, `.rlib` or `.so`: whoever is given that file finds it, in whatever checkout it lies.
//! One that cannot be read is none. Read and written only while a result is stored.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use kache_cas::{ActionCache, Digest, StoreError};

use super::locator::{Sources, is_mere_locator};
use super::note::Note;
use crate::action::{OutputKind, Task};
use crate::inputs::{Input, InputKind};
use crate::lookup::{read_record, write_record};
use crate::outputs::dep_info::DepInfo;
use crate::roles::Form;

/// What record this is, and the version of its form.
const PURPOSE: &str = "kache macros 3";

/// What the command line says of macros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macros {
    /// Whether the crate is made to be loaded by compilers.
    pub is_proc_macro: bool,
    /// Whether it is given a crate that is neither the toolchain's nor among the inputs.
    pub uses_unknown: bool,
}

/// Everybody who may ask for variables in a compile: the crate itself, and those that it uses.
pub(super) struct Askers {
    own: Sources,
    /// `None` where one of them has no note.
    used: Option<Note>,
    is_proc_macro: bool,
}

impl Askers {
    /// Of this compile; `None` where nobody wants to know.
    pub(super) fn read(
        task: &Task,
        info: &DepInfo,
        inputs: &[Input],
        macros: Macros,
        actions: &dyn ActionCache,
    ) -> Result<Option<Askers>, StoreError> {
        let is_path = |value: &Vec<u8>| task.roots.generalise(value, Form::Value).as_ref() != Some(value);
        let names = info.env.iter().filter(|(_, value)| value.as_ref().is_some_and(is_path));
        let names: Vec<&str> = names.filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect();
        if names.is_empty() && !task.outputs.iter().any(|output| is_crate(output.kind)) {
            return Ok(None);
        }
        let place = |name: &Vec<u8>| task.cwd.join(OsStr::from_bytes(name));
        let sources: Vec<PathBuf> = info.files.iter().map(place).collect();
        let used = if macros.uses_unknown { None } else { of_used(actions, inputs)? };
        // Then there is nothing to be told and nothing to be kept.
        if names.is_empty() && used.is_none() {
            return Ok(None);
        }
        let own = Sources::read(&sources, &names);
        Ok(Some(Askers { own, used, is_proc_macro: macros.is_proc_macro }))
    }

    /// Whether this variable's value serves to find files only, by all that is said.
    pub(super) fn is_locator(&self, name: &str) -> bool {
        is_mere_locator(self.own.verdict(name), self.used.as_ref().map(|note| note.verdict(name)))
    }

    /// Keeps what those who use the crate have to know, for each of its files. Nothing where it
    /// is not all known.
    pub(super) fn keep<'a>(
        &self,
        outputs: impl Iterator<Item = (OutputKind, &'a Digest)>,
        actions: &dyn ActionCache,
    ) -> Result<(), StoreError> {
        let Some(used) = &self.used else { return Ok(()) };
        let mut outputs = outputs.filter(|(kind, _)| is_crate(*kind)).peekable();
        if outputs.peek().is_none() {
            return Ok(());
        }
        let mut note = Note::of(&self.own);
        note.add(used);
        let note = if self.is_proc_macro { note.into_proc_macros() } else { note };
        outputs.try_for_each(|(_, digest)| put(actions, digest, &note))
    }
}

/// Whether others are given this to compile.
fn is_crate(kind: OutputKind) -> bool {
    matches!(kind, OutputKind::Metadata | OutputKind::Rlib | OutputKind::SharedLibrary)
}

/// What the crates that a compile is given say together; `None` where one of them has no note.
fn of_used(actions: &dyn ActionCache, inputs: &[Input]) -> Result<Option<Note>, StoreError> {
    let mut whole = Note::default();
    for input in inputs.iter().filter(|input| input.kind == InputKind::Extern) {
        match get(actions, &input.digest)? {
            Some(note) => whole.add(&note),
            None => return Ok(None),
        }
    }
    Ok(Some(whole))
}

fn get(actions: &dyn ActionCache, crate_file: &Digest) -> Result<Option<Note>, StoreError> {
    let kept = read_record(actions, PURPOSE, &crate_file.coerce())?;
    Ok(kept.and_then(|bytes| Note::decode(&bytes)))
}

/// Keeps the note of a crate whose file has this content.
fn put(actions: &dyn ActionCache, crate_file: &Digest, note: &Note) -> Result<(), StoreError> {
    write_record(actions, PURPOSE, &crate_file.coerce(), note.encode())
}
