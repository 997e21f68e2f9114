//! The table of all parts of a key, and the page `docs/cache-key.md`, which is printed from this table
//! and from the tables of options of the compilers.
//!
//! One test compares the table with the walk: it fails if a section is missing here, or enters a key
//! that the table does not list it for. Another test compares the page with the table.

use std::fmt::Write as _;

use super::explain::Section;
use super::material::KEY_VERSION;
use crate::roles::{COMMON, Listed, SYSTEM};

/// One row of the table of a key's parts.
#[derive(Clone, Copy, Debug)]
pub struct KeyPart {
    /// The section of the key that this part belongs to.
    pub section: Section,
    /// The contents of the part.
    pub what: &'static str,
    /// Whether the part is in the query, too. Every part is in the full action.
    pub in_query: bool,
    /// The reason why it counts.
    pub why: &'static str,
}

const fn part(section: Section, in_query: bool, what: &'static str, why: &'static str) -> KeyPart {
    KeyPart { section, what, in_query, why }
}

/// The table of a key's parts.
pub const KEY_PARTS: &[KeyPart] = &[
    part(
        Section::Salt,
        true,
        "the version of the key, `cache.key_salt`",
        "a query and an action of the same contents must differ, because a trail is stored under the one and a result under the other",
    ),
    part(
        Section::Platform,
        true,
        "`OSFamily` and `ISA`: system and processor family; `host` and `target`: the triples",
        "a result is good for one platform; the platform of the action holds `OSFamily` and `ISA`, by which engines choose a machine, and all other properties are lines of the file `properties` in the input root",
    ),
    part(
        Section::Platform,
        true,
        "`kache-native`: with `target-cpu=native` or `tune-cpu=native`, the processor's name and features",
        "the compiler itself says what they are; machines with the same processor and features share results",
    ),
    part(
        Section::Platform,
        true,
        "if paths are not remapped: the paths of all roots and the working directory",
        "outputs contain them, and a search of the outputs cannot find them in compressed coverage maps",
    ),
    part(
        Section::Platform,
        false,
        "`kache-root-…`: the path of a root, or of a directory above one, that an output contains, or through which the compiler found something that no path by role can name; with `-real` every link is followed",
        "the result is good for that path only",
    ),
    part(
        Section::Platform,
        false,
        "`kache-presentation`: the format, colours and width of messages",
        "counts only if the compiler printed messages; most compiles print none",
    ),
    part(
        Section::Argument,
        true,
        "a shell with a script that adds kache's remaps by role; the working directory by role, the compiler, then the arguments as the tables below say",
        "each argument is an item of its own, in order; arguments are never joined. The script lets an engine put the input root anywhere",
    ),
    part(
        Section::Variable,
        true,
        "variables that rustc itself reads, and `cache.key_env_vars`; for crates that use other crates also the variables of the package and of its build script",
        "a proc macro may read them without reporting it; stand-ins replace the paths of roots",
    ),
    part(
        Section::Variable,
        false,
        "variables that `env!` and `option_env!` read, as the dep-info says; variables that a program was observed to read",
        "known only after the compiler has run; in the keys that remotes know, a salted hash stands for each value that is not one of cargo's or rustc's own variables (docs/remotes.md)",
    ),
    part(
        Section::Output,
        true,
        "the path of every output, by role",
        "a result of `cargo check` is not a result of `cargo build`",
    ),
    part(
        Section::Toolchain,
        true,
        "the toolchain's tree: driver, libraries, the target's standard library",
        "counts by content; the version text of the compiler does not count",
    ),
    part(
        Section::Input,
        true,
        "the crate's root source, externs, files that options name, `extra_inputs`; for a linked output also reachable crates, native libraries and the link toolchain",
        "known before the compiler runs",
    ),
    part(
        Section::Input,
        false,
        "every other file in the dep-info, and every file that a program was observed to read (`docs/observed.md`); a file outside all roots under every name by which it may have been found",
        "known only after the compiler has run",
    ),
    part(
        Section::Observed,
        false,
        "paths that did not exist when they were looked for, directories that were found, listings of directories, texts of symbolic links, paths that are no symbolic links, variables that are not set, and the names of all variables if a program may have read all of them",
        "the compile may change when one of them changes; they are lines of the file `observed` in the input root",
    ),
];

const INTRODUCTION: &str = "\
# The cache key

<!-- This page is written by a test of `src/action/reference.rs`, which fails when it is out of date. -->

A compile has two keys, both Remote Execution API actions. The *query* holds everything that is known
before the compiler runs. The trail of a query names up to 16 *full actions*. A full action is the query
with everything that one run of the compiler was observed to read. `kache explain DIGEST` prints an
action part by part, with the names that this page uses; `kache diff` compares two actions.

Paths count by role: `ws` is the workspace, `out` the target directory, `cargo` the cargo home,
`sysroot` the toolchain, `base0`, `base1`, … the directories in `paths.base_dirs`, and `abs` any other
path. The roles are the directories of an action's input root. A path above a root is named by levels:
`ws-up1` is the directory that contains the workspace. `ws-above/.env` stands for a file `.env` in every
directory above the workspace, if a search has found none of them.
";

const CONSIDERATIONS: &str = "
## Before anything is added or left out

- Everything counts that decides an output, a message or whether the compile succeeds. Lint levels and
  `--cap-lints` change no byte of an output, but they decide which messages appear and whether the
  compile fails.
- Nothing may count that differs from call to call, or there would never be a hit: the width of the
  terminal, colours, the numbers in `CARGO_MAKEFLAGS`, a random crate name in a build script's trial.
- A path counts by role or as it is, never in both ways. A relative path and the same path given
  absolutely are different, because rustc writes paths into outputs as they were given.
- Arguments that may contain a path (`-C link-arg`, `--remap-path-prefix`) count with stand-ins for
  roots. If the path gets into an output, the search of the outputs finds it there.
- kache's own remaps count by role and not as options: the options depend on where the roots lie, but
  their effect on outputs does not.
- Every addition needs a new version of the key and a line in the changelog.
";

const OUTSIDE: &str = "
## Files outside all roots

A workspace may be a subdirectory of its repository, and a compile may read files above it. Another
checkout can use the result only if the same search would find the same file there. Therefore a path
counts under every name by which the compile may have found it:

- A path that enters a root and leaves it through `..` tells how it was found. `src/../../../shared.txt` and
  `<workspace>/../shared.txt` are both `ws-up1/shared.txt`, and no other name counts. If `..` follows a
  symbolic link, it may lead to another directory than the text says; then the link counts, and so does the
  file that it leads to, as if it had been named itself. A compile with such a path in its dep-info is
  not stored.
- An absolute path does not tell how it was found. A macro may have gone upwards from a root with
  `Path::parent`, or may have been given this very path. The path counts as it is (`abs/…`), and relative to
  every root except the toolchain.
- A search that goes up to the root of the file system and finds nothing counts once for all directories
  above a root (`ws-above/…`), so that checkouts at another depth share it. A search that finds or passes
  something there binds the result to roots of the same depth.
- Other checkouts get a dep-info as it was written. If it names a file by an absolute path outside all
  roots, the result is bound to the path of the directory above each root through which the file was reached.
- If a root is reached through a link, a search by name and a search through `..` may lead to different
  directories. Then the result is bound to the path of the root and to the path that the link leads to.
- A package whose own directory lies in no root counts with the absolute path of that directory.

There is no role for the repository. Levels can name every file in it, and above it, without knowing where
the repository begins. A role that depends on a marker (`.git`, `.jj`) would change the names of paths
when the marker appears or disappears.

An absolute path in a directory of the system counts as it is, and under no other name. There are two
exceptions. If a root lies in the directory, it is not a directory of the system for this call. If the
compile has looked for the same name elsewhere before, it may have reached the file by going upwards.

";

const ABOVE: &str = "
kache searches outputs and messages for the paths of the roots and of the directories above them, both as
the call spells them and with every link followed. A path that is found binds the result to the path of that
directory. The search goes upwards and ends before the first directory that is common to all users:

";

/// Prints a table of directories. Neighbours with the same reason share a row.
fn listed(page: &mut String, list: &[Listed]) {
    page.push_str("| directory | why |\n| --- | --- |\n");
    let mut rows: Vec<(Vec<String>, &str)> = Vec::new();
    for Listed { dir, why } in list {
        match rows.last_mut() {
            Some((dirs, known)) if known == why => dirs.push(format!("`{dir}`")),
            _ => rows.push((vec![format!("`{dir}`")], why)),
        }
    }
    for (dirs, why) in rows {
        let _ = writeln!(page, "| {} | {why} |", dirs.join(", "));
    }
}

/// Returns the text of `docs/cache-key.md`. `options` are the chapters about the options of the compilers.
pub fn page(options: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    let _ = write!(
        page,
        "\n## Parts of a key, version {KEY_VERSION}\n\n| part | what | query | action | why |\n| --- | --- | --- | --- | --- |\n"
    );
    for part in KEY_PARTS {
        let query = if part.in_query { "yes" } else { "" };
        let _ = writeln!(page, "| {} | {} | {query} | yes | {} |", part.section.name(), part.what, part.why);
    }
    page.push_str(OUTSIDE);
    listed(&mut page, SYSTEM);
    page.push_str(ABOVE);
    listed(&mut page, COMMON);
    page.push_str(CONSIDERATIONS);
    page.push_str(options);
    page
}
