//! Compiles the observer (`observer/preload.rs`), which the engine carries.
//!
//! It is a library of its own for the target, so the compiler is called for it once more. Where
//! it cannot be made the engine carries nothing, says so in `kache doctor`, and what proc macros
//! read has to be declared.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "observer/preload.rs";

/// Its modules lie beside it.
const SOURCES: &str = "observer";

/// Optimised for size and speed alike, with the parts of `core` that it needs and no names:
/// the same bytes wherever it is compiled.
const OPTIONS: &[&str] = &[
    "--edition=2024",
    "--crate-name=kache_observer",
    "--crate-type=cdylib",
    "-Copt-level=2",
    "-Clto=fat",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cstrip=symbols",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    let library = PathBuf::from(variable("OUT_DIR")).join("observer.so");
    let made = if is_possible() { compile(&library) } else { Err(None) };
    if let Err(why) = made {
        if let Some(why) = why {
            println!("cargo::warning=the observer could not be compiled, so nothing will be observed: {why}");
        }
        fs::write(&library, []).expect("cargo's output directory can be written");
    }
}

/// Whether the system has what the observer needs: `LD_PRELOAD` as glibc understands it, and a
/// processor whose system calls it knows.
fn is_possible() -> bool {
    let is = |name: &str, values: &[&str]| values.iter().any(|value| variable(name) == *value);
    is("CARGO_CFG_TARGET_OS", &["linux"])
        && is("CARGO_CFG_TARGET_ENV", &["gnu"])
        && is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"])
}

fn compile(library: &Path) -> Result<(), Option<String>> {
    let mut command = Command::new(variable("RUSTC"));
    command.args(OPTIONS).arg("--target").arg(variable("TARGET"));
    let linker = variable("RUSTC_LINKER");
    if !linker.is_empty() {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let output = command.arg("-o").arg(library).arg(SOURCE).output();
    let output = output.map_err(|error| Some(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it does not say why");
    if output.status.success() { Ok(()) } else { Err(Some(first.to_owned())) }
}

/// A variable that cargo sets for build scripts; empty where it does not.
#[expect(clippy::disallowed_methods, reason = "cargo speaks to a build script by variables")]
fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_default()
}
