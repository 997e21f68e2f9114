//! A parsed call of rustc or clippy-driver, as the pipeline sees it.

use std::io;
use std::path::{Path, PathBuf};

use kache_cas::DigestFunction;

use super::accesses::ACCESS_RULES;
use super::command::{command_line, remaps};
use super::inputs::{self, RustcToolchain, is_keyed};
use super::invocation::{self, CrateSource, CrateType, ParsedCall, Probe, RustcInvocation, TargetArgument};
use super::locators::MacroArguments;
use super::task::task;
use crate::action::{KeySubject, PathTreatment, Query, Task};
use crate::compiler::{CallFacts, CallKind, CompilerCall, GatherSettings, Gathered, RootSettings};
use crate::inputs::{DiskWorld, Inputs, ToolchainFiles};
use crate::invocation::{Bypass, Call};
use crate::publish::{AccessRules, LocatorProver};
use crate::roles::{Remap, Roots};

/// A call whose command line is parsed and may be cached.
#[derive(Clone, Debug)]
pub struct RustcCall {
    pub(super) rustc: RustcInvocation,
    pub(super) kind: CallKind,
    /// The crate name of a trial compile, if it differs in every build.
    pub(super) random_name: Option<String>,
    library_dirs: Vec<PathBuf>,
    macros: MacroArguments,
}

impl RustcCall {
    /// Parses a call. An error says why it cannot be cached.
    pub fn parse(call: &Call, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<RustcCall, Bypass> {
        match invocation::parse(call, read) {
            ParsedCall::Compile(rustc) => Ok(RustcCall::new(*rustc, CallKind::Compile, None)),
            ParsedCall::Probe(probe) => {
                let Probe { rustc, is_question, random_name } = *probe;
                let kind = if is_question { CallKind::Question } else { CallKind::Trial };
                Ok(RustcCall::new(rustc, kind, random_name))
            }
            ParsedCall::Bypass(bypass) => Err(bypass),
        }
    }

    fn new(rustc: RustcInvocation, kind: CallKind, random_name: Option<String>) -> RustcCall {
        let library_dirs = rustc.crate_dirs().cloned().collect();
        let macros = macros(&rustc);
        RustcCall { rustc, kind, random_name, library_dirs, macros }
    }

    /// Returns what the key says of the call besides its inputs. `remaps` are empty if paths are kept.
    pub(crate) fn subject(
        &self,
        call: &Call,
        roots: &Roots,
        toolchain: &RustcToolchain,
        paths: PathTreatment,
        remaps: &[Remap],
    ) -> KeySubject {
        let target = match &self.rustc.target {
            None => toolchain.common.host.clone(),
            Some(TargetArgument::Triple(triple)) => triple.clone(),
            // The target description is an input file and counts by content.
            Some(TargetArgument::Spec(_)) => "custom".to_owned(),
        };
        KeySubject {
            command: command_line(self, call, roots, &toolchain.commit_hash, paths, remaps),
            outputs: self.rustc.outputs.iter().map(|declared| declared.path.clone()).collect(),
            target,
            reads_stdin: self.kind != CallKind::Question && self.rustc.source == CrateSource::Stdin,
            paths,
        }
    }
}

impl CompilerCall for RustcCall {
    fn facts(&self) -> CallFacts<'_> {
        let RustcCall { rustc, kind, library_dirs, .. } = self;
        let source = match &rustc.source {
            CrateSource::File(path) => Some(&**path),
            CrateSource::Stdin => None,
        };
        CallFacts {
            name: &rustc.crate_name,
            kind: *kind,
            mnemonic: "Rustc",
            source,
            is_linked: rustc.is_linked(),
            out_dir: rustc.out_dir.as_deref(),
            name_suffix: &rustc.extra_filename,
            incremental_dir: rustc.incremental.as_deref(),
            library_dirs,
        }
    }

    fn roots(&self, call: &Call, settings: &RootSettings) -> Roots {
        inputs::roots(&self.rustc, call, settings)
    }

    fn gather(&self, call: &Call, world: &DiskWorld, settings: &GatherSettings) -> Result<Gathered, Bypass> {
        let rustc = &self.rustc;
        let toolchain = inputs::toolchain(rustc, call, world)?;
        let sysroot = Some(toolchain.common.sysroot.clone());
        let roots = self.roots(call, &RootSettings { base_dirs: settings.base_dirs.clone(), sysroot });
        let is_remapped = settings.remaps_paths && !rustc.keeps_paths;
        let (paths, remaps) = match is_remapped {
            true => (PathTreatment::Remapped, remaps(&roots, &toolchain)),
            false => (PathTreatment::Kept, Vec::new()),
        };
        let subject = self.subject(call, &roots, &toolchain, paths, &remaps);
        let inputs = inputs::gather(rustc, call, &roots, toolchain.common, world, settings)?;
        Ok(Gathered { roots, inputs, subject, remaps })
    }

    fn toolchain_files(
        &self,
        call: &Call,
        world: &DiskWorld,
        function: DigestFunction,
    ) -> Result<ToolchainFiles, Bypass> {
        inputs::toolchain_files(&self.rustc, call, world, function)
    }

    fn task(&self, call: &Call, roots: &Roots, query: &Query, extra_dep_info: Vec<PathBuf>) -> Task {
        task(self, call, roots, query, extra_dep_info)
    }

    fn is_keyed(&self, name: &str, inputs: &Inputs, task: &Task) -> bool {
        is_keyed(name, &inputs.env, task.runs_foreign_code)
    }

    fn access_rules(&self) -> &'static AccessRules {
        ACCESS_RULES
    }

    fn locators(&self) -> &dyn LocatorProver {
        &self.macros
    }
}

/// Returns the facts about macros that the command line shows.
fn macros(rustc: &RustcInvocation) -> MacroArguments {
    /// Crates of the toolchain. They are part of its digest, and their macros read no variable.
    const TOOLCHAIN: &[&str] = &["alloc", "core", "proc_macro", "std", "test"];
    let mut without_path = rustc.externs.iter().filter(|external| external.path.is_none());
    MacroArguments {
        is_proc_macro: rustc.crate_types.contains(&CrateType::ProcMacro),
        uses_unknown_crates: without_path.any(|external| !TOOLCHAIN.contains(&&*external.name)),
    }
}
