//! All variables of a call, for programs that read all of them at once (KEY-23).
//!
//! A shell imports its whole environment and asks for no variable by name. Such a program may have
//! used the value of every variable, and may have noticed that no other variable is set. So all of
//! them count, except those that differ from call to call: with those there would never be a hit.

use kache_cas::{Digest, DigestFunction};

/// The variables of a call.
pub trait CallEnv {
    /// The value of a variable; `None` where it is not set.
    fn value(&self, name: &str) -> Option<Vec<u8>>;

    /// The names of all variables that are set.
    fn names(&self) -> Vec<Vec<u8>>;
}

impl CallEnv for crate::invocation::Environment {
    fn value(&self, name: &str) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt as _;
        self.get(name).map(|value| value.as_bytes().to_vec())
    }

    fn names(&self) -> Vec<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt as _;
        self.iter().map(|(name, _)| name.as_bytes().to_vec()).collect()
    }
}

#[cfg(test)]
impl CallEnv for std::collections::BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<Vec<u8>> {
        self.get(name).map(|value| value.clone().into_bytes())
    }

    fn names(&self) -> Vec<Vec<u8>> {
        self.keys().map(|name| name.clone().into_bytes()).collect()
    }
}

/// Variables of cargo and rustc that hold no secret: those that cargo sets for the packages that it compiles,
/// and those that change what the compiler does.
const SHARED: &[&str] = &[
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "CARGO_TARGET_TMPDIR",
    "MACOSX_DEPLOYMENT_TARGET",
    "OUT_DIR",
    "RUSTC_BOOTSTRAP",
    "SDKROOT",
    "SOURCE_DATE_EPOCH",
];

/// The beginnings of the names of further such variables.
const SHARED_PREFIXES: &[&str] = &["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_"];

/// Whether a variable holds no secret, whatever words are in its name. Reports show its value, and so does
/// everything that is uploaded to a remote; the keys of shared actions have salted hashes of all other values.
pub fn is_shared_variable(name: &str) -> bool {
    SHARED.contains(&name) || SHARED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Variables that differ from call to call, from terminal to terminal or from shell to shell.
const OF_THE_CALL: &[&str] = &[
    "COLORTERM",
    "COLUMNS",
    "LD_LIBRARY_PATH",
    "LINES",
    "LLVM_PROFILE_FILE",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "TEMP",
    "TERM",
    "TMP",
    "TMPDIR",
    "_",
];

/// Variables with the jobserver's file descriptors, which cargo sets for every process that it starts,
/// and those that the observer adds. Their values differ from build to build.
const OF_THE_BUILD: &[&str] = &["CARGO_MAKEFLAGS", "LD_PRELOAD", "MAKEFLAGS", "MFLAGS", "__KACHE_RECORD"];

/// Whether a variable differs from call to call, and therefore never counts by its value.
pub fn is_of_the_call(name: &str) -> bool {
    OF_THE_CALL.contains(&name) || name.starts_with("KACHE_")
}

/// Whether a variable counts for a program that reads all variables.
pub fn is_imported(name: &[u8]) -> bool {
    std::str::from_utf8(name).map_or(true, |name| !is_of_the_call(name) && !OF_THE_BUILD.contains(&name))
}

/// The digest of the sorted names of all variables that are set and count.
pub fn names_digest(env: &dyn CallEnv, function: DigestFunction) -> Digest {
    let mut names = env.names();
    names.retain(|name| is_imported(name));
    names.sort_unstable();
    // A name cannot contain a zero byte, so two lists never give the same bytes.
    Digest::of(function, &names.join(&0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Environment;

    fn digest(names: &[&str]) -> Digest {
        let env: Environment = names.iter().map(|name| (*name, "value")).collect();
        names_digest(&env, DigestFunction::Blake3)
    }

    #[test]
    fn key_23_a_new_variable_counts_if_all_variables_do() {
        assert_eq!(digest(&["A", "B"]), digest(&["B", "A"]));
        assert_ne!(digest(&["A"]), digest(&["A", "B"]));
        assert_ne!(digest(&["A"]), digest(&[]));
        assert_ne!(digest(&["A", "B"]), digest(&["AB"]));
        // Variables that differ from call to call do not describe the project.
        assert_eq!(
            digest(&["A"]),
            digest(&["A", "PWD", "SHLVL", "CARGO_MAKEFLAGS", "KACHE_LOG", "LD_PRELOAD"])
        );
    }
}
