//! Lists the files that a compile writes, by the names that rustc gives them.
//!
//! Invariant (KEY-08): the list holds exactly the files that rustc writes, or the call is a bypass. A file
//! that is not in the list would be missing after a restore.

use std::path::{Path, PathBuf};

use super::codegen::is_per_unit;
use super::parse::{OptionReader, ReadFile};
use super::target::FileNaming;
use super::types::{
    CrateType, DeclaredOutput, DeclaredOutputKind, EmitKind, RustcInvocation, TargetArgument,
};
use crate::invocation::{Bypass, Call, Reason};

/// Sets the declared outputs of the invocation, in the order in which rustc announces them.
pub(super) fn declare_outputs(
    reader: &mut OptionReader,
    call: &Call,
    read: ReadFile<'_>,
) -> Result<(), Bypass> {
    let rustc = &reader.rustc;
    check_options(reader)?;
    let mut outputs = Vec::new();
    for emit in rustc.emit.iter().filter(|emit| emit.kind != EmitKind::Link) {
        let path = match (&emit.path, &rustc.output_path) {
            (Some(path), _) | (None, Some(path)) => path.clone(),
            (None, None) => directory(rustc).join(file_name(rustc, emit.kind)),
        };
        outputs.push(DeclaredOutput { kind: DeclaredOutputKind::Emitted(emit.kind), path });
    }
    if rustc.emits(EmitKind::Link) {
        add_linked(rustc, call, read, &mut outputs)?;
    }
    let mut paths: Vec<&Path> = outputs.iter().map(|output| &*output.path).collect();
    paths.sort();
    if paths.windows(2).any(|pair| pair[0] == pair[1]) {
        // A dylib and a cdylib have one name, for example: rustc announces both, and the later file
        // replaces the earlier one.
        return Err(refuse("two outputs with one name"));
    }
    if paths.iter().any(|path| path.as_os_str() == "-" || path.as_os_str().is_empty()) {
        return Err(refuse("output on standard output"));
    }
    reader.rustc.outputs = outputs;
    Ok(())
}

fn refuse(detail: impl Into<String>) -> Bypass {
    Bypass::new(Reason::UncacheableOption, detail)
}

/// Refuses options that make rustc write files whose names cannot be told before it runs.
fn check_options(reader: &OptionReader) -> Result<(), Bypass> {
    let OptionReader { rustc, codegen_units, has_debuginfo, .. } = reader;
    let unnamed = rustc.emit.iter().filter(|emit| emit.path.is_none()).count();
    if rustc.output_path.is_some() && (unnamed > 1 || rustc.out_dir.is_some()) {
        return Err(refuse("`-o` with several outputs"));
    }
    if rustc.extra_filename.contains(['.', '/']) || rustc.crate_name.contains(['.', '/']) {
        return Err(refuse("a dot or slash in the name of the output"));
    }
    if codegen_units.is_some_and(|count| count > 1) && rustc.emit.iter().any(|emit| is_per_unit(emit.kind)) {
        return Err(refuse("an output for each codegen unit"));
    }
    let has_objects = rustc.emits(EmitKind::Link) || rustc.emits(EmitKind::Obj);
    let is_unpacked = rustc.split_debuginfo.as_deref() == Some("unpacked");
    if is_unpacked && *has_debuginfo && has_objects && !keeps_debuginfo_in_objects(rustc) {
        return Err(refuse("split-debuginfo=unpacked: it writes a file for each codegen unit"));
    }
    Ok(())
}

/// Whether debugging information stays inside the object files, and these inside the output. On Apple's
/// systems `unpacked` means that, and the object files of a library are part of the library.
fn keeps_debuginfo_in_objects(rustc: &RustcInvocation) -> bool {
    let is_apple = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => triple.contains("-apple-"),
        Some(TargetArgument::Spec(_)) => false,
        None => cfg!(target_vendor = "apple"),
    };
    is_apple && !rustc.is_linked()
}

fn directory(rustc: &RustcInvocation) -> PathBuf {
    rustc.out_dir.clone().unwrap_or_default()
}

fn file_name(rustc: &RustcInvocation, kind: EmitKind) -> String {
    let stem = format!("{}{}", rustc.crate_name.replace('-', "_"), rustc.extra_filename);
    match kind {
        EmitKind::DepInfo => format!("{stem}.d"),
        EmitKind::Mir => format!("{stem}.mir"),
        EmitKind::Metadata => format!("lib{stem}.rmeta"),
        EmitKind::Obj => format!("{stem}.o"),
        EmitKind::LlvmBc => format!("{stem}.bc"),
        EmitKind::LlvmIr => format!("{stem}.ll"),
        EmitKind::Asm => format!("{stem}.s"),
        EmitKind::Link => stem,
    }
}

/// Adds the files that `--emit link` makes: one for each crate type, and a `.dwp` beside a linked one if
/// debugging information is packed.
fn add_linked(
    rustc: &RustcInvocation,
    call: &Call,
    read: ReadFile<'_>,
    outputs: &mut Vec<DeclaredOutput>,
) -> Result<(), Bypass> {
    // A test harness is always a program.
    let harness = [CrateType::Bin];
    let crate_types = if rustc.is_test { &harness[..] } else { &rustc.crate_types };
    let named = rustc.emit.iter().find(|emit| emit.kind == EmitKind::Link).and_then(|emit| emit.path.clone());
    let named = named.or_else(|| rustc.output_path.clone());
    if named.is_some() && crate_types.len() > 1 {
        return Err(refuse("one name for several crate types"));
    }
    // An rlib has the same name on every target.
    let naming = if crate_types == [CrateType::Rlib] { None } else { Some(file_naming(rustc, call, read)?) };
    let mut packed_debuginfo = Vec::new();
    for crate_type in crate_types {
        let name = match &naming {
            None => format!("lib{}.rlib", file_name(rustc, EmitKind::Link)),
            Some(naming) => linked_name(rustc, *crate_type, naming)?,
        };
        let path = match (&named, &naming) {
            (Some(_), Some(naming)) if *crate_type == CrateType::Bin && !naming.program.is_empty() => {
                return Err(refuse("a given name for a program to which rustc adds an extension"));
            }
            (Some(path), _) => path.clone(),
            (None, _) => directory(rustc).join(name),
        };
        if crate_type.is_linked() && rustc.split_debuginfo.as_deref() == Some("packed") {
            let mut packed = path.clone().into_os_string();
            packed.push(".dwp");
            packed_debuginfo.push(DeclaredOutput { kind: DeclaredOutputKind::Debug, path: packed.into() });
        }
        outputs.push(DeclaredOutput { kind: DeclaredOutputKind::Linked(*crate_type), path });
    }
    outputs.append(&mut packed_debuginfo);
    Ok(())
}

/// Returns how the target of this compile names its files. The bypass says that kache does not know it.
fn file_naming(rustc: &RustcInvocation, call: &Call, read: ReadFile<'_>) -> Result<FileNaming, Bypass> {
    let (naming, target) = match &rustc.target {
        None => (FileNaming::of_host(), "this system".to_owned()),
        Some(TargetArgument::Triple(triple)) => (FileNaming::of_triple(triple), triple.clone()),
        Some(TargetArgument::Spec(path)) => {
            let name = path.display().to_string();
            let bytes = read(&call.cwd.join(path)).map_err(|error| {
                Bypass::new(Reason::UnknownInput, format!("target description `{name}`: {error}"))
            })?;
            (FileNaming::of_description(&bytes), name)
        }
    };
    naming.ok_or_else(|| Bypass::new(Reason::CrateType, format!("names of linked files for {target}")))
}

fn linked_name(
    rustc: &RustcInvocation,
    crate_type: CrateType,
    naming: &FileNaming,
) -> Result<String, Bypass> {
    let stem = file_name(rustc, EmitKind::Link);
    let packs = rustc.split_debuginfo.as_deref() == Some("packed");
    if crate_type.is_linked() && (!naming.links_one_file || (packs && !naming.has_dwp)) {
        return Err(Bypass::new(Reason::CrateType, "linked files that come with other files on this target"));
    }
    match crate_type {
        CrateType::Rlib => Ok(format!("lib{stem}.rlib")),
        CrateType::Bin => Ok(format!("{stem}{}", naming.program)),
        CrateType::Staticlib => Ok(format!("{}{stem}{}", naming.archive.0, naming.archive.1)),
        CrateType::Dylib | CrateType::Cdylib | CrateType::ProcMacro => match &naming.shared {
            Some((prefix, suffix)) => Ok(format!("{prefix}{stem}{suffix}")),
            None => Err(Bypass::new(Reason::CrateType, "a shared library with an import library")),
        },
    }
}
