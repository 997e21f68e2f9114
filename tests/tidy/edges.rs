//! Which modules may not use which paths, with the reasons.
//!
//! `EDGES` lists uses that are forbidden between modules, `FORBIDDEN_WORDS` words that some modules may not
//! contain. `RESERVED` lists functions and types that only the named files may use, so that all other code
//! can be tested without them. `MANIFESTS` lists forbidden dependencies of crates.

use crate::paths::{is_below, named};
use crate::source::Source;
use crate::{Complaint, complain};

/// Files that may not use some paths.
struct Edge {
    /// Files, or directories with everything in them, without `.rs`.
    from: &'static [&'static str],
    /// Paths, each with everything below it.
    never: &'static [&'static str],
    /// Paths below `never` that are allowed.
    but: &'static [&'static str],
    why: &'static str,
}

/// Effects, which pure code may not use: it gets values as arguments.
const WORLD: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::os::unix::net",
    "std::thread",
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "tokio",
    "nix",
    "libc",
    "kache::os",
];

/// The stages after the digest of an action is known.
const AFTER_THE_DIGEST: &[&str] = &["src/lookup", "src/outputs", "src/restore", "src/publish", "src/remote"];

/// Everything that a compile passes through, in order.
const STAGES: &[&str] = &[
    "src/invocation",
    "src/inputs",
    "src/action",
    "src/lookup",
    "src/outputs",
    "src/restore",
    "src/compile",
    "src/publish",
];

const EDGES: &[Edge] = &[
    Edge {
        from: &["cas"],
        never: &["kache", "kache_bench", "kache_client", "kache_serve"],
        but: &[],
        why: "the store is a separate library, which knows only the wire messages",
    },
    Edge {
        from: &["cas/src"],
        never: &["std::net", "std::env", "std::process", "std::os::unix::net", "tokio", "hyper", "tonic"],
        but: &["std::process::id"],
        why: "limits, paths and clocks are arguments of the store; it has no network and no settings",
    },
    Edge {
        from: &["protos"],
        never: &["kache", "kache_cas", "kache_bench", "kache_serve"],
        but: &[],
        why: "messages do not know the programs that send them",
    },
    Edge {
        from: &["serve"],
        never: &["kache", "kache_bench", "kache_client", "rocksdb"],
        but: &[],
        why: "the server knows the store and the messages; settings and counters are its arguments",
    },
    Edge {
        from: &[
            "src/invocation",
            "src/compiler/rustc/invocation",
            "src/action",
            "src/explain",
            "src/daemon/core",
            "src/tui/state",
            "cas/src/evict/plan",
        ],
        never: WORLD,
        but: &[],
        why: "this is a function over values: files, environment, clock and network arrive as arguments",
    },
    Edge {
        from: &["src/action"],
        never: &["kache::config"],
        but: &[],
        why: "everything in a key is in `Inputs`; no setting is looked up",
    },
    Edge {
        from: AFTER_THE_DIGEST,
        never: &["kache::invocation"],
        but: &[],
        why: "after the digest is made, no code knows the command line",
    },
    Edge {
        from: STAGES,
        never: &["kache::compiler"],
        but: &[],
        why: "an adapter uses the stages and is not used by them: what they need of it are values and small traits",
    },
    Edge {
        from: &["src/pipeline", "src/builds", "src/events", "src/explain", "src/daemon", "src/cli"],
        never: &["kache::compiler::rustc"],
        but: &[],
        why: "the trait of compilers is all that the pipeline and its callers know of a compiler",
    },
    Edge {
        from: STAGES,
        never: &["kache::pipeline", "kache::builds", "kache::cli", "kache::daemon", "kache::tui"],
        but: &[],
        why: "a stage does not know its caller",
    },
    Edge {
        from: &["src/pipeline"],
        never: &[
            "kache::builds",
            "kache::cargo",
            "kache::seeds",
            "kache::cli",
            "kache::daemon",
            "kache::tui",
        ],
        but: &[],
        why: "the pipeline answers one call; what it tells the build of that call goes through `BuildHooks`",
    },
    Edge {
        from: &["src/builds"],
        never: &["kache::cli", "kache::daemon", "kache::tui"],
        but: &[],
        why: "the daemon says when a cargo has exited; build sessions do not know the daemon",
    },
    Edge {
        from: &["src/outputs"],
        never: &["kache::lookup", "kache::restore", "kache::publish"],
        but: &[],
        why: "restore and publish both stand on `outputs`, which knows neither",
    },
    Edge {
        from: &["src/publish"],
        never: &["kache::restore"],
        but: &[],
        why: "what publish and restore share is in `outputs`",
    },
    Edge {
        from: &["src/restore"],
        never: &["kache::publish"],
        but: &[],
        why: "what restore and publish share is in `outputs`",
    },
    Edge {
        from: &["remote"],
        never: &["kache", "kache_bench", "kache_client", "kache_serve", "rocksdb"],
        but: &[],
        why: "remotes are a separate library: its callers read settings, and the other side is any server",
    },
    Edge {
        from: &["remote"],
        never: &["kache_cas"],
        but: &[
            "kache_cas::Content",
            "kache_cas::Digest",
            "kache_cas::DigestFunction",
            "kache_cas::Hash",
            "kache_cas::digest",
        ],
        why: "a remote moves bytes by digest; it does not know the store",
    },
    Edge {
        from: &["remote"],
        never: &["std::env"],
        but: &[],
        why: "a daemon has another environment than its users, so variables are options of a remote (DMN-01)",
    },
    Edge {
        from: &["client", "src/bin/kache"],
        never: &["clap", "hyper", "kache", "kache_cas", "kache_serve", "rocksdb", "rustls", "tokio", "tonic"],
        but: &[],
        why: "the client starts 250 times in a build, and each start pays for what it links",
    },
    Edge {
        from: &["src/os", "client/src/os"],
        never: &[
            "kache::cli",
            "kache::config",
            "kache::daemon",
            "kache_client::control",
            "kache_client::connection",
            "kache_client::start",
        ],
        but: &[],
        why: "all modules may use the platform's calls, so these use no module",
    },
    Edge {
        from: &["src/config", "client/src/control"],
        never: &["kache::cli", "kache::daemon", "kache_cas", "kache_serve", "tokio", "hyper", "tonic"],
        // The values under `serve.` have the types of the server that they are for.
        but: &[
            "kache_serve::ListenAddress",
            "kache_serve::ListenOptions",
            "kache_serve::MetricsAddress",
            "kache_serve::TlsOptions",
        ],
        why: "the client reads settings and frames, too",
    },
    Edge {
        from: &["src/daemon"],
        never: &["kache::cli", "kache::tui", "kache_client::dispatch", "kache_client::main"],
        but: &[],
        why: "the daemon does not know the commands that send it requests",
    },
];

/// Files that may not contain some words, outside of their tests.
struct ForbiddenWords {
    /// Files, or directories with everything in them, without `.rs`.
    from: &'static [&'static str],
    /// The words in lower case; they are found in code, comments and texts, in any case.
    words: &'static [&'static str],
    why: &'static str,
}

const FORBIDDEN_WORDS: &[ForbiddenWords] = &[ForbiddenWords {
    from: &[
        "src/action/task",
        "src/action/message_format",
        "src/lookup",
        "src/restore",
        "src/publish",
        "src/events",
    ],
    words: &[
        "rustc",
        "cargo",
        "clippy",
        "crate_",
        "proc macro",
        "proc_macro",
        "build script",
        "build_script",
    ],
    why: "after the digest is made, no code knows which compiler or build tool ran",
}];

/// Something of the outside world and the only places that may name it.
struct Reserved {
    what: &'static [&'static str],
    /// Where the rule holds.
    within: &'static [&'static str],
    /// Files and directories that may use them.
    only_in: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        what: &["rocksdb"],
        within: &["src", "cas/src", "client/src", "protos/src", "bench/src", "remote/src", "serve/src"],
        only_in: &["cas/src/disk"],
        why: "only the store on disk knows the database",
    },
    Reserved {
        what: &["std::env::var", "std::env::var_os", "std::env::vars", "std::env::vars_os"],
        within: &["src", "cas/src", "client/src", "protos/src", "remote/src", "serve/src"],
        only_in: &["src/config/env_vars", "client", "src/bin"],
        why: "every variable is a documented constant in one file, and the daemon obeys its request, not the \
              environment of the process that started it (DMN-01)",
    },
    Reserved {
        what: &["std::env::current_dir"],
        within: &["src", "cas/src", "client/src", "protos/src", "remote/src", "serve/src"],
        only_in: &["client", "src/cli", "src/bin"],
        why: "the daemon has no directory of its own (DMN-01)",
    },
    Reserved {
        what: &["std::time::SystemTime::now", "std::time::Instant::now"],
        within: &["cas/src"],
        only_in: &["cas/src/clock", "cas/src/disk/layout", "cas/src/disk/verify"],
        why: "the store is handed a clock, so that three hours of leases take no three hours to test (a file's \
              times are compared with the system's, and a session is named for the moment it began)",
    },
    Reserved {
        what: &["std::process::exit"],
        within: &["src", "cas/src", "client/src", "protos/src", "bench/src", "remote/src", "serve/src"],
        only_in: &["src/bin"],
        why: "an exit in the middle runs no destructor: return an `ExitCode`",
    },
    Reserved {
        what: &[
            "std::sync::mpsc::channel",
            "tokio::sync::mpsc::unbounded_channel",
            "tokio::sync::mpsc::UnboundedSender",
        ],
        within: &["src", "cas/src", "client/src", "bench/src", "remote/src", "serve/src"],
        only_in: &[],
        why: "a queue has a named limit",
    },
    Reserved {
        what: &["std::fs::write"],
        within: &["src", "cas/src", "client/src", "remote/src", "serve/src"],
        only_in: &[],
        why: "it leaves half a file behind when it is interrupted: write elsewhere and rename",
    },
];

/// A crate and what its manifest may not name under `[dependencies]`.
struct Manifest {
    path: &'static str,
    never: &'static [&'static str],
    why: &'static str,
}

const MANIFESTS: &[Manifest] = &[
    Manifest {
        path: "cas/Cargo.toml",
        never: &["kache", "kache-bench", "tokio", "hyper", "tonic", "clap", "serde", "toml", "anyhow"],
        why: "the store knows no compiler, no network and no configuration file",
    },
    Manifest {
        path: "client/Cargo.toml",
        never: &[
            "kache",
            "kache-cas",
            "tokio",
            "hyper",
            "tonic",
            "clap",
            "rocksdb",
            "rustls",
            "toml",
            "serde",
        ],
        why: "the client starts 250 times in a build, and each start pays for what it links",
    },
    Manifest {
        path: "protos/Cargo.toml",
        never: &["kache", "kache-cas", "kache-bench", "tokio", "hyper"],
        why: "this crate knows encodings only",
    },
    Manifest {
        path: "serve/Cargo.toml",
        never: &["kache", "kache-bench", "kache-client", "clap", "rocksdb", "toml", "anyhow"],
        why: "the server knows the store and the messages, no settings and no compiler",
    },
    Manifest {
        path: "remote/Cargo.toml",
        never: &["kache", "kache-bench", "kache-client", "kache-serve", "clap", "rocksdb", "toml", "anyhow"],
        why: "remotes know digests and messages, no settings, no compiler and no server",
    },
    Manifest {
        path: "Cargo.toml",
        never: &["rocksdb", "axum", "openssl", "native-tls"],
        why: "the store opens the database; gRPC and HTTP share one connection; TLS is rustls",
    },
];

/// Complains of paths that this file uses and may not use.
pub(crate) fn check_directions(source: &Source) -> Vec<Complaint> {
    if source.is_test || !source.is_our_rust() {
        return Vec::new();
    }
    let edges = EDGES.iter().filter(|edge| lies_in(&source.path, edge.from));
    let reserved = RESERVED
        .iter()
        .filter(|one| lies_in(&source.path, one.within) && !lies_in(&source.path, one.only_in));
    let rows: Vec<_> = edges
        .map(|edge| (edge.never, edge.but, edge.why))
        .chain(reserved.map(|one| (one.what, &[] as &[&str], one.why)))
        .collect();
    let mut complaints = Vec::new();
    for name in named(source) {
        let hits = |list: &[&str]| list.iter().any(|above| is_below(&name.path, above));
        for (never, but, why) in &rows {
            if hits(never) && !hits(but) {
                complaints.push(complain(source, name.line, &format!("names `{}`: {why}", name.path)));
            }
        }
    }
    complaints.extend(check_words(source));
    complaints
}

/// Complains about forbidden words in a file.
fn check_words(source: &Source) -> Vec<Complaint> {
    let rows: Vec<_> = FORBIDDEN_WORDS.iter().filter(|row| lies_in(&source.path, row.from)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let text = source.text_without_tests().to_lowercase();
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for row in &rows {
            if let Some(word) = row.words.iter().find(|word| line.contains(*word)) {
                complaints.push(complain(source, index + 1, &format!("contains `{word}`: {}", row.why)));
            }
        }
    }
    complaints
}

/// Complains of forbidden dependencies in this manifest.
pub(crate) fn check_manifest(source: &Source) -> Vec<Complaint> {
    let Some(manifest) = MANIFESTS.iter().find(|manifest| manifest.path == source.path) else {
        return Vec::new();
    };
    let mut section = "";
    let mut complaints = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        if section == "[dependencies]" && manifest.never.contains(&name) {
            complaints.push(complain(source, index + 1, &format!("depends on `{name}`: {}", manifest.why)));
        }
    }
    complaints
}

fn lies_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.strip_prefix(place).is_some_and(|tail| tail.starts_with(['/', '.'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One forbidden sample for each row of `EDGES`, in its order.
    const SAMPLES: &[(&str, &str)] = &[
        ("cas/src/disk/index.rs", "use kache::config::Config;"),
        ("cas/src/disk/index.rs", "fn f() { std::env::var(\"X\"); }"),
        ("protos/src/lib.rs", "use kache_cas::Digest;"),
        ("serve/src/listen.rs", "use kache::config::Config;"),
        ("src/daemon/core.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        ("src/action/walk.rs", "use crate::{config::Config};"),
        ("src/restore/files.rs", "use crate::invocation::Call;"),
        ("src/action/compose.rs", "use crate::compiler::CompilerCall;"),
        ("src/pipeline/prepare.rs", "use crate::compiler::rustc::RustcCall;"),
        ("src/lookup/local.rs", "fn f() { super::super::pipeline::run(); }"),
        ("src/pipeline/hit.rs", "use crate::builds::Session;"),
        ("src/builds/seeding.rs", "use crate::daemon::Activity;"),
        ("src/outputs/dates.rs", "use crate::restore::RestoreError;"),
        ("src/publish/run.rs", "use crate::restore::restore;"),
        ("src/restore/run.rs", "use crate::publish::Refusal;"),
        ("remote/src/http.rs", "use kache_serve::ListenOptions;"),
        ("remote/src/http.rs", "use kache_cas::{Digest, Store};"),
        ("remote/src/s3.rs", "fn f() { std::env::var(\"X\"); }"),
        ("client/src/start.rs", "use ::tokio::net::UnixStream;"),
        ("src/os/unix.rs", "use crate::daemon;"),
        ("src/config/layers.rs", "use crate::cli::Args;"),
        ("src/daemon/driver.rs", "use crate::cli::report;"),
    ];

    #[test]
    fn every_forbidden_direction_is_found() {
        assert_eq!(SAMPLES.len(), EDGES.len());
        for ((path, text), edge) in SAMPLES.iter().zip(EDGES) {
            let found = check_directions(&Source::new(path, text));
            assert!(found.iter().any(|c| c.contains(edge.why)), "{path}: {text}: {found:?}");
        }
    }

    #[test]
    fn forbidden_words_are_found_in_code_comments_and_texts_but_not_in_tests() {
        for (text, expected) in [
            ("// Cargo looks at it.", 1),
            ("fn f(rustc: u8) {}", 1),
            ("const A: &str = \"a build script\";", 1),
            ("use crate::roles::Roots;", 0),
            ("#[cfg(test)] mod tests { const A: &str = \"rustc\"; }", 0),
        ] {
            let found = check_directions(&Source::new("src/lookup/find.rs", text));
            assert_eq!(found.len(), expected, "{text}: {found:?}");
        }
    }

    #[test]
    fn reserved_paths_are_found_outside_of_their_files() {
        for reserved in RESERVED {
            let text = format!("use {};", reserved.what[0]);
            for place in reserved.within {
                let found = check_directions(&Source::new(&format!("{place}/some/x.rs"), &text));
                let may_use = lies_in(&format!("{place}/some/x.rs"), reserved.only_in);
                assert_eq!(found.iter().any(|c| c.contains(reserved.why)), !may_use, "{text}: {found:?}");
            }
            for place in reserved.only_in {
                let found = check_directions(&Source::new(&format!("{place}/x.rs"), &text));
                assert!(!found.iter().any(|c| c.contains(reserved.why)), "{place}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        for (path, text) in [
            ("cas/src/store.rs", "use kache_proto::reapi::ActionResult; use std::fs::File;"),
            ("remote/src/http.rs", "use kache_cas::{Content, Digest};"),
            ("src/daemon/core.rs", "use std::time::{Duration, Instant};"),
            ("src/daemon/core.rs", "#[cfg(test)] mod tests { use std::fs; }"),
            ("tests/serve.rs", "fn f() { std::fs::write(); }"),
        ] {
            assert_eq!(check_directions(&Source::new(path, text)), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn a_manifest_that_depends_on_too_much_is_found() {
        for manifest in MANIFESTS {
            let text = format!("[dependencies]\n{}.workspace = true\n", manifest.never[0]);
            assert_eq!(check_manifest(&Source::new(manifest.path, &text)).len(), 1);
            let text = format!("[dev-dependencies]\n{}.workspace = true\n", manifest.never[0]);
            assert_eq!(check_manifest(&Source::new(manifest.path, &text)).len(), 0);
        }
    }
}
