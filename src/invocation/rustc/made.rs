//! Which files a compile writes, by name.
//!
//! Invariant (KEY-08): the list is exactly what rustc writes, or the call is passed on with
//! the reason. A file that is not on it would be missing after a restore.

use std::path::{Path, PathBuf};

use super::codegen::is_per_unit;
use super::parse::{Read, Reader};
use super::target::Names;
use super::types::{CrateType, EmitKind, Made, MadeKind, Rustc, TargetArgument};
use crate::invocation::{Bypass, Call, Reason};

/// Finds out what a compile writes.
pub(super) fn made(reader: &mut Reader, call: &Call, read: Read<'_>) -> Result<(), Bypass> {
    let rustc = &reader.rustc;
    check(reader)?;
    let mut found = Vec::new();
    for emit in rustc.emit.iter().filter(|emit| emit.kind != EmitKind::Link) {
        let path = match (&emit.path, &rustc.output) {
            (Some(path), _) | (None, Some(path)) => path.clone(),
            (None, None) => directory(rustc).join(file_name(rustc, emit.kind)),
        };
        found.push(Made { kind: MadeKind::Emitted(emit.kind), path });
    }
    if rustc.emits(EmitKind::Link) {
        linked(rustc, call, read, &mut found)?;
    }
    let mut paths: Vec<&Path> = found.iter().map(|made| &*made.path).collect();
    paths.sort();
    if paths.windows(2).any(|pair| pair[0] == pair[1]) {
        // As of a dylib and a cdylib: the later one wins, and both are announced.
        return Err(refuse("two outputs of one name"));
    }
    if paths.iter().any(|path| path.as_os_str() == "-" || path.as_os_str().is_empty()) {
        return Err(refuse("output on standard output"));
    }
    reader.rustc.made = found;
    Ok(())
}

fn refuse(detail: impl Into<String>) -> Bypass {
    Bypass::new(Reason::UncacheableOption, detail)
}

fn check(reader: &Reader) -> Result<(), Bypass> {
    let Reader { rustc, codegen_units, has_debuginfo, .. } = reader;
    let unnamed = rustc.emit.iter().filter(|emit| emit.path.is_none()).count();
    if rustc.output.is_some() && (unnamed > 1 || rustc.out_dir.is_some()) {
        return Err(refuse("`-o` with several outputs"));
    }
    if rustc.extra_filename.contains(['.', '/']) || rustc.crate_name.contains(['.', '/']) {
        return Err(refuse("a dot or slash in the name of the output"));
    }
    if codegen_units.is_some_and(|count| count > 1) && rustc.emit.iter().any(|emit| is_per_unit(emit.kind)) {
        return Err(refuse("an output for each codegen unit"));
    }
    let has_objects = rustc.emits(EmitKind::Link) || rustc.emits(EmitKind::Obj);
    let leaves_objects = rustc.split_debuginfo.as_deref() == Some("unpacked");
    if leaves_objects && *has_debuginfo && has_objects && !keeps_debuginfo_in_objects(rustc) {
        return Err(refuse("split-debuginfo=unpacked: it leaves a file for each codegen unit"));
    }
    Ok(())
}

/// On Apple's systems unpacked means that debugging information stays in the objects, which
/// for a library are inside of it.
fn keeps_debuginfo_in_objects(rustc: &Rustc) -> bool {
    let is_apple = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => triple.contains("-apple-"),
        Some(TargetArgument::Spec(_)) => false,
        None => cfg!(target_vendor = "apple"),
    };
    is_apple && !rustc.is_linked()
}

fn directory(rustc: &Rustc) -> PathBuf {
    rustc.out_dir.clone().unwrap_or_default()
}

fn file_name(rustc: &Rustc, kind: EmitKind) -> String {
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

fn linked(rustc: &Rustc, call: &Call, read: Read<'_>, found: &mut Vec<Made>) -> Result<(), Bypass> {
    let harness = [CrateType::Bin];
    let crate_types = if rustc.is_test { &harness[..] } else { &rustc.crate_types };
    let named = rustc.emit.iter().find(|emit| emit.kind == EmitKind::Link).and_then(|emit| emit.path.clone());
    let named = named.or_else(|| rustc.output.clone());
    if named.is_some() && crate_types.len() > 1 {
        return Err(refuse("one name for several crate types"));
    }
    let names = if crate_types == [CrateType::Rlib] { None } else { Some(names(rustc, call, read)?) };
    let mut debug = Vec::new();
    for crate_type in crate_types {
        let name = match &names {
            None => format!("lib{}.rlib", file_name(rustc, EmitKind::Link)),
            Some(names) => linked_name(rustc, *crate_type, names)?,
        };
        let path = match (&named, &names) {
            (Some(_), Some(names)) if *crate_type == CrateType::Bin && !names.program.is_empty() => {
                return Err(refuse("a name for a program that gets an ending"));
            }
            (Some(path), _) => path.clone(),
            (None, _) => directory(rustc).join(name),
        };
        if crate_type.is_linked() && rustc.split_debuginfo.as_deref() == Some("packed") {
            let mut packed = path.clone().into_os_string();
            packed.push(".dwp");
            debug.push(Made { kind: MadeKind::Debug, path: packed.into() });
        }
        found.push(Made { kind: MadeKind::Linked(*crate_type), path });
    }
    found.append(&mut debug);
    Ok(())
}

fn names(rustc: &Rustc, call: &Call, read: Read<'_>) -> Result<Names, Bypass> {
    let (found, target) = match &rustc.target {
        None => (Names::of_host(), "this system".to_owned()),
        Some(TargetArgument::Triple(triple)) => (Names::of_triple(triple), triple.clone()),
        Some(TargetArgument::Spec(path)) => {
            let name = path.display().to_string();
            let bytes = read(&call.cwd.join(path)).map_err(|error| {
                Bypass::new(Reason::UnknownInput, format!("target description `{name}`: {error}"))
            })?;
            (Names::of_description(&bytes), name)
        }
    };
    found.ok_or_else(|| Bypass::new(Reason::CrateType, format!("names of linked files for {target}")))
}

fn linked_name(rustc: &Rustc, crate_type: CrateType, names: &Names) -> Result<String, Bypass> {
    let stem = file_name(rustc, EmitKind::Link);
    let packs = rustc.split_debuginfo.as_deref() == Some("packed");
    if crate_type.is_linked() && (!names.comes_alone || (packs && !names.packs_debuginfo)) {
        return Err(Bypass::new(Reason::CrateType, "linked files that come with others on this target"));
    }
    match crate_type {
        CrateType::Rlib => Ok(format!("lib{stem}.rlib")),
        CrateType::Bin => Ok(format!("{stem}{}", names.program)),
        CrateType::Staticlib => Ok(format!("{}{stem}{}", names.archive.0, names.archive.1)),
        CrateType::Dylib | CrateType::Cdylib | CrateType::ProcMacro => match &names.shared {
            Some((prefix, suffix)) => Ok(format!("{prefix}{stem}{suffix}")),
            None => Err(Bypass::new(Reason::CrateType, "a shared library with an import library")),
        },
    }
}
