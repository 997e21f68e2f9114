//! Tests that a developer may skip where the machine lacks what they need, but CI may not.
//!
//! The variable of such tests has the value `skip`. If the variable `CI` is set too, these tests fail: a
//! run of CI that skips them would be green without having tested anything.

use std::env;
use std::ffi::{OsStr, OsString};

/// Returns whether `variable` says that these tests are skipped, and prints it, so that a log shows it.
/// Fails the test if this happens in CI.
pub(crate) fn is_skipped(variable: &str) -> bool {
    let ci = value_of("CI");
    let is_skipped = may_skip(variable, value_of(variable).as_deref(), ci.as_deref());
    let is_skipped = is_skipped.unwrap_or_else(|error| panic!("{error}"));
    if is_skipped {
        eprintln!("skipped: {variable}=skip");
    }
    is_skipped
}

/// Decides by the values of the two variables. An error is the message of the test that fails.
pub(crate) fn may_skip(variable: &str, value: Option<&OsStr>, ci: Option<&OsStr>) -> Result<bool, String> {
    // `./x` takes an empty `CI` for one that is not set, too.
    let is_ci = ci.is_some_and(|value| !value.is_empty());
    match value.is_some_and(|value| value == "skip") {
        true if is_ci => Err(format!(
            "`{variable}=skip` is set, but so is `CI`: CI must run these tests. Unset `{variable}`, and provide what \
             the tests need (`./x test` installs it; mounting needs root)"
        )),
        is_skipped => Ok(is_skipped),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the developer decides which tests run, not the environment of a daemon"
)]
fn value_of(variable: &str) -> Option<OsString> {
    env::var_os(variable)
}
