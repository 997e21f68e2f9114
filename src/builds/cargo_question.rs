//! The questions that cargo asks the compiler before it builds, recognised by their arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use crate::invocation::Call;

/// The largest number of programs at the beginning of a command line.
const PROGRAMS_MAX: usize = 2;

/// The crate name that cargo uses when it asks for properties and compiles nothing.
const NO_CRATE: &str = "___";

/// A question that cargo asks the compiler before it builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CargoQuestion {
    /// Cargo asks for the compiler's version.
    Version,
    /// Cargo asks for the compiler's directories and for the properties of the target platform.
    Properties,
}

impl CargoQuestion {
    /// The question that this call asks; `None` if it is a compile or anything else.
    pub(super) fn of(call: &Call) -> Option<CargoQuestion> {
        let is_option = |word: &OsString| word.as_bytes().starts_with(b"-");
        // `rustc …`, or `clippy-driver rustc …`.
        let programs = call.argv.iter().take(PROGRAMS_MAX).take_while(|word| !is_option(word)).count();
        match &call.argv[programs..] {
            [only] if only == "-vV" => Some(CargoQuestion::Version),
            [first, rest @ ..] if first == "-" && rest.iter().any(|word| word == NO_CRATE) => {
                Some(CargoQuestion::Properties)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str]) -> Call {
        Call { argv: words.iter().map(OsString::from).collect(), ..Call::default() }
    }

    #[test]
    fn questions_are_recognised_by_their_arguments() {
        for (words, expected) in [
            (&["rustc", "-vV"][..], Some(CargoQuestion::Version)),
            (&["/x/clippy-driver", "/x/rustc", "-vV"], Some(CargoQuestion::Version)),
            (&["rustc", "-", "--crate-name", "___", "--print=cfg"], Some(CargoQuestion::Properties)),
            (&["rustc", "-", "--crate-name", "probe"], None),
            (&["rustc", "-vV", "--target=x"], None),
            (&["rustc", "--crate-name", "___", "src/lib.rs"], None),
            (&["rustc"], None),
            (&[], None),
        ] {
            assert_eq!(CargoQuestion::of(&call(words)), expected, "{words:?}");
        }
    }
}
