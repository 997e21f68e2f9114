//! Variables that count whatever the compiler reports of them (KEY-13).
//!
//! What is not listed here, and not reported in the dep-info, does not count: `PATH`,
//! `MAKEFLAGS`, job counts, and cargo's own bookkeeping. Values are kept with stand-ins for
//! the roots that they name, so that they are the same in every checkout (KEY-17); an output
//! that holds such a path all the same is found by its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::types::Variables;
use crate::invocation::rustc::{DriverKind, RustcInvocation};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Form, Roots};

/// What rustc reads in every compile.
const OF_RUSTC: &[&str] = &[
    "LLVM_OVERRIDE_PRODUCER",
    "RUSTC_BOOTSTRAP",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUSTC_LOG",
    "RUST_TARGET_PATH",
    "SOURCE_DATE_EPOCH",
];

/// What it reads for Apple's systems.
const OF_APPLE: &[&str] = &[
    "IPHONEOS_DEPLOYMENT_TARGET",
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
    "TVOS_DEPLOYMENT_TARGET",
    "WATCHOS_DEPLOYMENT_TARGET",
    "XROS_DEPLOYMENT_TARGET",
];

/// What clippy reads besides.
const OF_CLIPPY: &[&str] =
    &["CARGO_PRIMARY_PACKAGE", "CLIPPY_ARGS", "CLIPPY_CONF_DIR", "CLIPPY_DISABLE_DOCS_LINKS", "SYSROOT"];

/// What a compiler driver and a linker read.
const OF_LINKERS: &[&str] =
    &["COMPILER_PATH", "GCC_EXEC_PREFIX", "LD_RUN_PATH", "LIBRARY_PATH", "LPATH", "ZERO_AR_DATE"];

/// What cargo tells about a package, which a procedural macro may read.
const OF_PACKAGES: &[&str] = &["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_TARGET_TMPDIR", "OUT_DIR"];

/// The same, by how they begin.
const OF_PACKAGES_PREFIXES: &[&str] = &["CARGO_BIN_EXE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// How long a build script's instructions may be.
const SCRIPT_OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The variables that count for this call, in order of their names.
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
    // A procedural macro may also come along with a library that exports it again, so every
    // crate that uses another may run one.
    if rustc.externs.iter().any(|one| one.path.is_some()) {
        always(OF_PACKAGES);
        let set = call.env.iter().filter_map(|(name, _)| name.to_str());
        let of_package = |name: &&str| OF_PACKAGES_PREFIXES.iter().any(|start| name.starts_with(start));
        names.extend(set.filter(of_package).map(str::to_owned));
        names.extend(of_build_script(call)?);
    }
    let standing_in = |value: &OsStr| {
        let general = roots.generalise(value.as_bytes(), Form::Value);
        let why = || format!("a variable's value holds a stand-in: {}", value.display());
        general.ok_or_else(|| Bypass::new(Reason::UnknownInput, why()))
    };
    let mut keyed: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    for name in names {
        if let Some(value) = call.env.get(&name) {
            keyed.insert(name, Some(standing_in(value)?));
        }
    }
    // That a declared variable is not set is worth saying.
    for name in declared {
        keyed.insert(name.clone(), call.env.get(name).map(standing_in).transpose()?);
    }
    Ok(keyed.into_iter().collect())
}

/// Whether a variable that counts in this key would count in any that is otherwise the same,
/// set or not: whoever asks for it learns nothing that the key does not say.
pub fn is_keyed(name: &str, keyed: &Variables, runs_macros: bool) -> bool {
    let is_of_package =
        || OF_PACKAGES.contains(&name) || OF_PACKAGES_PREFIXES.iter().any(|start| name.starts_with(start));
    OF_RUSTC.contains(&name)
        || OF_APPLE.contains(&name)
        || runs_macros && is_of_package()
        || keyed.iter().any(|(known, _)| known == name)
}

/// Names that the package's build script has given values to. Cargo keeps what the script
/// said beside its `OUT_DIR`.
fn of_build_script(call: &Call) -> Result<Vec<String>, Bypass> {
    let Some(out_dir) = call.env.get("OUT_DIR") else { return Ok(Vec::new()) };
    let output = call.cwd.join(out_dir).with_file_name("output");
    let said = match read_bounded(&output) {
        Ok(said) => said,
        Err(error) if super::stamp::is_absence(&error) => return Ok(Vec::new()),
        Err(error) => {
            let why = format!("`{}`: {error}", output.display());
            return Err(Bypass::new(Reason::UnknownInput, why));
        }
    };
    let said = String::from_utf8_lossy(&said);
    let settings = said.lines().filter_map(|line| {
        let line = line.strip_prefix("cargo::").or_else(|| line.strip_prefix("cargo:"))?;
        line.strip_prefix("rustc-env=")?.split_once('=').map(|(name, _)| name.to_owned())
    });
    Ok(settings.collect())
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SCRIPT_OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
