//! Parses a call and makes its key: command line, roots, inputs, query, task, in this order.

use std::io;
use std::path::{Path, PathBuf};

use super::declared::{self, DeclaredInputs};
use super::phases::Phases;
use crate::action::{self, KeySubject, PathTreatment, Query, Task};
use crate::compiler;
use crate::config::{CompileSettings, RuleInput};
use crate::events::Phase;
use crate::inputs::{self, DiskWorld, GatherSettings, Inputs, RootSettings, Toolchain};
use crate::invocation::rustc::{self, CrateSource, ParsedCall, Probe, RustcInvocation};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Remap, Roots};

/// A compile whose key is known.
#[derive(Debug)]
pub struct Prepared {
    /// The parsed command line.
    pub rustc: RustcInvocation,
    /// Whether the call is a probe: kache knows beforehand everything that it reads, and stores its
    /// failure as well as its success (RST-10).
    pub is_probe: bool,
    /// Whether the call is a probe that compiles nothing and only asks the compiler for its version
    /// or settings.
    pub is_question: bool,
    /// Everything that counts and is known before the compiler runs.
    pub inputs: Inputs,
    /// The key under which results are looked up.
    pub query: Query,
    /// What the compile makes, and where.
    pub task: Task,
    /// The remapping options that kache puts before the call's own, in this order.
    pub remaps: Vec<Remap>,
}

/// A command line that may be cached.
#[derive(Debug)]
pub(super) struct CacheableCommand {
    rustc: RustcInvocation,
    /// Set if the call is a probe.
    probe: Option<Probe>,
}

/// Parses the command line, and checks that the settings let the call be cached.
pub(super) fn parse_command(
    call: &Call,
    settings: &CompileSettings,
    phases: &mut Phases,
) -> Result<CacheableCommand, Bypass> {
    let parsed = rustc::parse(call, &read);
    phases.end(Phase::Parse);
    let (rustc, probe) = match parsed {
        ParsedCall::Compile(rustc) => (*rustc, None),
        ParsedCall::Probe(probe) => (probe.rustc.clone(), Some(*probe)),
        ParsedCall::Bypass(bypass) => return Err(bypass),
    };
    check_settings(&rustc, call, settings)?;
    Ok(CacheableCommand { rustc, probe })
}

/// Gathers and hashes the inputs, and makes the key. The error is the reason why there is none.
pub(super) fn key_command(
    CacheableCommand { rustc, probe }: CacheableCommand,
    world: &DiskWorld,
    call: &Call,
    settings: &CompileSettings,
    phases: &mut Phases,
) -> Result<Prepared, Bypass> {
    let subject = probe.as_ref().map_or_else(|| KeySubject::from(&rustc), KeySubject::from);
    let toolchain = inputs::toolchain(&rustc, call, world)?;
    let roots = inputs::roots(&rustc, call, &root_settings(settings, &toolchain));
    let declared = declared::read(call)?;
    let gather_settings = gather_settings(call, settings, &declared);
    let remaps = remaps(&rustc, settings, &roots, &toolchain);
    let inputs = inputs::gather(&rustc, call, &roots, toolchain, world, &gather_settings)?;
    phases.end(Phase::Inputs);
    let paths = if is_remapped(&rustc, settings) { PathTreatment::Remapped } else { PathTreatment::Kept };
    let query = action::compose(subject, call, &roots, &inputs, paths)
        .map_err(|error| Bypass::new(Reason::InternalError, error.to_string()))?;
    let task = compiler::rustc::task(subject, call, &roots, &query, declared.files);
    phases.end(Phase::Key);
    let is_probe = probe.is_some();
    let is_question = probe.is_some_and(|probe| probe.is_question);
    Ok(Prepared { rustc, is_probe, is_question, inputs, query, task, remaps })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// Returns an error if the configuration says that this call is not cached.
fn check_settings(rustc: &RustcInvocation, call: &Call, settings: &CompileSettings) -> Result<(), Bypass> {
    if settings.disabled {
        return Err(Bypass::new(Reason::Disabled, ""));
    }
    if rustc.is_linked() && !settings.cache_executables {
        return Err(Bypass::new(Reason::Executable, ""));
    }
    let source = match &rustc.source {
        CrateSource::File(path) => Some(call.cwd.join(path)),
        CrateSource::Stdin => None,
    };
    let variable = |name: &str| call.env.get(name).map(ToOwned::to_owned);
    let rule_input = RuleInput {
        crate_name: &rustc.crate_name,
        source: source.as_deref(),
        argv: &call.argv,
        variable: &variable,
    };
    match settings.rule_against(&rule_input) {
        Some(rule) => Err(Bypass::new(Reason::Excluded, rule)),
        None => Ok(()),
    }
}

fn root_settings(settings: &CompileSettings, toolchain: &Toolchain) -> RootSettings {
    RootSettings { base_dirs: settings.roots.base_dirs.clone(), sysroot: Some(toolchain.sysroot.clone()) }
}

fn gather_settings(call: &Call, settings: &CompileSettings, declared: &DeclaredInputs) -> GatherSettings {
    let named = settings.key.variables(call.env.iter()).into_iter().map(|(name, _)| name);
    GatherSettings {
        salt: settings.key.salt.clone(),
        key_env_vars: named.chain(declared.variables.iter().cloned()).collect(),
        extra_inputs: declared.files.clone(),
    }
}

fn is_remapped(rustc: &RustcInvocation, settings: &CompileSettings) -> bool {
    settings.roots.normalize && !rustc.keeps_paths
}

fn remaps(
    rustc: &RustcInvocation,
    settings: &CompileSettings,
    roots: &Roots,
    toolchain: &Toolchain,
) -> Vec<Remap> {
    if !is_remapped(rustc, settings) {
        return Vec::new();
    }
    let sources: PathBuf = toolchain.sysroot.join("lib/rustlib/src/rust");
    // The paths of the standard library's sources are remapped only if the sources are installed:
    // rustc then writes their real paths instead of `/rustc/<commit>`.
    let has_sources = !toolchain.commit_hash.is_empty() && sources.join("library/std/src/lib.rs").exists();
    roots.remaps(has_sources.then_some((&*sources, &*toolchain.commit_hash)))
}
