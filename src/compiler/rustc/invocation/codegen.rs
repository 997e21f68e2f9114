//! Reads the options of `-C` and `-Z` (KEY-09): what each does to the key is in the tables; this file keeps
//! the values that kache itself needs.

use super::arguments::GivenOption;
use super::options::{CODEGEN, KeyEffect, LLVM_ARGS, Meaning, PASSES, SubOption, by_name};
use super::parse::OptionReader;
use super::types::{EmitKind, FileArgument};
use super::unstable::UNSTABLE;
use crate::invocation::{Bypass, Reason, Word};

/// Reads one option of `-C`; `whole` is `name` or `name=value`.
pub(super) fn read_codegen(
    reader: &mut OptionReader,
    given: &GivenOption<'_>,
    whole: &str,
) -> Result<(), Bypass> {
    sub_option(reader, given, whole, CODEGEN, "-C")
}

/// Reads one option of `-Z`; `whole` is `name` or `name=value`.
pub(super) fn read_unstable(
    reader: &mut OptionReader,
    given: &GivenOption<'_>,
    whole: &str,
) -> Result<(), Bypass> {
    sub_option(reader, given, whole, UNSTABLE, "-Z")
}

fn sub_option(
    reader: &mut OptionReader,
    given: &GivenOption<'_>,
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

/// Reads an option whose value is a file, or a name that stands for no file in the arguments.
fn file(
    reader: &mut OptionReader,
    given: &GivenOption<'_>,
    option: &'static SubOption,
    name: &str,
    value: Option<&str>,
) -> Result<(), Bypass> {
    let path = value.unwrap_or_default();
    let (is_file, file_option) = match option.meaning {
        // A name without a slash is looked for in `PATH`, by `inputs`.
        Meaning::Linker => {
            reader.rustc.linker = Some(path.into());
            (path.contains('/'), None)
        }
        // A name without a slash or dot is a backend of the toolchain, which counts by content anyway.
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

/// Stores the values that kache needs, and refuses values that make a compile uncacheable.
fn keep(reader: &mut OptionReader, option: &'static SubOption, value: Option<&str>) {
    let text = value.unwrap_or_default();
    let refused = |reader: &mut OptionReader, why: &str| {
        let given = format!("{}={text}", option.name);
        reader.refuse(Reason::UncacheableOption, format!("{}: {why}", given.trim_end_matches('=')));
    };
    match option.meaning {
        Meaning::CodegenUnits => reader.codegen_units = text.parse().ok(),
        // The scan of outputs cannot find paths in coverage maps, which are compressed.
        Meaning::Coverage => reader.has_coverage = !is_off(value),
        Meaning::Compression => reader.is_compressed = text != "none",
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
        Meaning::LlvmArgs if !text.split_whitespace().all(is_allowed_llvm_argument) => {
            refused(reader, "an argument that may let LLVM read or write a file");
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

fn is_allowed_llvm_argument(argument: &str) -> bool {
    let argument = argument.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(argument);
    let is_listed = LLVM_ARGS.iter().any(|start| argument.starts_with(start));
    // `-sanitizer-coverage-allowlist=name` reads that file.
    is_listed && !argument.contains(['/', '.', '@']) && !argument.contains("list=")
}

/// Whether the value of a switch turns it off; a switch without a value is on.
pub(super) fn is_off(value: Option<&str>) -> bool {
    matches!(value, Some("n" | "no" | "off" | "false" | "0"))
}

fn is_on(value: Option<&str>) -> bool {
    matches!(value, None | Some("" | "y" | "yes" | "on" | "true"))
}

/// Whether rustc writes this kind of output once for each codegen unit, under names of its own choice, if
/// there are several units.
pub(super) fn is_per_unit(kind: EmitKind) -> bool {
    matches!(kind, EmitKind::Asm | EmitKind::LlvmBc | EmitKind::LlvmIr | EmitKind::Mir | EmitKind::Obj)
}
