//! What a linked output holds besides the crate itself (KEY-14, KEY-15): the crates that it
//! reaches, native libraries, and everything of the linker.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use serde_json::Value;

use super::gather::Gathered;
use super::link_args::{LinkArgs, script_files};
use super::linker::linker;
use super::natives::{Natives, is_passed_on, passed_name};
use super::reachable::take_reachable;
use super::types::{InputKind, Toolchain};
use crate::invocation::rustc::{CrateType, EmitKind, RustcInvocation, TargetArgument};
use crate::invocation::{Bypass, Reason};

/// Takes all that a linker or an archiver would take.
pub(super) fn take_linked(
    gathered: &mut Gathered<'_>,
    rustc: &RustcInvocation,
    toolchain: &Toolchain,
) -> Result<(), Bypass> {
    if !rustc.emits(EmitKind::Link) {
        return Ok(());
    }
    if !rustc.is_linked() {
        let natives = Natives::new(rustc, &gathered.call.cwd, &[], &[]);
        natives.take_bundled(gathered, rustc, toolchain)?;
        if rustc.crate_types.contains(&CrateType::Staticlib) {
            take_reachable(gathered, rustc)?;
        }
        return Ok(());
    }
    let spec = Spec::of(rustc, gathered)?;
    let arguments = rustc.link_args.iter().chain(&spec.link_args).map(OsString::as_os_str);
    let arguments = LinkArgs::read(arguments, &gathered.call.cwd)?;
    for path in &arguments.files {
        gathered.require(path, InputKind::LinkToolchain)?;
    }
    let linker = linker(rustc, gathered.call, toolchain, &arguments, spec.linker.as_deref(), gathered.world)?;
    for file in &linker.files {
        gathered.known(&file.path, file.digest, file.is_executable, InputKind::LinkToolchain);
    }
    for name in &linker.relative_names {
        gathered.take(name, InputKind::Native)?;
    }
    let mut names: BTreeSet<String> = take_reachable(gathered, rustc)?;
    let own = rustc.native_libraries.iter();
    let is_file = |kind: Option<&str>| !matches!(kind, Some("framework" | "raw-dylib" | "link-arg"));
    names.extend(own.filter(|library| is_file(library.kind.as_deref())).map(passed_name));
    names.extend(arguments.libraries.iter().cloned());
    let natives = Natives::new(rustc, &gathered.call.cwd, &arguments.dirs, &linker.library_dirs);
    for script in &arguments.scripts {
        for path in script_files(script, &gathered.call.cwd, &natives.dirs())? {
            gathered.require(&path, InputKind::LinkToolchain)?;
        }
    }
    natives.take_linked(gathered, names.iter().map(String::as_str), toolchain)
}

/// Names of native libraries that whoever links this crate has to find.
pub(super) fn passed_on(rustc: &RustcInvocation) -> Vec<String> {
    rustc.native_libraries.iter().filter(|library| is_passed_on(library)).map(passed_name).collect()
}

/// What the description of a target says of linking.
#[derive(Default)]
struct Spec {
    linker: Option<String>,
    link_args: Vec<OsString>,
}

impl Spec {
    fn of(rustc: &RustcInvocation, gathered: &Gathered<'_>) -> Result<Spec, Bypass> {
        let Some(TargetArgument::Spec(path)) = &rustc.target else { return Ok(Spec::default()) };
        let path = gathered.call.cwd.join(path);
        let why =
            |error: String| Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {error}", path.display()));
        let text = std::fs::read(&path).map_err(|error| why(error.to_string()))?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| why(error.to_string()))?;
        let mut spec = Spec { linker: json["linker"].as_str().map(str::to_owned), link_args: Vec::new() };
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

/// All texts in a value, in order.
fn strings(value: &Value, spec: &mut Spec) {
    match value {
        Value::String(text) => spec.link_args.push(OsStr::new(text).to_owned()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, spec)),
        Value::Object(values) => values.iter().for_each(|(_, value)| strings(value, spec)),
        _ => {}
    }
}
