//! The names of variables that crates of a project may read while it is compiled.
//!
//! No system call shows such reads, so the names are searched in the crates' sources. Variables that change how
//! cargo or the compiler itself works are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The text before the name of a variable that a source reads.
const READS: &[&str] = &[
    "env::var(\"",
    "env::var_os(\"",
    "option_env!(\"",
    "var(\"",
    "var_os(\"",
    "env(\"",
    "tracked_env::var(\"",
];

/// Prefixes of variables that belong to cargo, the compiler, the linker or the system.
const LEFT_OUT: &[&str] = &[
    "CARGO",
    "RUST",
    "OUT_DIR",
    "PATH",
    "HOME",
    "USER",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "DEP_",
    "LD_",
    "TMP",
    "TEMP",
    "KACHE",
    "CC",
    "CXX",
    "AR",
    "CFLAGS",
    "CXXFLAGS",
    "DOCS_RS",
    "RAYON",
    "TOKIO",
    "TERM",
];

/// The names of variables in all sources below these directories.
pub(crate) fn names(directories: &[PathBuf]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for directory in directories {
        add(directory, &mut names);
    }
    names.into_iter().collect()
}

fn add(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            add(&path, names);
        } else if path.extension().is_some_and(|end| end == "rs")
            && let Ok(source) = fs::read_to_string(&path)
        {
            names.extend(names_in(&source));
        }
    }
}

fn names_in(source: &str) -> impl Iterator<Item = String> {
    let after = |read: &'static str| source.split(read).skip(1);
    let names = READS.iter().flat_map(move |read| after(read)).filter_map(|rest| rest.split('"').next());
    let is_name =
        |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_ours = |name: &&str| !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix));
    names.filter(is_name).filter(is_ours).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_sources() {
        let source = r#"std::env::var("DATABASE_URL"); env::var("CARGO_PKG_NAME"); option_env!("SQLX_OFFLINE")
            env::var(name); vars.get("OTHER"); env::var("lower")"#;
        let names: BTreeSet<_> = names_in(source).collect();
        assert_eq!(names, ["DATABASE_URL", "SQLX_OFFLINE"].map(str::to_owned).into());
    }
}
