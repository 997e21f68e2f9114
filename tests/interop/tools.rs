//! Where the programs under test are, and whether the tests of this directory run at all.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

#[path = "../support/skip.rs"]
mod skip;

/// Returns whether the environment says that these tests are skipped.
pub(crate) fn skipped() -> bool {
    skip::is_skipped("KACHE_INTEROP")
}

/// Like [`skipped`], but also skips tests of features that bazel-remote lacks when it runs in place of kache.
pub(crate) fn skipped_for_peer() -> bool {
    skipped() || server_is_peer()
}

/// Returns the path of a program. Fails if it is not installed, and says what installs it.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = directory().join(name);
    let recipe = match name {
        "bb_storage" => "buildbarn",
        "bgd" => "buildgrid",
        "buildbox-casd" => "casd",
        "moto_server" => "moto",
        other => other,
    };
    assert!(
        path.exists(),
        "`{}` is missing: run `sh tests/support/install/{recipe}.sh`, or, outside of CI, set KACHE_INTEROP=skip",
        path.display()
    );
    path
}

/// Returns whether bazel-remote runs in place of kache.
pub(crate) fn server_is_peer() -> bool {
    variable("KACHE_INTEROP_SERVER").is_some_and(|value| value == "bazel-remote")
}

/// Reads a variable of the environment; one that is empty counts as unset.
#[expect(
    clippy::disallowed_methods,
    reason = "it says where the recipes put the programs, nothing about a daemon"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The directory into which the recipes install programs (`$tools/bin`).
fn directory() -> PathBuf {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(variable("HOME").expect("HOME is set")).join(".cache");
    cache.unwrap_or_else(home).join("kache-build/tools/bin")
}

/// A directory of test data beside this file.
pub(crate) fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/projects").join(name)
}

#[test]
fn ci_fails_instead_of_skipping_tests() {
    let may_skip = |value: Option<&str>, ci: Option<&str>| {
        skip::may_skip("KACHE_INTEROP", value.map(OsStr::new), ci.map(OsStr::new))
    };
    for ci in [None, Some(""), Some("true")] {
        assert_eq!(may_skip(None, ci), Ok(false));
        assert_eq!(may_skip(Some("run"), ci), Ok(false));
    }
    assert_eq!(may_skip(Some("skip"), None), Ok(true));
    assert_eq!(may_skip(Some("skip"), Some("")), Ok(true));
    let error = may_skip(Some("skip"), Some("true")).unwrap_err();
    assert!(error.contains("Unset `KACHE_INTEROP`"), "{error}");
}
