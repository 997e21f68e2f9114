//! Parses a call and makes its key: command line, roots, inputs, query, task, in this order.

use std::io;
use std::path::Path;

use super::declared::{self, DeclaredInputs};
use super::phases::Phases;
use crate::action::{self, Query, Task};
use crate::compiler::{self, CallFacts, CompilerCall, GatherSettings, Gathered};
use crate::config::{CompileSettings, RuleInput};
use crate::events::Phase;
use crate::inputs::{DiskWorld, Inputs};
use crate::invocation::{Bypass, Call, CommandLine, Reason};
use crate::roles::Remap;

/// A compile whose key is known.
#[derive(Debug)]
pub struct Prepared {
    /// The parsed command line, as its compiler's adapter sees it.
    pub compiler: Box<dyn CompilerCall>,
    /// Everything that counts and is known before the compiler runs.
    pub inputs: Inputs,
    /// The key under which results are looked up.
    pub query: Query,
    /// What the compile makes, and where.
    pub task: Task,
    /// The command line for the run.
    pub command: CommandLine,
    /// The directories whose paths kache keeps out of outputs and messages.
    pub remaps: Vec<Remap>,
}

impl Prepared {
    /// Whether the call is a probe ([`crate::compiler::CallKind::is_probe`]).
    pub fn is_probe(&self) -> bool {
        self.compiler.facts().kind.is_probe()
    }
}

/// Parses the command line, and checks that the settings let the call be cached.
pub(super) fn parse_command(
    call: &Call,
    settings: &CompileSettings,
    phases: &mut Phases,
) -> Result<Box<dyn CompilerCall>, Bypass> {
    let parsed = compiler::parse(call, &read);
    phases.end(Phase::Parse);
    let parsed = parsed?;
    check_settings(parsed.facts(), call, settings)?;
    Ok(parsed)
}

/// Gathers and hashes the inputs, and makes the key. The error is the reason why there is none.
pub(super) fn key_command(
    compiler: Box<dyn CompilerCall>,
    world: &DiskWorld,
    call: &Call,
    settings: &CompileSettings,
    phases: &mut Phases,
) -> Result<Prepared, Bypass> {
    let declared = declared::read(call)?;
    let gathered = compiler.gather(call, world, &gather_settings(call, settings, &declared))?;
    let Gathered { roots, inputs, subject, remaps } = gathered;
    phases.end(Phase::Inputs);
    let query = action::compose(&subject, call, &roots, &inputs)
        .map_err(|error| Bypass::new(Reason::InternalError, error.to_string()))?;
    let task = compiler.task(call, &roots, &query, declared.files);
    phases.end(Phase::Key);
    Ok(Prepared { compiler, inputs, query, task, command: subject.command, remaps })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// Returns an error if the configuration says that this call is not cached.
fn check_settings(facts: CallFacts<'_>, call: &Call, settings: &CompileSettings) -> Result<(), Bypass> {
    if settings.disabled {
        return Err(Bypass::new(Reason::Disabled, ""));
    }
    if facts.is_linked && !settings.cache_executables {
        return Err(Bypass::new(Reason::Executable, ""));
    }
    let source = facts.source.map(|path| call.cwd.join(path));
    let variable = |name: &str| call.env.get(name).map(ToOwned::to_owned);
    let rule_input = RuleInput {
        crate_name: facts.name,
        source: source.as_deref(),
        argv: &call.argv,
        variable: &variable,
    };
    match settings.rule_against(&rule_input) {
        Some(rule) => Err(Bypass::new(Reason::Excluded, rule)),
        None => Ok(()),
    }
}

fn gather_settings(call: &Call, settings: &CompileSettings, declared: &DeclaredInputs) -> GatherSettings {
    let named = settings.key.variables(call.env.iter()).into_iter().map(|(name, _)| name);
    GatherSettings {
        base_dirs: settings.roots.base_dirs.clone(),
        remaps_paths: settings.roots.normalize,
        salt: settings.key.salt.clone(),
        key_env_vars: named.chain(declared.variables.iter().cloned()).collect(),
        extra_inputs: declared.files.clone(),
    }
}
