//! Where the programs under test are, and whether they are to be tested at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Whether somebody asked that these tests be skipped. It is said, so that a log shows it.
pub(crate) fn skipped() -> bool {
    let skip = variable("KACHE_INTEROP").is_some_and(|value| value == "skip");
    if skip {
        eprintln!("skipped: KACHE_INTEROP=skip");
    }
    skip
}

/// The same, and skips what the server that stands in for kache is not made for.
pub(crate) fn skipped_for_peer() -> bool {
    skipped() || server_is_peer()
}

/// The program's path, or a failure which says what installs it.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = directory().join(name);
    let recipe = match name {
        "buildbox-casd" => "casd",
        other => other,
    };
    assert!(
        path.exists(),
        "`{}` is missing: run `sh tests/support/install/{recipe}.sh`, or set KACHE_INTEROP=skip",
        path.display()
    );
    path
}

/// Whether bazel-remote stands in for kache.
pub(crate) fn server_is_peer() -> bool {
    variable("KACHE_INTEROP_SERVER").is_some_and(|value| value == "bazel-remote")
}

/// The one place where these tests look at the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "it says where the recipes put the programs, nothing about a daemon"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What the recipes call `$tools/bin`.
fn directory() -> PathBuf {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(variable("HOME").expect("HOME is set")).join(".cache");
    cache.unwrap_or_else(home).join("kache-build/tools/bin")
}

/// A directory of test data beside this file.
pub(crate) fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/projects").join(name)
}
