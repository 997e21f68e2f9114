//! Makes the [`Task`] of a call for the stages after the key. All knowledge of rustc's options that
//! those stages need is put into its fields here.

use std::path::PathBuf;

use super::call::RustcCall;
use super::message_format::RUSTC_MESSAGES;
use crate::action::{CONSTANT_NAME, Label, Origin, Output, OutputKind, Query, Task};
use crate::compiler::CallKind;
use crate::compiler::rustc::invocation::{
    CrateSource, CrateType, DeclaredOutput, DeclaredOutputKind, DriverKind, EmitKind, RustcInvocation,
};
use crate::events::PROBE;
use crate::invocation::Call;
use crate::roles::{Role, RolePath, Roots};

/// Makes the task of a compile or a probe. `extra_dep_info` are declared inputs that go into the dep-info,
/// so that cargo notices when they change.
pub(super) fn task(
    rustc_call: &RustcCall,
    call: &Call,
    roots: &Roots,
    query: &Query,
    extra_dep_info: Vec<PathBuf>,
) -> Task {
    let rustc = &rustc_call.rustc;
    let in_cwd = |path: &PathBuf| call.cwd.join(path);
    let depends_on: Vec<PathBuf> =
        rustc.externs.iter().filter_map(|external| external.path.as_ref()).map(in_cwd).collect();
    Task {
        label: label(rustc_call, call),
        roots: roots.clone(),
        cwd: call.cwd.clone(),
        umask: call.umask,
        query: query.digest,
        outputs: outputs(rustc_call, call, roots),
        presentation: presentation(rustc),
        message_format: RUSTC_MESSAGES,
        wants_notices: rustc.presentation.is_json && rustc.presentation.announces_artifacts,
        origin: origin(rustc, call, roots),
        // A library may re-export macros of its own dependencies, so any extern may bring one. Only
        // the metadata of the extern says whether it does, and kache does not read that.
        runs_foreign_code: !depends_on.is_empty(),
        depends_on,
        earlier_step: build_script_output(call),
        extra_dep_info,
    }
}

fn label(rustc_call: &RustcCall, call: &Call) -> Label {
    let version = call.env.get("CARGO_PKG_VERSION").map(|value| value.to_string_lossy().into_owned());
    let crate_name = &rustc_call.rustc.crate_name;
    let name = match rustc_call.random_name {
        _ if rustc_call.kind == CallKind::Question => "rustc".to_owned(),
        Some(_) => crate_name.split('_').next().unwrap_or_default().to_owned(),
        None => crate_name.clone(),
    };
    let kind = if rustc_call.kind.is_probe() { PROBE } else { kind(&rustc_call.rustc) };
    Label { name, version: version.unwrap_or_default(), kind: kind.to_owned() }
}

fn kind(rustc: &RustcInvocation) -> &'static str {
    if rustc.driver_kind == DriverKind::Clippy {
        return "clippy";
    }
    if rustc.crate_name.starts_with("build_script_") {
        return "build-script";
    }
    if rustc.is_test {
        return "test";
    }
    if !rustc.emits(EmitKind::Link) {
        return "check";
    }
    match rustc.crate_types.first() {
        Some(CrateType::Bin) | None => "bin",
        Some(CrateType::Rlib) => "lib",
        Some(CrateType::Dylib) => "dylib",
        Some(CrateType::Cdylib) => "cdylib",
        Some(CrateType::Staticlib) => "staticlib",
        Some(CrateType::ProcMacro) => "proc-macro",
    }
}

fn outputs(rustc_call: &RustcCall, call: &Call, roots: &Roots) -> Vec<Output> {
    let output = |declared: &DeclaredOutput| {
        let name = roots.role_path(&call.cwd, &declared.path);
        Output {
            kind: output_kind(declared.kind),
            path: call.cwd.join(&declared.path),
            name: constant(name, rustc_call.random_name.as_deref()),
            is_required: declared.kind != DeclaredOutputKind::Debug,
        }
    };
    rustc_call.rustc.outputs.iter().map(output).collect()
}

/// Replaces the random name of a trial compile in the path of an output, as the key does.
fn constant(name: RolePath, random: Option<&str>) -> RolePath {
    let Some(random) = random else { return name };
    let Ok(rest) = std::str::from_utf8(name.rest()) else { return name };
    RolePath::new(name.role(), rest.replace(random, CONSTANT_NAME)).unwrap_or(name)
}

fn output_kind(kind: DeclaredOutputKind) -> OutputKind {
    match kind {
        DeclaredOutputKind::Emitted(EmitKind::DepInfo) => OutputKind::DepInfo,
        DeclaredOutputKind::Emitted(EmitKind::Mir) => OutputKind::Mir,
        DeclaredOutputKind::Emitted(EmitKind::Metadata) => OutputKind::Metadata,
        DeclaredOutputKind::Emitted(EmitKind::Obj) => OutputKind::Object,
        DeclaredOutputKind::Emitted(EmitKind::LlvmBc) => OutputKind::Bitcode,
        DeclaredOutputKind::Emitted(EmitKind::LlvmIr) => OutputKind::LlvmIr,
        DeclaredOutputKind::Emitted(EmitKind::Asm) => OutputKind::Assembly,
        DeclaredOutputKind::Linked(CrateType::Rlib) => OutputKind::Rlib,
        DeclaredOutputKind::Linked(CrateType::Staticlib) => OutputKind::StaticLibrary,
        DeclaredOutputKind::Emitted(EmitKind::Link) | DeclaredOutputKind::Linked(CrateType::Bin) => {
            OutputKind::Executable
        }
        DeclaredOutputKind::Linked(CrateType::Dylib | CrateType::Cdylib | CrateType::ProcMacro) => {
            OutputKind::SharedLibrary
        }
        DeclaredOutputKind::Debug => OutputKind::Debug,
    }
}

/// Encodes the options that decide how messages look, each with its length in front. `artifacts` is
/// left out: kache writes the notices about outputs anew for every call.
fn presentation(rustc: &RustcInvocation) -> Vec<u8> {
    let mut framed = Vec::new();
    for option in &rustc.presentation.options {
        let option = option.to_string_lossy();
        let words: Vec<&str> = match option.strip_prefix("--json=") {
            Some(words) => words.split(',').filter(|word| *word != "artifacts").collect(),
            None => vec![&option],
        };
        let option = words.join(",");
        framed.extend_from_slice(&(option.len() as u32).to_le_bytes());
        framed.extend_from_slice(option.as_bytes());
    }
    framed
}

fn origin(rustc: &RustcInvocation, call: &Call, roots: &Roots) -> Origin {
    let CrateSource::File(source) = &rustc.source else { return Origin::Path };
    let source = roots.role_path(&call.cwd, source);
    let is_immutable = source.is_below(Role::Cargo)
        && [&b"registry/"[..], b"git/"].iter().any(|dir| source.rest().starts_with(dir));
    if is_immutable { Origin::Immutable } else { Origin::Path }
}

/// Cargo stores the output of a build script in a file beside its `OUT_DIR`.
fn build_script_output(call: &Call) -> Option<PathBuf> {
    Some(call.env.path("OUT_DIR")?.parent()?.join("output"))
}
