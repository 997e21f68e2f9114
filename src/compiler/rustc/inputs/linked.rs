//! The inputs of a linked output besides the crate itself (KEY-14, KEY-15): the crates that it reaches,
//! native libraries, and the link toolchain.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use serde_json::Value;

use super::linker::linker;
use super::natives::{NativeSearch, is_passed_on, passed_name};
use super::reachable::add_reachable;
use crate::compiler::rustc::invocation::{CrateType, EmitKind, RustcInvocation, TargetArgument};
use crate::inputs::{GatheredInputs, InputKind, LinkArgs, Toolchain, script_files};
use crate::invocation::{Bypass, Reason};

/// Adds every file that a linker or an archiver would read. Adds nothing if the call does not ask for
/// `--emit link`.
pub(super) fn add_linked(
    gathered: &mut GatheredInputs<'_>,
    rustc: &RustcInvocation,
    toolchain: &Toolchain,
) -> Result<(), Bypass> {
    if !rustc.emits(EmitKind::Link) {
        return Ok(());
    }
    if !rustc.is_linked() {
        let natives = NativeSearch::new(rustc, &gathered.call.cwd, &[], &[]);
        natives.add_bundled(gathered, rustc, toolchain)?;
        if rustc.crate_types.contains(&CrateType::Staticlib) {
            add_reachable(gathered, rustc)?;
        }
        return Ok(());
    }
    let spec = LinkSpec::of(rustc, gathered)?;
    let arguments = rustc.link_args.iter().chain(&spec.link_args).map(OsString::as_os_str);
    let arguments = LinkArgs::read(arguments, &gathered.call.cwd)?;
    for path in &arguments.files {
        gathered.add(path, InputKind::LinkToolchain)?;
    }
    let linker = linker(rustc, gathered.call, toolchain, &arguments, spec.linker.as_deref(), gathered.world)?;
    for file in &linker.files {
        gathered.add_known(&file.path, file.digest, file.is_executable, InputKind::LinkToolchain);
    }
    let mut names: BTreeSet<String> = add_reachable(gathered, rustc)?;
    let own = rustc.native_libraries.iter();
    let is_file = |kind: Option<&str>| !matches!(kind, Some("framework" | "raw-dylib" | "link-arg"));
    names.extend(own.filter(|library| is_file(library.kind.as_deref())).map(passed_name));
    names.extend(arguments.libraries.iter().cloned());
    let natives = NativeSearch::new(rustc, &gathered.call.cwd, &arguments.dirs, &linker.library_dirs);
    natives.add_script_names(gathered, &linker.relative_names)?;
    for script in &arguments.scripts {
        for path in script_files(script, &gathered.call.cwd, &natives.dirs())? {
            gathered.add(&path, InputKind::LinkToolchain)?;
        }
    }
    natives.add_linked(gathered, names.iter().map(String::as_str), toolchain)
}

/// The names of native libraries that must be found again when this crate is linked into another one.
pub(super) fn passed_on(rustc: &RustcInvocation) -> Vec<String> {
    rustc.native_libraries.iter().filter(|library| is_passed_on(library)).map(passed_name).collect()
}

/// The parts of a target description that are about linking.
#[derive(Default)]
struct LinkSpec {
    linker: Option<String>,
    link_args: Vec<OsString>,
}

impl LinkSpec {
    fn of(rustc: &RustcInvocation, gathered: &GatheredInputs<'_>) -> Result<LinkSpec, Bypass> {
        let Some(TargetArgument::Spec(path)) = &rustc.target else { return Ok(LinkSpec::default()) };
        let path = gathered.call.cwd.join(path);
        let why =
            |error: String| Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {error}", path.display()));
        let text = std::fs::read(&path).map_err(|error| why(error.to_string()))?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| why(error.to_string()))?;
        let mut spec = LinkSpec { linker: json["linker"].as_str().map(str::to_owned), link_args: Vec::new() };
        let fields = json.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| name.contains("link-args"))
            .for_each(|(_, value)| strings(value, &mut spec));
        match spec.linker {
            None if rustc.linker.is_none() => Err(why("it does not name its linker".to_owned())),
            _ => Ok(spec),
        }
    }
}

/// Collects all strings in a JSON value, in order.
fn strings(value: &Value, spec: &mut LinkSpec) {
    match value {
        Value::String(text) => spec.link_args.push(OsStr::new(text).to_owned()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, spec)),
        Value::Object(values) => values.iter().for_each(|(_, value)| strings(value, spec)),
        _ => {}
    }
}
