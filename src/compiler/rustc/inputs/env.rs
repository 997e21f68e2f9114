//! The variables that count even if the compiler does not report that it read them (KEY-13).
//!
//! A variable that is neither listed here nor reported in the dep-info does not count: `PATH`, `MAKEFLAGS`,
//! job counts, and variables by which cargo talks to itself. In the values, stand-ins replace the paths of
//! roots, so that the values are the same in every checkout (KEY-17). If such a path gets into an output all
//! the same, the search of the outputs finds it there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::compiler::rustc::invocation::{DriverKind, RustcInvocation};
use crate::inputs::Variables;
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Form, Roots};

/// Variables that rustc reads in every compile.
const OF_RUSTC: &[&str] = &[
    "LLVM_OVERRIDE_PRODUCER",
    "RUSTC_BOOTSTRAP",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUSTC_LOG",
    "RUST_TARGET_PATH",
    "SOURCE_DATE_EPOCH",
];

/// Variables that rustc reads for targets of Apple.
const OF_APPLE: &[&str] = &[
    "IPHONEOS_DEPLOYMENT_TARGET",
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
    "TVOS_DEPLOYMENT_TARGET",
    "WATCHOS_DEPLOYMENT_TARGET",
    "XROS_DEPLOYMENT_TARGET",
];

/// Variables that only clippy reads.
const OF_CLIPPY: &[&str] =
    &["CARGO_PRIMARY_PACKAGE", "CLIPPY_ARGS", "CLIPPY_CONF_DIR", "CLIPPY_DISABLE_DOCS_LINKS", "SYSROOT"];

/// Variables that a compiler driver and a linker read.
const OF_LINKERS: &[&str] =
    &["COMPILER_PATH", "GCC_EXEC_PREFIX", "LD_RUN_PATH", "LIBRARY_PATH", "LPATH", "ZERO_AR_DATE"];

/// Variables in which cargo describes a package; a proc macro may read them.
const OF_PACKAGES: &[&str] = &["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_TARGET_TMPDIR", "OUT_DIR"];

/// The beginnings of the names of further such variables.
const OF_PACKAGES_PREFIXES: &[&str] = &["CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The largest part of a build script's output that is read, in bytes.
const SCRIPT_OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Returns the variables that count for this call, sorted by name. It reads the output of the package's
/// build script.
pub(super) fn keyed(
    rustc: &RustcInvocation,
    call: &Call,
    roots: &Roots,
    declared: &[String],
    is_linked: bool,
) -> Result<Variables, Bypass> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut always = |list: &[&str]| names.extend(list.iter().map(|&name| name.to_owned()));
    always(OF_RUSTC);
    always(OF_APPLE);
    if rustc.driver_kind == DriverKind::Clippy {
        always(OF_CLIPPY);
    }
    if is_linked {
        always(OF_LINKERS);
    }
    // A library may re-export a proc macro of another crate, so every crate that uses any other crate may
    // run one.
    if rustc.externs.iter().any(|one| one.path.is_some()) {
        always(OF_PACKAGES);
        let set = call.env.iter().filter_map(|(name, _)| name.to_str());
        let of_package = |name: &&str| OF_PACKAGES_PREFIXES.iter().any(|start| name.starts_with(start));
        names.extend(set.filter(of_package).map(str::to_owned));
        names.extend(of_build_script(call)?);
    }
    let with_stand_ins = |value: &OsStr| {
        let general = roots.generalise(value.as_bytes(), Form::Value);
        let why = || format!("the value of a variable contains a stand-in: {}", value.display());
        general.ok_or_else(|| Bypass::new(Reason::UnknownInput, why()))
    };
    let mut keyed: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    for name in names {
        if let Some(value) = call.env.get(&name) {
            keyed.insert(name, Some(with_stand_ins(value)?));
        }
    }
    // A declared variable counts even if it is not set.
    for name in declared {
        keyed.insert(name.clone(), call.env.get(name).map(with_stand_ins).transpose()?);
    }
    Ok(keyed.into_iter().collect())
}

/// Whether the value of this variable, or that it is not set, is already in the query. If so, a program that
/// reads the variable needs no observation of it.
pub fn is_keyed(name: &str, keyed: &Variables, runs_macros: bool) -> bool {
    let is_of_package =
        || OF_PACKAGES.contains(&name) || OF_PACKAGES_PREFIXES.iter().any(|start| name.starts_with(start));
    OF_RUSTC.contains(&name)
        || OF_APPLE.contains(&name)
        || runs_macros && is_of_package()
        || keyed.iter().any(|(one, _)| one == name)
}

/// Returns the names of the variables that the package's build script has set. Cargo keeps the output of the
/// script in a file beside `OUT_DIR`.
fn of_build_script(call: &Call) -> Result<Vec<String>, Bypass> {
    let Some(out_dir) = call.env.get("OUT_DIR") else { return Ok(Vec::new()) };
    let output = call.cwd.join(out_dir).with_file_name("output");
    let content = match read_bounded(&output) {
        Ok(content) => content,
        Err(error) if crate::inputs::is_absence(&error) => return Ok(Vec::new()),
        Err(error) => {
            let why = format!("`{}`: {error}", output.display());
            return Err(Bypass::new(Reason::UnknownInput, why));
        }
    };
    let content = String::from_utf8_lossy(&content);
    let names = content.lines().filter_map(|line| {
        let line = line.strip_prefix("cargo::").or_else(|| line.strip_prefix("cargo:"))?;
        line.strip_prefix("rustc-env=")?.split_once('=').map(|(name, _)| name.to_owned())
    });
    Ok(names.collect())
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SCRIPT_OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
