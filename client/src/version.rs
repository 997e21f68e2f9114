//! The version of this program, and the order of versions.
//!
//! Pure. The newer program wins: a newer client makes an older daemon leave, and an older client
//! uses a newer daemon if both speak the same protocol, and no daemon if they do not.

/// The number of the control protocol. Raise it with every change that an older reader would
/// misread; adding an optional field is not one.
pub const PROTOCOL: u32 = 2;

/// The version of both programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns whether `left` is older than `right`. A text that is no version is older than every
/// version, so that a daemon with a garbled one is replaced.
pub fn is_older(left: &str, right: &str) -> bool {
    parse(left) < parse(right)
}

/// Parses `1.2.3` or `1.2.3-beta` into its numbers and whether it is a release; `None` for
/// everything else.
fn parse(version: &str) -> Option<([u64; 3], bool)> {
    let (version, _build) = version.split_once('+').unwrap_or((version, ""));
    let (numbers, is_release) = match version.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (version, true),
    };
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let triple = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some((triple, is_release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        for (older, newer) in [
            ("0.1.0", "0.1.1"),
            ("0.9.0", "0.10.0"),
            ("0.99.99", "1.0.0"),
            ("1.0.0-beta", "1.0.0"),
            ("1.0.0", "1.0.1-beta"),
            ("garbled", "0.0.0"),
            ("", "0.0.1"),
            ("1.0", "0.1.0"),
            ("1.0.0.0", "0.1.0"),
        ] {
            assert!(is_older(older, newer), "{older} < {newer}");
            assert!(!is_older(newer, older), "{newer} > {older}");
        }
    }

    #[test]
    fn equal_versions_are_not_older() {
        for version in ["0.1.0", "1.0.0-beta", "garbled"] {
            assert!(!is_older(version, version));
        }
        assert!(!is_older("1.0.0+a", "1.0.0+b"), "build metadata does not count");
    }

    #[test]
    fn this_programs_version_is_a_version() {
        assert!(is_older("0.0.0", VERSION));
    }
}
