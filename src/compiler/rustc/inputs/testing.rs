//! Helpers for the tests of the inputs of rustc: invocations and the real toolchain.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compiler::rustc::invocation::{ParsedCall, RustcInvocation};
use crate::inputs::testing::call;
use crate::inputs::{DiskWorld, Toolchain};

/// Returns the invocation for a library with this source and no other inputs.
pub(super) fn compile(source: &str) -> RustcInvocation {
    parse(&["rustc", "--crate-name=x", "--crate-type=lib", "--emit=dep-info,metadata,link", source])
}

/// What the parser makes of a command line.
pub(super) fn parse(argv: &[&str]) -> RustcInvocation {
    let mut call = call(Path::new("/"));
    call.argv = argv.iter().map(OsString::from).collect();
    match crate::compiler::rustc::invocation::parse(&call, &|path| fs::read(path)) {
        ParsedCall::Compile(rustc) => *rustc,
        other => panic!("{other:?}"),
    }
}

/// Returns the sysroot of the toolchain that compiles these tests.
pub(super) fn real_sysroot() -> PathBuf {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// Returns the toolchain that compiles these tests.
pub(super) fn real_toolchain(world: &DiskWorld) -> Toolchain {
    let mut rustc = compile("src/lib.rs");
    rustc.driver = real_sysroot().join("bin/rustc");
    rustc.rustc = rustc.driver.clone();
    super::toolchain(&rustc, &call(Path::new("/")), world).unwrap().common
}
