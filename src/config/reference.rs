//! The reference page, `docs/configuration.md`: written from the same tables that the
//! program uses. `kache config docs` prints it; a test compares.

use std::fmt::Write as _;

use super::env_vars::ALL;
use super::key::{Audience, Key, Scope};
use super::show::DEFAULT_FILE;

const INTRODUCTION: &str = r#"# Configuration

<!-- This page is printed by `kache config docs`. A test fails when it is out of date. -->

kache needs no configuration. What it is told comes from four places; the first that sets a
key wins:

1. environment variables;
2. the nearest `.kache.toml`, in the current directory or above;
3. the user's file: `$XDG_CONFIG_HOME/kache/config.toml`, mostly `~/.config/kache/config.toml`,
   or the file that `KACHE_CONFIG` names;
4. the defaults, which are compiled in.

`kache config list` shows every key with its value and where that came from, `kache config get
KEY` one value, and `kache config default` the commented defaults below. A misspelt key, a value
of the wrong type, a bad size, time or address is an error that names the file, line and column.

Lists and `cache.key_salt` add up instead: what all places say holds together. They can only make
kache more careful, and so a project cannot take back what you exclude or make count.

A compiler call is judged by its own environment, its own directory and the files of that moment,
never by what the daemon was started with. A call that meets a mistake in any of them runs its
compiler uncached, and `kache doctor` names the mistake. The keys that are for the daemon are
handed to it when it is started, as a whole; `kache daemon restart` makes it take new ones.

## A project's file

A `.kache.toml` comes with a checkout. It may say what of the project is cached and what counts
for it: that costs nobody else anything. It cannot open ports, move logs, have another program run
(`cache.fallback`), have your files removed (`cache.clean_incremental`), spend your processor
(`cache.verify_sample`), write to your terminal (`log.progress`), or shrink a store that other
projects share. It may set `cache.dir`, and the limits of that store with it. It is only read if
it belongs to you or to root.

Globs in it count from its directory. In a variable and in your own file, which hold for all
projects, a relative glob counts from any directory.

## A package's declarations

A `kache.toml` (without a dot) beside a package's `Cargo.toml` names what its compiles depend on
though no compiler reports it: files that a procedural macro reads, variables that it asks for.

```toml
extra_inputs = ["migrations/**/*.sql", "../schema.json"]
key_env_vars = ["DATABASE_URL"]
```

Globs are relative to the file. `*` and `?` stand for anything but a `/`, `[a-z]` for one
character of some, `**` for any directories, and `dir/` for everything below it. Declarations only
ever add to what counts. A file with a mistake makes the package uncacheable.
"#;

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Keys\n\n| key | variable | in `.kache.toml` | adds up | for |\n| --- | --- | --- | --- | --- |\n");
    for key in Key::ALL {
        let scope = match key.scope() {
            Scope::Project => "yes",
            Scope::ProjectWithDir => "with `cache.dir`",
            Scope::User => "no",
        };
        let adds_up = if key.is_additive() { "yes" } else { "" };
        let audience = match key.audience() {
            Audience::Daemon => "daemon",
            Audience::Call => "call",
        };
        let (name, variable) = (key.name(), key.variable().name);
        let _ = writeln!(page, "| `{name}` | `{variable}` | {scope} | {adds_up} | {audience} |");
    }
    page.push_str("\n## Environment variables\n\nOne that is empty counts as not set.\n\n| variable | meaning |\n| --- | --- |\n");
    for variable in ALL {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, variable.doc.trim());
    }
    let _ = write!(page, "\n## Defaults\n\n```toml\n{DEFAULT_FILE}```\n");
    page
}
