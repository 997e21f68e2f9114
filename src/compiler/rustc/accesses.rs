//! The accesses of rustc itself that become no observations, beside those of every compiler.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::observer::NoteOutcome;
use crate::publish::{AccessRules, ExclusionRule, NotedAccess};

/// The rules of rustc. `docs/observed.md` has them in its table.
pub(crate) const ACCESS_RULES: &AccessRules = &AccessRules { excluded: EXCLUDED, linker_dir: "lib/rustlib" };

/// Variables that rustc itself reads in every compile. A note of one of them says nothing about macros,
/// unless a library read it that was loaded later.
const RUSTC_VARIABLES: &[&str] = &[
    "CARGO_MAKEFLAGS",
    "CI",
    "LLVM_IGNORED_ENV_VAR",
    "LLVM_OVERRIDE_PRODUCER",
    "MAKEFLAGS",
    "MALLOC_CONF",
    "MFLAGS",
    "PATH",
    "QNX_TARGET",
    "RUSTC_BOOTSTRAP",
    "RUSTC_CTFE_BACKTRACE",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUSTC_GRAPHVIZ_FONT",
    "RUSTC_ICE",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "RUST_MIN_STACK",
    "RUST_TARGET_PATH",
    "VCINSTALLDIR",
];

const EXCLUDED: &[ExclusionRule] = &[
    ExclusionRule {
        what: "directories in which the compiler looks for crates, and the crates in them",
        applies: |access, compile| compile.library_dirs.iter().any(|dir| is_crate_of(access, dir)),
        why: "the metadata of a dependency names its own dependencies by hash, and the libraries that a linker reads are inputs",
    },
    ExclusionRule {
        what: "profiles of macros that were compiled with `-C instrument-coverage`",
        applies: |access, _| {
            access.is_written() && access.path.extension().is_some_and(|ending| ending == "profraw")
        },
        why: "they describe this run, and no output depends on them",
    },
    ExclusionRule {
        what: "sources of the standard library under the path that they had where it was built",
        applies: |access, _| access.outcome == NoteOutcome::Absent && is_recorded_std_source(&access.path),
        why: "rustc looks for them in order to show them in messages, and no such file exists on this machine",
    },
    ExclusionRule {
        what: "variables that rustc itself reads",
        applies: |access, _| {
            !access.is_from_late_library
                && (access.is_variable_of(RUSTC_VARIABLES) || access.name.starts_with("RUSTC_LOG"))
        },
        why: "those on which an output depends are in the key; one that a proc macro reads counts",
    },
    ExclusionRule {
        what: "the variable in which cargo names its job server",
        applies: |access, _| access.is_variable_of(&["CARGO_MAKEFLAGS"]),
        why: "it differs from call to call",
    },
];

/// Whether a path is the one that rustc records for a source of the standard library:
/// `/rustc/<commit>/library/…`.
fn is_recorded_std_source(path: &Path) -> bool {
    const COMMIT_LEN: usize = 40;
    let mut parts = path.strip_prefix("/rustc").into_iter().flat_map(Path::components);
    let commit = parts.next().map(|part| part.as_os_str().as_bytes());
    commit.is_some_and(|name| name.len() == COMMIT_LEN && name.iter().all(u8::is_ascii_hexdigit))
}

fn is_crate_of(access: &NotedAccess<'_>, dir: &Path) -> bool {
    let is_crate = || {
        let ending = access.path.extension().and_then(OsStr::to_str);
        matches!(ending, Some("rlib" | "rmeta" | "so"))
            && access.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"lib"))
    };
    access.path == dir || access.path.parent() == Some(dir) && is_crate()
}
