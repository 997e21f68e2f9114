//! The page `docs/observed.md`, which is printed from the table of what is left out. A test
//! holds the page against it.

use std::fmt::Write as _;

use super::asked::LEFT_OUT;

const INTRODUCTION: &str = "\
# What is observed of a compile

<!-- This page is written by a test of `src/publish/reference.rs`, which fails when it is out of date. -->

A compiler says in its dep-info which sources it read. A proc macro may read any file and ask for any
variable, and says so to nobody. So kache watches: on Linux (glibc, x86-64 and aarch64) a small library
is loaded into the compiler and into what it starts, by `LD_PRELOAD`, for that process only. It stands in
front of the C library's functions for files and variables, and notes what was asked and whether there
was anything.

| what was asked for | what counts from then on |
| --- | --- |
| a file that is there | its content |
| a file or directory that is not there | that it is not |
| a directory that is there | that it is |
| a file that is opened to be written and keeps what was in it | its content before; where it was changed the compile is not stored |
| what a symbolic link says, and links in a checkout by which something was found | their text |
| a directory's entries | their names, and whether each is a file, a directory or a symbolic link |
| a variable | its value; unset, empty and set are three things |
| a program that is started, and its libraries | their content |
| the environment of a program that is started, unless it is known as a compiler or a linker | all variables of the call, and that no others are set |
| a program that is looked for in `PATH` | `PATH`, and that the program is in none of the directories before |
| the working directory of such a program | what it made is good only where the checkout has this path |
| a library that is loaded later | its content, and that it is not in the directories of `LD_LIBRARY_PATH` before |
| a library that a linker finds where nobody expected it | its content, and the places before it |

Compilers and linkers are known by their content: a program that starts nothing else when it is asked
for its version, and answers as gcc, clang, ld, gold, lld, mold or wild do. Of these, the variables and
files count that they ask for. Everything else, a script that is called `cc` included, is observed like
what a macro starts. A linker's script in `/nix/store` is not bound to its directory.

The C library reads `/etc/passwd`, `/etc/group` and `/etc/localtime` by itself: they count where it is asked
for a user, a group or local time. What a compile removes or moves away without having made it makes it one
that is not stored.

Paths that the kernel makes up, such as `/proc/self/cwd/x` and `/dev/fd/3`, are noted as what they lead to.
`nftw`, `fts_open`, `glob` and their like read directories where nobody sees it: a compile in which they are
called is not stored.

A macro that walks through all variables asks nobody for one. So all of them count where a macro's library uses
the list of variables at all (for `std::env::vars`, or to start programs), and where `/proc/self/environ` is
read, but for those that differ from call to call. Variables that rustc itself asks for in every compile, such
as `CI`, count where a macro asks for them.

System calls that a program makes itself are reported by the kernel as signals (Syscall User Dispatch), and
count like any other. Each program that is started is given the library, also where its environment was
emptied, and none of them sees the variables that this takes. A compile is not stored, and the report names
the program, where one could not be observed: it is linked statically, runs with another user's rights,
brings another C library, opens files through a ring of requests (`io_uring`), or handles threads or signals
past the C library, as programs in Go do. Linkers are no such programs: what they read is in the key.

A compile that leaves a file behind which a hit would not make is not stored, and the report names the
file: `it also makes …`. One that asks for more than 8 MiB of notes hold is not stored either. What was
asked for is not added to the `.d` file: cargo decides as it would without kache.

## What is left out

A compiler asks for some hundreds of files and variables each time. Most of them are in the key already,
or cannot make a difference:

| what | why a hit need not look at it |
| --- | --- |
";

const UNSEEN: &str = "
## What cannot be seen

- System calls that a program makes itself, past the C library, where the kernel does not report them: that
  takes Linux 5.11 on x86-64, glibc 2.34, and a sandbox that allows `prctl`. Elsewhere, name the files in
  `extra_inputs`. `kache doctor` says whether they are reported, and the daemon's log names the programs.
- A name that a macro takes out of a path, where the sources have the same word. Where a macro asks for a
  variable that holds the path of a checkout, such as `CARGO_MANIFEST_DIR`, or reads a link that does, the
  outputs are searched for the path and for the name of each directory in it. A name that is found makes the
  result good only where that directory has this path, unless it also stands in what the compiler read: its
  arguments, variables, sources and crates. So a checkout that is called like its crate is shared, and a macro
  that puts the checkout's name in is then not noticed. Nor are names of one or two letters, names of three
  that are no word by themselves in the output, names that are changed otherwise than by `_` in the place of
  `-` and `.`, and names that a macro takes from the compiler's command line.
- The clock, random numbers, the network, another program that answers.
- Dates and permissions of files that are looked at: a file counts by content.
- Anything, on systems for which there is no such library. `kache doctor` says so.

Where a compile should have been observed and something went wrong (no room for the notes, or a machine
too busy for a compiler to say its version in five seconds), it is not stored, and the next one is
observed again. The library is loaded from the cache's directory, or where that has a name that `LD_PRELOAD`
cannot hold, or lies on a volume whose files must not be executed, from a directory of this user's alone in
`/run/user`, `/dev/shm`, `/tmp`, `/var/tmp` or beside the program. Each compiler and linker is asked for its
version with and without the library first, once for each daemon: where that makes a difference, or where
there are three times no answers, what it makes is not stored, and the report names it.

`cache.verify_sample` finds what remains: one in so many hits is compiled once more, and two results of
one action take it out of service.
";

/// The page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for rule in LEFT_OUT {
        let _ = writeln!(page, "| {} | {} |", rule.what, rule.why);
    }
    page.push_str(UNSEEN);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let committed = include_str!("../../docs/observed.md");
        if committed != page() {
            let place = std::env::temp_dir().join("observed.md");
            std::fs::write(&place, page()).unwrap();
            panic!("docs/observed.md is out of date; the new one is `{}`", place.display());
        }
    }
}
