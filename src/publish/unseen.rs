//! What nobody could see of an observed compile, by name: such a compile is not stored (KEY-04).
//!
//! Every program that a process becomes is noted before it begins, and a program that is observed says
//! so when it has begun. One that never does is linked statically, brings another C library, or runs
//! with another user's rights. Pure: notes in, a reason out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::observer::{Kind, Note, Outcome, UNKNOWN_PROCESS};

/// The one process that no other one has started: the compiler, by its client.
const OF_THE_CLIENT: usize = 1;

/// What was not seen, for people; `None` where all was. `is_resolved` says of a program whether all that
/// it reads is in the key anyway, as is the case for linkers; it is handed the name that the program was
/// started by, which may be one to be looked for in `PATH`.
pub(super) fn unseen(notes: &[Note], is_resolved: &dyn Fn(&Path) -> bool) -> Option<String> {
    let hidden = notes.iter().filter(|note| note.kind == Kind::Unseen && !is_resolved(path(note)));
    let hidden = hidden.map(|note| {
        let number = String::from_utf8_lossy(&note.value);
        format!("`{}` cannot be observed: it made the system call {number}", path(note).display())
    });
    let silent = silent(notes, is_resolved).into_iter();
    let silent = silent.map(|path| format!("it starts `{}`, which cannot be observed", path.display()));
    hidden.chain(silent).next()
}

/// The programs that were started and have never begun, as far as can be told.
fn silent<'a>(notes: &'a [Note], is_resolved: &dyn Fn(&Path) -> bool) -> Vec<&'a Path> {
    let mut begun: HashMap<u32, usize> = HashMap::new();
    let mut executed: HashMap<u32, Vec<&Path>> = HashMap::new();
    for note in notes {
        match (note.kind, note.outcome) {
            (Kind::Started, _) => *begun.entry(note.process).or_default() += 1,
            (Kind::Executed, Outcome::There) => executed.entry(note.process).or_default().push(path(note)),
            (Kind::Executed, _) => drop(executed.entry(note.process).or_default().pop()),
            _ => {}
        }
    }
    let of_the_library = executed.remove(&UNKNOWN_PROCESS).unwrap_or_default();
    let mut silent = Vec::new();
    for (process, programs) in executed {
        let left = begun.entry(process).or_default();
        let missing = programs.len().saturating_sub(*left);
        *left = left.saturating_sub(programs.len());
        // Which of them it was is not known where a process became several.
        let unknown: Vec<&Path> = programs.into_iter().filter(|program| !is_resolved(program)).collect();
        silent.extend(unknown.into_iter().rev().take(missing));
    }
    let others = begun.values().sum::<usize>().saturating_sub(OF_THE_CLIENT);
    let missing = of_the_library.len().saturating_sub(others);
    silent.extend(of_the_library.into_iter().take(missing));
    silent.sort_unstable();
    silent
}

fn path(note: &Note) -> &Path {
    Path::new(OsStr::from_bytes(&note.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: Kind, outcome: Outcome, process: u32, name: &str) -> Note {
        Note { process, kind, outcome, name: name.into(), value: b"425".to_vec(), mark: true }
    }

    fn started(process: u32, name: &str) -> Note {
        note(Kind::Started, Outcome::There, process, name)
    }

    fn executed(process: u32, name: &str) -> Note {
        note(Kind::Executed, Outcome::There, process, name)
    }

    fn judge(notes: &[Note]) -> Option<String> {
        let all = [&[started(1, "/rustc")], notes].concat();
        unseen(&all, &|path| path == Path::new("/usr/bin/mold"))
    }

    #[test]
    fn key_04_a_program_that_never_says_that_it_has_begun_was_not_observed() {
        assert_eq!(judge(&[]), None);
        // The parent may be told of its child after that has begun.
        assert_eq!(judge(&[started(2, "/bin/ls"), executed(2, "ls")]), None);
        let silent = |name: &str| Some(format!("it starts `{name}`, which cannot be observed"));
        assert_eq!(judge(&[executed(2, "/x/static")]), silent("/x/static"));
        // A process that becomes one program after another.
        let [one, two] = ["/usr/bin/env", "/bin/ls"].map(|name| (executed(3, name), started(3, name)));
        assert_eq!(judge(&[one.0.clone(), one.1.clone(), two.0.clone(), two.1]), None);
        assert_eq!(judge(&[one.0, one.1, two.0]), silent("/bin/ls"));
    }

    #[test]
    fn key_04_a_program_that_could_not_be_started_has_not_been_missed() {
        let failed = note(Kind::Executed, Outcome::Failed, 2, "/none");
        assert_eq!(judge(&[executed(2, "/none"), failed.clone()]), None);
        assert!(judge(&[executed(2, "/none"), failed, executed(2, "/x")]).is_some());
    }

    #[test]
    fn key_15_a_linker_need_not_be_observed() {
        assert_eq!(judge(&[executed(2, "/usr/bin/mold")]), None);
        assert_eq!(judge(&[note(Kind::Unseen, Outcome::There, 2, "/usr/bin/mold")]), None);
    }

    #[test]
    fn key_04_what_the_c_library_starts_has_to_begin_somewhere() {
        let shell = executed(UNKNOWN_PROCESS, "/bin/sh");
        assert!(judge(std::slice::from_ref(&shell)).is_some());
        assert_eq!(judge(&[shell.clone(), started(9, "/bin/dash")]), None);
        // One that somebody else has started does not stand for it.
        assert!(judge(&[shell, started(9, "/bin/dash"), executed(9, "/bin/dash")]).is_some());
    }

    #[test]
    fn key_04_a_program_that_hides_what_it_does_is_named() {
        let said = judge(&[note(Kind::Unseen, Outcome::There, 1, "/rustc")]);
        assert_eq!(said.as_deref(), Some("`/rustc` cannot be observed: it made the system call 425"));
    }
}
