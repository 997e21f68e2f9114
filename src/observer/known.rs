//! Whether a program is a compiler or a linker, told by its content and never by its name.
//!
//! What such a program does with its variables and where it looks for files is known; of any
//! other program everything counts. A wrapper has the name of the real one and passes the question
//! for a version on to it, so it is told by what it starts.

use std::path::Path;

use memchr::memmem;

use super::elf::Elf;
use super::record::{Kind, Note};

/// How the version of each begins or what it says, apart from gcc's.
const BANNERS: &[&str] =
    &["GNU ld ", "GNU gold ", "clang version ", " compatible with GNU ld)", "(compatible with GNU linkers)"];

/// What gcc says of itself, as all programs of its project do.
const OF_GNU: &str = "Free Software Foundation";

/// The variable by which gcc speaks to what it starts. Its name is in gcc and in `collect2`.
const BETWEEN_PARTS_OF_GCC: &[u8] = b"COLLECT_GCC_OPTIONS";

/// The part of gcc that links. It asks the linker for its version as well.
const COLLECT2: &str = "collect2 version ";

/// How every program begins that is no script.
const ELF: &[u8] = b"\x7fELF";

/// Whether this program, which has said this and left these notes when it was asked for its
/// version, is a compiler or a linker. `content` is its file.
pub(super) fn is_compiler_or_linker(program: &Path, content: &[u8], said: &[u8], notes: &[Note]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let started: Vec<&Note> = notes.iter().filter(|note| note.kind == Kind::Started).collect();
    let said = String::from_utf8_lossy(said);
    // A static one says nothing of itself, and nothing of one that it passes the question on to. What it
    // says has to be written in it.
    if started.is_empty() && Elf::read(content).and_then(Elf::has_interpreter) == Some(false) {
        let mut banners = BANNERS.iter().filter(|banner| said.contains(**banner));
        return banners.any(|banner| memmem::find(content, banner.as_bytes()).is_some());
    }
    let is_itself = started.first().is_some_and(|note| note.name == program.as_os_str().as_bytes());
    if !content.starts_with(ELF) || !is_itself {
        return false;
    }
    let is_of_gcc = || memmem::find(content, BETWEEN_PARTS_OF_GCC).is_some();
    match started.len() {
        1 => BANNERS.iter().any(|banner| said.contains(banner)) || said.contains(OF_GNU) && is_of_gcc(),
        2 => said.contains(COLLECT2) && is_of_gcc(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Outcome;
    use super::*;

    const GCC: &str = "cc (Debian 12.2.0) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc.\n";

    fn is_known(content: &str, said: &str, started: &[&str]) -> bool {
        let note = |name: &&str| Note {
            process: 1,
            kind: Kind::Started,
            outcome: Outcome::There,
            name: name.as_bytes().to_vec(),
            value: Vec::new(),
            mark: false,
        };
        let notes: Vec<Note> = started.iter().map(note).collect();
        is_compiler_or_linker(Path::new("/bin/x"), content.as_bytes(), said.as_bytes(), &notes)
    }

    #[test]
    fn key_15_compilers_and_linkers_are_known_by_their_content() {
        let gcc = "\x7fELF..COLLECT_GCC_OPTIONS..";
        assert!(is_known(gcc, GCC, &["/bin/x"]));
        assert!(is_known(
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
            assert!(is_known("\x7fELF", said, &["/bin/x"]), "{said}");
        }
    }

    #[test]
    fn key_15_what_only_looks_like_one_is_observed_in_full() {
        let gcc = "\x7fELF..COLLECT_GCC_OPTIONS..";
        // A script, whatever its name, and a program that passes the question on.
        assert!(!is_known("#!/bin/sh\nexec cc \"$@\"", GCC, &["/bin/dash", "/bin/gcc"]));
        assert!(!is_known("#!/bin/sh\nCOLLECT_GCC_OPTIONS", GCC, &["/bin/x"]));
        assert!(!is_known(gcc, GCC, &["/bin/x", "/bin/gcc"]));
        assert!(!is_known(gcc, GCC, &["/bin/gcc"]));
        assert!(!is_known("\x7fELF", "GNU ld 2.40", &["/bin/x", "/bin/ld"]));
        // Another program of the same project, and one that could not be observed.
        assert!(!is_known("\x7fELF", "GNU bash 5.2\nFree Software Foundation", &["/bin/x"]));
        assert!(!is_known(gcc, GCC, &[]));
    }

    #[test]
    fn key_15_a_static_linker_is_known_by_what_is_written_in_it() {
        // The header of a program of 64 bits without segments.
        let header = format!("\x7fELF\x02\x01{}", "\0".repeat(58));
        let linker = format!("{header}mold %s (compatible with GNU ld)");
        let said = "mold 2.4.0 (abc; compatible with GNU ld)";
        assert!(is_known(&linker.replace("(comp", "; comp"), said, &[]));
        assert!(!is_known(&header, said, &[]), "it passes the question on");
        assert!(!is_known(&linker, "tool 1.0", &[]));
        assert!(!is_known(&linker, said, &["/bin/ld"]));
    }
}
