//! Finds programs of an observed compile that the observer could not see into. Such a compile is not
//! stored, and the reason names the program (KEY-04).
//!
//! The process that starts a program leaves an `Executed` note, and the observer in the program leaves a
//! `Started` note. A program with the first note and without the second is linked statically, brings
//! another C library or runs with another user's rights. Pure: notes in, a reason out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::observer::{Note, NoteKind, NoteOutcome, UNKNOWN_PROCESS};

/// The number of `Started` notes without an `Executed` note: the client starts the compiler, and is not
/// observed itself.
const STARTED_BY_CLIENT: usize = 1;

/// The reason why a program could not be observed, for the report; `None` if all programs were observed.
///
/// `is_resolved` says whether all files that a program reads are in the key anyway, as is the case for
/// linkers. It gets the name by which the program was started, which may be a bare name that is looked
/// for in `PATH`.
pub(super) fn unobserved_program(notes: &[Note], is_resolved: &dyn Fn(&Path) -> bool) -> Option<String> {
    let unseen = notes.iter().filter(|note| note.kind == NoteKind::Unseen && !is_resolved(path(note)));
    let unseen = unseen.map(|note| {
        let number = String::from_utf8_lossy(&note.value);
        format!("`{}` cannot be observed: it made the system call {number}", path(note).display())
    });
    let without_start = programs_without_start(notes, is_resolved).into_iter();
    let without_start =
        without_start.map(|path| format!("it starts `{}`, which cannot be observed", path.display()));
    unseen.chain(without_start).next()
}

/// The executed programs that left no `Started` note.
///
/// Both kinds of notes are counted per process, since their order may vary: a parent may learn of its
/// child after the child has begun. A process may also become several programs in turn. If fewer of them
/// have begun than were executed, the last ones that are not resolved are taken for the missing ones.
///
/// A program that the C library starts by itself (`system`, `popen`) is noted without its process. Any
/// process that began and that no other `Executed` note accounts for may be that program.
fn programs_without_start<'a>(notes: &'a [Note], is_resolved: &dyn Fn(&Path) -> bool) -> Vec<&'a Path> {
    let mut begun: HashMap<u32, usize> = HashMap::new();
    let mut executed: HashMap<u32, Vec<&Path>> = HashMap::new();
    for note in notes {
        match (note.kind, note.outcome) {
            (NoteKind::Started, _) => *begun.entry(note.process).or_default() += 1,
            (NoteKind::Executed, NoteOutcome::There) => {
                executed.entry(note.process).or_default().push(path(note));
            }
            (NoteKind::Executed, _) => drop(executed.entry(note.process).or_default().pop()),
            _ => {}
        }
    }
    let of_c_library = executed.remove(&UNKNOWN_PROCESS).unwrap_or_default();
    let mut missing_programs = Vec::new();
    for (process, programs) in executed {
        let left = begun.entry(process).or_default();
        let missing = programs.len().saturating_sub(*left);
        *left = left.saturating_sub(programs.len());
        let unresolved: Vec<&Path> = programs.into_iter().filter(|program| !is_resolved(program)).collect();
        missing_programs.extend(unresolved.into_iter().rev().take(missing));
    }
    let others = begun.values().sum::<usize>().saturating_sub(STARTED_BY_CLIENT);
    let missing = of_c_library.len().saturating_sub(others);
    missing_programs.extend(of_c_library.into_iter().take(missing));
    missing_programs.sort_unstable();
    missing_programs
}

fn path(note: &Note) -> &Path {
    Path::new(OsStr::from_bytes(&note.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: NoteKind, outcome: NoteOutcome, process: u32, name: &str) -> Note {
        let (name, value) = (name.into(), b"425".to_vec());
        let has_dispatch = kind == NoteKind::Started;
        Note { process, kind, outcome, name, value, has_dispatch, is_from_late_library: !has_dispatch }
    }

    fn started(process: u32, name: &str) -> Note {
        note(NoteKind::Started, NoteOutcome::There, process, name)
    }

    fn executed(process: u32, name: &str) -> Note {
        note(NoteKind::Executed, NoteOutcome::There, process, name)
    }

    /// The reason for the notes of a compiler, where `mold` is the only program that is resolved.
    fn reason(notes: &[Note]) -> Option<String> {
        let all = [&[started(1, "/rustc")], notes].concat();
        unobserved_program(&all, &|path| path == Path::new("/usr/bin/mold"))
    }

    #[test]
    fn key_04_a_program_without_a_note_of_its_start_was_not_observed() {
        assert_eq!(reason(&[]), None);
        // The parent may learn of its child after the child has begun.
        assert_eq!(reason(&[started(2, "/bin/ls"), executed(2, "ls")]), None);
        let reason_for = |name: &str| Some(format!("it starts `{name}`, which cannot be observed"));
        assert_eq!(reason(&[executed(2, "/x/static")]), reason_for("/x/static"));
        // A process that becomes one program after another.
        let [one, two] = ["/usr/bin/env", "/bin/ls"].map(|name| (executed(3, name), started(3, name)));
        assert_eq!(reason(&[one.0.clone(), one.1.clone(), two.0.clone(), two.1]), None);
        assert_eq!(reason(&[one.0, one.1, two.0]), reason_for("/bin/ls"));
    }

    #[test]
    fn key_04_a_program_that_could_not_be_started_is_not_missing() {
        let failed = note(NoteKind::Executed, NoteOutcome::Failed, 2, "/none");
        assert_eq!(reason(&[executed(2, "/none"), failed.clone()]), None);
        assert!(reason(&[executed(2, "/none"), failed, executed(2, "/x")]).is_some());
    }

    #[test]
    fn key_15_a_linker_need_not_be_observed() {
        assert_eq!(reason(&[executed(2, "/usr/bin/mold")]), None);
        assert_eq!(reason(&[note(NoteKind::Unseen, NoteOutcome::There, 2, "/usr/bin/mold")]), None);
    }

    #[test]
    fn key_04_a_program_that_the_c_library_starts_must_begin_in_some_process() {
        let shell = executed(UNKNOWN_PROCESS, "/bin/sh");
        assert!(reason(std::slice::from_ref(&shell)).is_some());
        assert_eq!(reason(&[shell.clone(), started(9, "/bin/dash")]), None);
        // A process with an `Executed` note of its own does not account for it.
        assert!(reason(&[shell, started(9, "/bin/dash"), executed(9, "/bin/dash")]).is_some());
    }

    #[test]
    fn key_04_a_program_that_escapes_the_observer_is_named() {
        let why = reason(&[note(NoteKind::Unseen, NoteOutcome::There, 1, "/rustc")]);
        assert_eq!(why.as_deref(), Some("`/rustc` cannot be observed: it made the system call 425"));
    }
}
