//! The table of everything that a key is made of, and the page `docs/cache-key.md`, which is
//! printed from it and from the tables of rustc's options.
//!
//! A test holds the table against the walk: a section that is missing here, or that enters a
//! key in which the table does not have it, fails. Another holds the page against the table.

use std::fmt::Write as _;

use super::explain::Section;
use super::material::KEY_VERSION;
use crate::invocation::rustc::{CODEGEN, KeyEffect, OPTIONS, UNSTABLE};
use crate::roles::{COMMON, Listed, SYSTEM};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which part of a key.
    pub section: Section,
    /// What is in it.
    pub what: &'static str,
    /// Whether it is in the query.
    pub in_query: bool,
    /// Why, and what to mind.
    pub why: &'static str,
}

const fn part(section: Section, in_query: bool, what: &'static str, why: &'static str) -> Part {
    Part { section, what, in_query, why }
}

/// The table. Everything in it is in the full action.
pub const PARTS: &[Part] = &[
    part(
        Section::Salt,
        true,
        "the version of the key, `cache.key_salt`",
        "a query and an action of the same contents must differ: their results are different things",
    ),
    part(
        Section::Platform,
        true,
        "system and processor family, host and target triple",
        "a result is good for a platform",
    ),
    part(
        Section::Platform,
        true,
        "`kache-native`: with `target-cpu=native` or `tune-cpu=native`, the processor's name and features",
        "the compiler itself says what they are; machines with the same ones share results",
    ),
    part(
        Section::Platform,
        true,
        "where paths are not remapped: every root and the directory",
        "they are in the outputs, and in coverage maps no scan finds them",
    ),
    part(
        Section::Platform,
        false,
        "`kache-root-…`: a root, or a directory above one, whose path was found in an output, or by which something was found that has no other name; `-real` with every link followed",
        "the result is good for that place only",
    ),
    part(
        Section::Platform,
        false,
        "`kache-presentation`: format, colours and width of messages",
        "only where there were messages; most compiles say nothing",
    ),
    part(
        Section::Argument,
        true,
        "directory by role, compiler, remaps by role, then the arguments as the tables below say",
        "each by itself and in order, never joined",
    ),
    part(
        Section::Variable,
        true,
        "variables that rustc reads itself, `cache.key_env_vars`; for crates that use others also those of the package and its build script",
        "a proc-macro may read them and never say so; paths of roots have stand-ins",
    ),
    part(
        Section::Variable,
        false,
        "`env!` and `option_env!`, as the dep-info says; variables that were seen to be asked for",
        "known when the compiler has run",
    ),
    part(
        Section::Output,
        true,
        "every file that is made, by role",
        "a result of `cargo check` is none of `cargo build`",
    ),
    part(
        Section::Toolchain,
        true,
        "the toolchain's tree: driver, libraries, the target's standard library",
        "by content, never by banner",
    ),
    part(
        Section::Input,
        true,
        "the crate's root source, externs, files that options name, `extra_inputs`; for what is linked also reachable crates, native libraries, the link toolchain",
        "known before the compiler runs",
    ),
    part(
        Section::Input,
        false,
        "every other file in the dep-info, and files that were seen to be read (`docs/observed.md`); what lies outside of all roots under every name that it may have been come by",
        "known when the compiler has run",
    ),
    part(
        Section::Observed,
        false,
        "places where a file was looked for and not found, directories that were, listings of directories, what symbolic links say, variables that are not set, and which variables are set where a program may have read all of them",
        "what appears there makes another compile of it; they stand in the file `observed` of the input root",
    ),
];

const INTRODUCTION: &str = "\
# The cache key

<!-- This page is written by a test of `src/action/reference.rs`, which fails when it is out of date. -->

A compile has two keys, both Remote Execution API actions. The *query* holds what is known before
anything runs. Its trail names up to 16 *full actions*: the same with what a run of the compiler
turned out to read. `kache explain DIGEST` prints an action, part by part, in the names of this
page; `kache diff` compares two.

Paths count by role: `ws` is the workspace, `out` the target directory, `cargo` the cargo home,
`sysroot` the toolchain, `base0` and on what `paths.base_dirs` names, `abs` anything else. They are
the directories of an action's input root. What lies above a root is named by levels: `ws-up1` is the
directory that holds the workspace, and `ws-above/.env` stands for a file of this name in every
directory above it, where a search has found none.
";

const CONSIDERATIONS: &str = "
## Before anything is added or left out

- What decides an output, a message or success counts. Lint levels and `--cap-lints` change no
  byte of an output; they decide what is said and whether it fails.
- What is different for every call must not count, or nothing is ever found: the terminal's
  width, colours, the numbers in `CARGO_MAKEFLAGS`, a random crate name in a build script's trial.
- A path counts by role, or as it is, never both ways at once: a relative path and the same path
  given absolutely are two things, because rustc writes them down as given.
- Arguments that may hold a path inside (`-C link-arg`, `--remap-path-prefix`) count with
  stand-ins for roots. Should the path get into an output, the scan of outputs finds it there.
- Remaps count by role and not as given: which options it takes depends on where the roots lie,
  and what comes of them does not.
- Anything new in here is a new version of the key and a line in the changelog.
";

const OUTSIDE: &str = "
## What lies outside of all roots

A workspace may be a subdirectory of its repository, and a compile may read what lies above it. Another
checkout gets the result if it finds the same where it would look, so a place counts under every name
that it may have been come by:

- A text that enters a root and leaves it upwards tells the name: `src/../../../shared.txt` and
  `<workspace>/../shared.txt` are `ws-up1/shared.txt`, and nothing else counts. Where `..` stands behind a
  symbolic link and leads elsewhere than by name, the link counts, and the place that it leads to as if it had
  been named itself; a compile whose dep-info says such a name is not stored.
- An absolute path does not tell. A macro may have gone upwards from a root with `Path::parent`, or have been
  told this very path. The place counts as it is (`abs/…`), and relative to every root but the toolchain.
- A search that goes on to the root of the file system and finds nothing counts once for all directories
  above a root (`ws-above/…`), so that checkouts at another depth share it. One that finds something
  there, or passes something, binds the result to roots of the same depth.
- A dep-info is handed to other checkouts as it was written. A file in it that is named by an absolute path
  outside of all roots binds the result to the directory above each root through which it was reached.
- Where a root is reached through a link, so that a search by name and one through `..` lead to different
  directories, the result is bound to the root and to where it leads.
- A package whose own directory lies in no root counts with that directory as it is.

There is no role for the repository. Levels name everything in it without knowing what a repository is, and
what lies above it as well; a role that depends on a marker (`.git`, `.jj`) would change what a path is called
when a marker comes or goes.

An absolute path may be shared, without another name, in a directory of the system. No root may lie in
that directory; else it is no directory of the system for this call. A search for the same name that was
made elsewhere before makes an exception as well: then it may have been come by upwards.

";

const ABOVE: &str = "
Outputs and messages are searched for the paths of roots, and of the directories above them, as they are
written and with every link followed. What is found binds the result to that directory's place. The search
goes upwards to the first directory that is common property:

";

/// A table of directories with reasons, those of one reason in one row.
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

/// The page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let _ = write!(
        page,
        "\n## Parts of a key, version {KEY_VERSION}\n\n| part | what | query | action | why |\n| --- | --- | --- | --- | --- |\n"
    );
    for part in PARTS {
        let query = if part.in_query { "yes" } else { "" };
        let _ = writeln!(page, "| {} | {} | {query} | yes | {} |", part.section.name(), part.what, part.why);
    }
    page.push_str(OUTSIDE);
    listed(&mut page, SYSTEM);
    page.push_str(ABOVE);
    listed(&mut page, COMMON);
    page.push_str(CONSIDERATIONS);
    options(&mut page);
    page
}

fn options(page: &mut String) {
    page.push_str("\n## rustc's options\n\nOne that is not listed makes the call pass by, with its name in the report.\n\n");
    page.push_str("| option | what it does to the key |\n| --- | --- |\n");
    for option in OPTIONS {
        let short = (option.short != '\0').then(|| format!("`-{}`", option.short));
        let long = (!option.long.is_empty()).then(|| format!("`--{}`", option.long));
        let names: Vec<String> = short.into_iter().chain(long).collect();
        let effect = match (option.short, option.long) {
            ('C' | 'Z', _) => "see below".to_owned(),
            (_, "error-format") => "counts where there are messages".to_owned(),
            (_, "json") => "counts where there are messages; `artifacts` and `future-incompat` always, \
                 since rustc makes them part of a crate's hash"
                .to_owned(),
            _ => explanation(option.effect),
        };
        let _ = writeln!(page, "| {} | {effect} |", names.join(", "));
    }
    for (flag, table) in [("-C", CODEGEN), ("-Z", UNSTABLE)] {
        let _ = write!(page, "\n| `{flag}` | what it does to the key |\n| --- | --- |\n");
        for option in table {
            let _ = writeln!(page, "| `{}` | {} |", option.name, explanation(option.effect));
        }
    }
    page.push_str(REFUSALS);
}

fn explanation(effect: KeyEffect) -> String {
    match effect {
        KeyEffect::Refused(why) => format!("makes the call pass by: {why}"),
        _ => effect.explanation().to_owned(),
    }
}

const REFUSALS: &str = "
Some values make a call pass by, and the report says which and why:

- `target-cpu=native` and `tune-cpu=native` where the kernel does not describe the processor (on other systems
  than Linux) or another code generator is named.
- `split-debuginfo=unpacked` with debugging information, and several codegen units with `--emit asm` and its
  like: they leave a file for each codegen unit, and only the run shows how many there are. `save-temps`: its
  files have other names in every run.
- `linker-plugin-lto` with a plugin, where something is linked; `dlltool` for Windows: programs whose content
  is not known. `passes` and `llvm-args` other than those known to read and write no file.
- Words for the linker by which it writes a file besides (`-Map`, `--dependency-file`, `--reproduce`), and
  those by which a C compiler looks at the processor (`-march=native`).
- `--print` other than `native-static-libs` within a compile; outputs that come with others on the target
  (`.pdb`, `.dSYM`, import libraries).

Some bind a result to its place, since a path in its outputs could not be found there: `instrument-coverage`,
`debuginfo-compression`, `--compress-debug-sections` and `-gz` compress it, and `rpath` writes how to get from
what is linked to the toolchain.
";
