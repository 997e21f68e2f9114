//! Recognises compilers and linkers by their content, and never by their name.
//!
//! kache knows which variables and files of such a program can change its output; of any other program
//! all accesses count. A wrapper script often has the name of the real program and passes `--version` on
//! to it. It is recognised as a wrapper because it starts another program in order to answer.

use std::path::Path;

use memchr::memmem;

use super::elf::Elf;
use super::record::{Note, NoteKind};

/// Texts in the `--version` answer of each program but gcc.
const BANNERS: &[&str] =
    &["GNU ld ", "GNU gold ", "clang version ", " compatible with GNU ld)", "(compatible with GNU linkers)"];

/// A text in the answer of gcc and of all other programs of its project.
const GNU_BANNER: &str = "Free Software Foundation";

/// The variable through which gcc passes options to its parts. Its name is in the files of gcc and
/// `collect2`.
const GCC_OPTIONS_VARIABLE: &[u8] = b"COLLECT_GCC_OPTIONS";

/// The beginning of the answer of gcc's part that links. It asks the linker for its version as well.
const COLLECT2_BANNER: &str = "collect2 version ";

/// The first bytes of every program that is not a script.
const ELF: &[u8] = b"\x7fELF";

/// Whether a program is a compiler or a linker. `content` is the content of its file, `answer` its output
/// for `--version`, and `notes` are those that it left while it answered.
pub(super) fn is_compiler_or_linker(program: &Path, content: &[u8], answer: &[u8], notes: &[Note]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let started: Vec<&Note> = notes.iter().filter(|note| note.kind == NoteKind::Started).collect();
    let answer = String::from_utf8_lossy(answer);
    // A static program leaves no notes, so that it might pass the question on unseen. Its answer has to be
    // in its own file.
    if started.is_empty() && Elf::read(content).and_then(Elf::has_interpreter) == Some(false) {
        let mut banners = BANNERS.iter().filter(|banner| answer.contains(**banner));
        return banners.any(|banner| memmem::find(content, banner.as_bytes()).is_some());
    }
    let is_itself = started.first().is_some_and(|note| note.name == program.as_os_str().as_bytes());
    if !content.starts_with(ELF) || !is_itself {
        return false;
    }
    let is_of_gcc = || memmem::find(content, GCC_OPTIONS_VARIABLE).is_some();
    match started.len() {
        1 => {
            BANNERS.iter().any(|banner| answer.contains(banner)) || answer.contains(GNU_BANNER) && is_of_gcc()
        }
        2 => answer.contains(COLLECT2_BANNER) && is_of_gcc(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::NoteOutcome;
    use super::*;

    const GCC: &str = "cc (Debian 12.2.0) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc.\n";

    fn is_recognised(content: &str, answer: &str, started: &[&str]) -> bool {
        let note = |name: &&str| Note {
            process: 1,
            kind: NoteKind::Started,
            outcome: NoteOutcome::There,
            name: name.as_bytes().to_vec(),
            value: Vec::new(),
            has_dispatch: false,
            is_from_late_library: false,
        };
        let notes: Vec<Note> = started.iter().map(note).collect();
        is_compiler_or_linker(Path::new("/bin/x"), content.as_bytes(), answer.as_bytes(), &notes)
    }

    #[test]
    fn key_15_compilers_and_linkers_are_recognised_by_their_content() {
        let gcc = "\x7fELF..COLLECT_GCC_OPTIONS..";
        assert!(is_recognised(gcc, GCC, &["/bin/x"]));
        assert!(is_recognised(
            gcc,
            "collect2 version 12.2.0\n/usr/bin/ld --version\n",
            &["/bin/x", "/usr/bin/ld"]
        ));
        for said in [
            "GNU ld (GNU Binutils for Debian) 2.40",
            "GNU gold (GNU Binutils for Debian 2.40) 1.16",
            "Debian clang version 14.0.6",
            "Debian LLD 14.0.6 (compatible with GNU linkers)",
            "mold 2.4.0 (abc; compatible with GNU ld)",
            "Wild version 0.5.0 (compatible with GNU linkers)",
        ] {
            assert!(is_recognised("\x7fELF", said, &["/bin/x"]), "{said}");
        }
    }

    #[test]
    fn key_15_a_program_that_only_looks_like_a_compiler_is_not_recognised() {
        let gcc = "\x7fELF..COLLECT_GCC_OPTIONS..";
        // A script of any name, and a program that passes the question on.
        assert!(!is_recognised("#!/bin/sh\nexec cc \"$@\"", GCC, &["/bin/dash", "/bin/gcc"]));
        assert!(!is_recognised("#!/bin/sh\nCOLLECT_GCC_OPTIONS", GCC, &["/bin/x"]));
        assert!(!is_recognised(gcc, GCC, &["/bin/x", "/bin/gcc"]));
        assert!(!is_recognised(gcc, GCC, &["/bin/gcc"]));
        assert!(!is_recognised("\x7fELF", "GNU ld 2.40", &["/bin/x", "/bin/ld"]));
        // Another program of the same project, and one that could not be observed.
        assert!(!is_recognised("\x7fELF", "GNU bash 5.2\nFree Software Foundation", &["/bin/x"]));
        assert!(!is_recognised(gcc, GCC, &[]));
    }

    #[test]
    fn key_15_a_static_linker_is_recognised_if_its_answer_is_in_its_file() {
        // The header of a program of 64 bits without segments.
        let header = format!("\x7fELF\x02\x01{}", "\0".repeat(58));
        let linker = format!("{header}mold %s (compatible with GNU ld)");
        let said = "mold 2.4.0 (abc; compatible with GNU ld)";
        assert!(is_recognised(&linker.replace("(comp", "; comp"), said, &[]));
        assert!(!is_recognised(&header, said, &[]), "it passes the question on");
        assert!(!is_recognised(&linker, "tool 1.0", &[]));
        assert!(!is_recognised(&linker, said, &["/bin/ld"]));
    }
}
