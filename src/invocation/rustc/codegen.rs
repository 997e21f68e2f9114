//! The options of `-C` and `-Z` (KEY-09).

use super::arguments::Given;
use super::options::{CODEGEN, KeyEffect, LLVM_ARGS, Meaning, PASSES, SubOption, by_name};
use super::parse::Reader;
use super::types::{EmitKind, FileArgument, Word};
use super::unstable::UNSTABLE;
use crate::invocation::{Bypass, Reason};

/// One option of `-C`.
pub(super) fn read_codegen(reader: &mut Reader, given: &Given<'_>, whole: &str) -> Result<(), Bypass> {
    sub_option(reader, given, whole, CODEGEN, "-C")
}

/// One option of `-Z`.
pub(super) fn read_unstable(reader: &mut Reader, given: &Given<'_>, whole: &str) -> Result<(), Bypass> {
    sub_option(reader, given, whole, UNSTABLE, "-Z")
}

fn sub_option(
    reader: &mut Reader,
    given: &Given<'_>,
    whole: &str,
    table: &'static [SubOption],
    flag: &str,
) -> Result<(), Bypass> {
    let (name, value) = match whole.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (whole, None),
    };
    let unknown = || Bypass::new(Reason::UnknownOption, format!("{flag} {name}"));
    let option = by_name(table, name).ok_or_else(unknown)?;
    match option.effect {
        KeyEffect::Stripped => {
            reader.rustc.incremental = Some(value.unwrap_or_default().into());
            reader.words(given, Word::Stripped);
            return Ok(());
        }
        KeyEffect::Question => reader.ask(),
        KeyEffect::Refused(why) => {
            reader.refuse(Reason::UncacheableOption, format!("{flag} {}: {why}", option.name));
        }
        KeyEffect::Text => {
            keep(reader, option, value);
            reader.words(given, Word::Text);
            return Ok(());
        }
        KeyEffect::File => return file(reader, given, option, name, value),
        _ => {}
    }
    keep(reader, option, value);
    reader.words(given, Word::Plain);
    Ok(())
}

/// An option whose value may be a file, or the name of something known.
fn file(
    reader: &mut Reader,
    given: &Given<'_>,
    option: &'static SubOption,
    name: &str,
    value: Option<&str>,
) -> Result<(), Bypass> {
    let path = value.unwrap_or_default();
    let (is_file, file_option) = match option.meaning {
        // A name is looked for in `PATH`; whoever identifies linkers does that.
        Meaning::Linker => {
            reader.rustc.linker = Some(path.into());
            (path.contains('/'), None)
        }
        // Other backends lie in the toolchain.
        Meaning::Backend => {
            reader.has_backend = true;
            (path.contains(['/', '.']), Some("-Z codegen-backend"))
        }
        Meaning::SampleUse => (true, Some("-Z profile-sample-use")),
        _ => (true, Some("-C profile-use")),
    };
    if !is_file {
        reader.words(given, Word::Plain);
        return Ok(());
    }
    if let Some(option) = file_option {
        reader.rustc.files.push(FileArgument { option, path: path.into() });
    }
    reader.path_words(given, &format!("{name}="), path);
    Ok(())
}

/// What the parser keeps of an option.
fn keep(reader: &mut Reader, option: &'static SubOption, value: Option<&str>) {
    let text = value.unwrap_or_default();
    let refused = |reader: &mut Reader, why: &str| {
        let given = format!("{}={text}", option.name);
        reader.refuse(Reason::UncacheableOption, format!("{}: {why}", given.trim_end_matches('=')));
    };
    match option.meaning {
        Meaning::CodegenUnits => reader.codegen_units = text.parse().ok(),
        // The scan of outputs cannot find paths in compressed sections.
        Meaning::Coverage => reader.has_coverage = !is_off(value),
        Meaning::Compression => reader.compresses = text != "none",
        Meaning::CrateAttribute if text.contains("crate_") => {
            refused(reader, "an attribute that names the crate or its type decides the outputs");
        }
        Meaning::Debuginfo => reader.has_debuginfo = !matches!(text, "0" | "none"),
        Meaning::Dlltool => reader.has_dlltool = true,
        Meaning::ExtraFilename => text.clone_into(&mut reader.rustc.extra_filename),
        Meaning::LinkArg => reader.link_arg(text),
        Meaning::LinkArgs => text.split_whitespace().for_each(|word| reader.link_arg(word)),
        // Its value may also be a plugin for the linker.
        Meaning::LinkerPlugin => reader.has_linker_plugin = !is_off(value) && !is_on(value),
        Meaning::LlvmArgs if !text.split_whitespace().all(is_known_to_llvm) => {
            refused(reader, "an argument of which LLVM may read or write a file");
        }
        Meaning::Passes if !text.split_whitespace().all(|pass| PASSES.contains(&pass)) => {
            refused(reader, "a pass may read or write files of its own");
        }
        Meaning::SaveTemps if !is_off(value) => {
            refused(reader, "intermediate files have other names in every run");
        }
        Meaning::Rpath => reader.has_rpath = !is_off(value),
        Meaning::SplitDebuginfo => reader.rustc.split_debuginfo = Some(text.to_owned()),
        Meaning::TargetCpu if text == "native" => reader.rustc.is_native = true,
        Meaning::TargetCpu if text == "help" => reader.ask(),
        _ => {}
    }
}

fn is_known_to_llvm(argument: &str) -> bool {
    let argument = argument.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(argument);
    let is_listed = LLVM_ARGS.iter().any(|known| argument.starts_with(known));
    // `-sanitizer-coverage-allowlist=name` reads that file.
    is_listed && !argument.contains(['/', '.', '@']) && !argument.contains("list=")
}

/// Whether a switch that may have a value is off.
pub(super) fn is_off(value: Option<&str>) -> bool {
    matches!(value, Some("n" | "no" | "off" | "false" | "0"))
}

fn is_on(value: Option<&str>) -> bool {
    matches!(value, None | Some("" | "y" | "yes" | "on" | "true"))
}

/// Kinds of output that rustc writes once for each codegen unit, under names of its own,
/// where there are several.
pub(super) fn is_per_unit(kind: EmitKind) -> bool {
    matches!(kind, EmitKind::Asm | EmitKind::LlvmBc | EmitKind::LlvmIr | EmitKind::Mir | EmitKind::Obj)
}
