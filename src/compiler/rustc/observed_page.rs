//! Generates the page `docs/observed.md` from the table of excluded accesses. A test fails if the
//! committed page differs.

use std::fmt::Write as _;

use super::accesses::ACCESS_RULES;
use crate::publish::EXCLUDED_ACCESSES;

const INTRODUCTION: &str = "\
# What is observed of a compile

<!-- This page is written by a test of `src/compiler/rustc/observed_page.rs`, which fails when it is out of date. -->

The dep-info of a compiler names the sources that it read. A proc macro can read any other file and any
variable, and the dep-info does not name these. So kache observes compilers. On Linux (glibc, x86-64 and
aarch64) it loads a small library, the observer, into the compiler and into the programs that the compiler
starts, by setting `LD_PRELOAD` for these processes only. The library wraps the functions of the C library that
access files and variables, and notes each access with its outcome. Each access that is not excluded below
becomes an observation, and a hit requires that all observations still hold.

| access | what a hit requires |
| --- | --- |
| a file is read | the same content |
| a file or directory is looked for and absent | that it is still absent |
| a directory is looked for and present | that it is still present |
| a file is opened for writing and keeps its content | the content that it had before; if the compile changed the file, the result is not stored |
| the target of a symbolic link is read, or a link in a checkout leads to an accessed file | the same target text |
| a macro or a program that it starts resolves a path, or looks at a path without following a link | for each path in the checkout that the program can so tell from a link: still no symbolic link, or one with the same target text |
| a directory is listed | the same names, and for each whether it is a file, a directory or a symbolic link |
| a variable is read | the same value; unset and empty are different values |
| a program is started | the same content of the program and its libraries |
| a program is started that is not recognised as a compiler or linker | the same value of every variable of the call, and no other variables |
| a program is looked for in `PATH` | the same `PATH`, and no such program in the directories before the one where it was found |
| a program that is not recognised runs in a directory | a checkout with the same path |
| a library is loaded after its program has begun | the same content, and no such library in the directories of `LD_LIBRARY_PATH` before it |
| a linker reads a library that kache did not expect | the same content, and no such library at the paths where the linker looked before |

kache recognises compilers and linkers by their content and not by their names: the program starts no other
program when it is asked for its version, and answers as gcc, clang, ld, gold, lld, mold or wild do. Of these
programs, only the files and variables that they access count. All other programs, including a script that is
called `cc`, are observed like a program that a macro starts. A linker script in `/nix/store` does not bind
the result to its directory.

The C library reads `/etc/passwd`, `/etc/group` and `/etc/localtime` by itself. They count if a program asks it
for a user, a group or the local time. A compile is not stored if it removes or moves a file that it did not
create.

Paths that the kernel makes up, such as `/proc/self/cwd/x` and `/dev/fd/3`, are noted as the files that they
lead to. `nftw`, `fts_open`, `glob` and similar functions read directories inside the C library, where the
observer does not see it. A compile that calls one of them is not stored.

The observer does not see which variables a macro reads from the list of all variables. So all variables of the
call count, except those that differ from call to call, if the library of a macro uses that list (for
`std::env::vars`, or to start programs) or if `/proc/self/environ` is read. Variables that rustc itself reads in
every compile, such as `CI`, count if a macro reads them.

The kernel reports system calls that a program makes without the C library as signals (Syscall User Dispatch),
and they count like all other accesses. Every program that a compile starts gets the library, even if its
environment was emptied, and no program sees the variables that this takes. If a program cannot be observed, the
compile is not stored, and the report names the program. This happens if the program is linked statically, runs
with the rights of another user, brings another C library, opens files through `io_uring`, or handles threads or
signals without the C library, as programs in Go do. Linkers may be such programs, because the files that they
read are in the key.

A compile that leaves a file behind which a hit would not create is not stored, and the report names the file:
`the compile also wrote …`. A compile with more than 8 MiB of notes is not stored either. Accesses are not added
to the `.d` file, so that cargo decides as it does without kache.

## What is left out

A compiler accesses hundreds of files and variables in each run. Most of them are in the key already, or cannot
make a difference:

| access | why a hit need not look at it |
| --- | --- |
";

const LIMITS_TEXT: &str = "
## What cannot be observed

- System calls that a program makes itself, past the C library, where the kernel does not report them: that
  takes Linux 5.11 on x86-64, glibc 2.34, and a sandbox that allows `prctl`. Elsewhere, name the files in
  `extra_inputs`. `kache doctor` says whether they are reported, and the daemon's log names the programs.
- A name that a macro takes out of a path, if the sources contain the same word. If a macro reads a variable
  that holds the path of a checkout, such as `CARGO_MANIFEST_DIR`, or a link that does, the outputs are searched
  for the path and for the name of each directory in it. A name that is found binds the result to the path of
  that directory, unless the name also occurs in something else that the compiler read: its arguments, variables,
  sources and crates. So a checkout that is called like its crate is shared, and a macro that puts the name of
  that checkout into its output is not noticed. Also not noticed are names of one or two letters, names of three
  letters that are no word of their own in the output, names that are changed in another way than by `_` in the
  place of `-` and `.`, and names that a macro takes from the compiler's command line.
- The clock, random numbers, the network, and answers of other processes.
- Dates and permissions of files: a file counts by its content.
- All accesses, on systems for which there is no observer. `kache doctor` says so.

If a compile should be observed and that fails, its result is not stored, and the next compile is observed again.
For example, there may be no room for the notes, or the machine may be too busy for a compiler to print its
version within five seconds.

The library is loaded from the cache's directory. If that directory has a name that `LD_PRELOAD` cannot contain,
or is on a volume whose files must not be executed, the library is loaded from a private directory of this user
in `/run/user`, `/dev/shm`, `/tmp`, `/var/tmp` or beside the program.

Once for each daemon, each compiler and linker is asked for its version with and without the library. If the two
answers differ, or if there is no answer three times, the results of this program are not stored, and the report
names it.

`cache.verify_sample` finds accesses that were missed: one in so many hits is compiled once more, and if the two
results of an action differ, the action is quarantined.
";

/// The text of `docs/observed.md`.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for rule in EXCLUDED_ACCESSES.iter().chain(ACCESS_RULES.excluded) {
        let _ = writeln!(page, "| {} | {} |", rule.what, rule.why);
    }
    page.push_str(LIMITS_TEXT);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let committed = include_str!("../../../docs/observed.md");
        if committed != page() {
            let place = std::env::temp_dir().join("observed.md");
            std::fs::write(&place, page()).unwrap();
            panic!("docs/observed.md is out of date; the new one is `{}`", place.display());
        }
    }
}
