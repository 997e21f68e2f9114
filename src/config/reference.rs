//! The reference page `docs/configuration.md`, generated from the tables that the program uses.
//! `kache config docs` prints it, and a test compares it with the committed file.

use std::fmt::Write as _;

use super::env_vars::ALL;
use super::key::{Audience, Key, Scope};
use super::remotes;
use super::show::DEFAULT_FILE;

const INTRODUCTION: &str = r#"# Configuration

<!-- This page is printed by `kache config docs`. A test fails when it is out of date. -->

kache needs no configuration. Values come from four layers; the first layer that sets a key wins:

1. environment variables;
2. the project's file: the nearest `.kache.toml` in the current directory or above;
3. the user's file: `$XDG_CONFIG_HOME/kache/config.toml`, by default
   `~/.config/kache/config.toml`, or the file that `KACHE_CONFIG` names;
4. the defaults, which are compiled in.

Lists and `cache.key_salt` add up instead: the values of all layers apply together. Such keys can
only make kache cache less or key on more, so a project cannot undo what you exclude or add to keys.

`kache config list` shows every key with its value and origin, `kache config get KEY` shows one
value (`remote.url` those of all remotes, `cache.remote.bucket` that of `[cache.remote]`), and `kache config default` prints the commented defaults below. A misspelt key or an invalid
value is an error that names the file, line and column.

Each compiler call reads the configuration anew, from its own environment and directory, not from
those of the daemon. If there is a mistake in it, the compiler runs without the cache, and `kache
doctor` names the mistake. The daemon gets its keys when it is started; `kache daemon restart`
starts it with the current ones.

## A project's file

A `.kache.toml` comes with a checkout. It may decide which of the project's crates are cached and
what enters their keys, because that affects no other project. It may set `cache.dir`, and then also
the limits of that store. It cannot

- open ports or move logs,
- run another program (`cache.fallback`),
- remove your files (`cache.clean_incremental`),
- use your processor in the background (`cache.verify_sample`),
- write to your terminal (`log.progress`),
- name a remote, or send a remote a header or a credential,
- shrink a store that other projects share.

kache reads the file only if it belongs to you or to root.

Globs in the file are relative to its directory. In a variable and in your own file, which apply to
all projects, a relative glob matches in any directory.

## A package's declarations

A `kache.toml` (without a dot) beside a package's `Cargo.toml` declares inputs that no compiler
reports: files and variables that a procedural macro reads.

```toml
extra_inputs = ["migrations/**/*.sql", "../schema.json"]
key_env_vars = ["DATABASE_URL"]
```

Globs are relative to the file. `*` matches any number of characters except `/`, `?` one such
character, `[a-z]` one character of a range, `**` any number of directories, and `dir/` everything
below `dir`. Declarations can only add to keys. If there is a mistake in the file, the package is not
cached.
"#;

const REMOTES: &str = r#"
## Remotes

A remote is a cache on other machines: a server of the Remote Execution API, a server of Bazel's HTTP
cache protocol, a bucket of S3, or a shared folder. `KACHE_REMOTE` names one. In your own file a
remote is a table `[[remote]]`; several are asked in their order. One remote may also be written as
`[cache.remote]`.

```toml
[[remote]]
url = "grpcs://cache.example.com"
headers = { x-api-key = "..." }
writes_if = "CI"

[[remote]]
url = "file:///mnt/cache"
access = "read"
```

`KACHE_REMOTE` replaces the remotes of the file. The other variables change the first remote only, so
that a credential in a variable goes to one server; `KACHE_REMOTE_READONLY` and `KACHE_LOCAL_ONLY`
concern all of them. The `KACHE_S3_` variables change `[cache.remote]`, and an `s3://` remote
that comes first. A remote whose settings cannot be understood is not used, and `kache doctor` says
why; builds go on without it. No command shows a password, a token or the value of a header.

A token, a password or a header goes to another machine only with TLS, unless
`allow_cleartext_credentials` is set.

| key | meaning | example |
| --- | --- | --- |
"#;

/// Returns the page as it must be committed.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Keys\n\n| key | variable | in `.kache.toml` | adds up | read by |\n| --- | --- | --- | --- | --- |\n");
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
    page.push_str(REMOTES);
    for key in remotes::KEYS {
        let _ = writeln!(page, "| `{}` | {} | `{}` |", key.name, key.doc, key.example);
    }
    page.push_str("\n## Environment variables\n\nA variable with an empty value counts as not set.\n\n| variable | meaning |\n| --- | --- |\n");
    for variable in ALL {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, variable.doc.trim());
    }
    let _ = write!(page, "\n## Defaults\n\n```toml\n{DEFAULT_FILE}```\n");
    page
}
