//! Prints the tables of rustc's options for the page `docs/cache-key.md`.

use std::fmt::Write as _;

use super::options::{CODEGEN, KeyEffect, OPTIONS};
use super::unstable::UNSTABLE;

/// Returns the chapter of `docs/cache-key.md` about the options of rustc.
pub fn option_tables() -> String {
    let mut page = String::new();
    page.push_str("\n## rustc's options\n\nA call with an option that is not listed is a bypass; the report names the option.\n\n");
    page.push_str("| option | effect on the key |\n| --- | --- |\n");
    for option in OPTIONS {
        let short = (option.short != '\0').then(|| format!("`-{}`", option.short));
        let long = (!option.long.is_empty()).then(|| format!("`--{}`", option.long));
        let names: Vec<String> = short.into_iter().chain(long).collect();
        let effect = match (option.short, option.long) {
            ('C' | 'Z', _) => "see below".to_owned(),
            (_, "error-format") => "counts if there are messages".to_owned(),
            (_, "json") => "counts if there are messages; `artifacts` and `future-incompat` always count, \
                 since rustc makes them part of a crate's hash"
                .to_owned(),
            _ => explanation(option.effect),
        };
        let _ = writeln!(page, "| {} | {effect} |", names.join(", "));
    }
    for (flag, table) in [("-C", CODEGEN), ("-Z", UNSTABLE)] {
        let _ = write!(page, "\n| `{flag}` | effect on the key |\n| --- | --- |\n");
        for option in table {
            let _ = writeln!(page, "| `{}` | {} |", option.name, explanation(option.effect));
        }
    }
    page.push_str(REFUSALS);
    page
}

fn explanation(effect: KeyEffect) -> String {
    match effect {
        KeyEffect::Refused(why) => format!("the call is a bypass: {why}"),
        _ => effect.explanation().to_owned(),
    }
}

const REFUSALS: &str = "
Some values make a call a bypass. The report names the value and the reason:

- `target-cpu=native` and `tune-cpu=native`, if the kernel does not describe the processor (on every system
  except Linux) or if another code generator is named.
- `split-debuginfo=unpacked` with debugging information, and several codegen units with `--emit asm` and
  similar kinds: rustc writes a file for each codegen unit, and only the run shows how many there are.
  `save-temps`: its files have different names in every run.
- `linker-plugin-lto` with a plugin, if something is linked, and `dlltool` for Windows: they name programs
  whose content is not known. `passes` and `llvm-args`, except those that are known to read and write no file.
- Linker arguments that make the linker write another file (`-Map`, `--dependency-file`, `--reproduce`), and
  arguments that let a C compiler look at the processor (`-march=native`).
- `--print` within a compile, except `native-static-libs`; outputs that come with other files on the target
  (`.pdb`, `.dSYM`, import libraries).

Some values bind a result to the paths of its roots, because a search of the outputs could not find a path
there. `instrument-coverage`, `debuginfo-compression`, `--compress-debug-sections` and `-gz` compress paths.
`rpath` writes the relative path from the linked output to the toolchain.
";
