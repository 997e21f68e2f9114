//! The reference page, `docs/configuration.md`: written from the same tables that the
//! program uses. `kache config docs` prints it; a test compares.

use std::fmt::Write as _;

use super::env_vars::ALL;
use super::key::{Key, Scope};
use super::show::DEFAULT_FILE;

const INTRODUCTION: &str = "\
# Configuration

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

A `.kache.toml` comes with a checkout, so it cannot open ports, move logs, or shrink a store that
other projects share. It may set `cache.dir`, and the limits of that store with it. It is only
read if it belongs to you or to root.

The daemon is handed its settings when it is started, as a whole. `kache daemon restart` makes it
take new ones.
";

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Keys\n\n| key | variable | in `.kache.toml` |\n| --- | --- | --- |\n");
    for key in Key::ALL {
        let scope = match key.scope() {
            Scope::Project => "yes",
            Scope::ProjectWithDir => "with `cache.dir`",
            Scope::User => "no",
        };
        let _ = writeln!(page, "| `{}` | `{}` | {scope} |", key.name(), key.variable().name);
    }
    page.push_str("\n## Environment variables\n\nOne that is empty counts as not set.\n\n| variable | meaning |\n| --- | --- |\n");
    for variable in ALL {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, variable.doc.trim());
    }
    let _ = write!(page, "\n## Defaults\n\n```toml\n{DEFAULT_FILE}```\n");
    page
}
