//! The compiler's command line on a miss, and what the client does besides running it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::answer::CompilerCommand;
use super::prepare::Prepared;
use crate::action::{Output, OutputKind, Task};
use crate::compiler::CallKind;
use crate::invocation::Call;
use crate::roles::Role;

/// Returns the command that makes the outputs of a call.
pub(super) fn compiler_command(call: &Call, prepared: &Prepared, is_incremental: bool) -> CompilerCommand {
    if prepared.compiler.facts().kind == CallKind::Question {
        // A question runs exactly as it was written. Compilers answer questions that mean the same in different
        // ways: clippy-driver answers `rustc -vV` as rustc, and `rustc -v -V` as clippy.
        let argv = call.argv.clone();
        return CompilerCommand { argv, feed_stdin: call.stdin.is_some(), ..CompilerCommand::default() };
    }
    let argv = prepared.command.for_run(!is_incremental);
    let task = &prepared.task;
    CompilerCommand {
        argv,
        variables: Vec::new(),
        unlink: outputs_to_unlink(task, is_incremental),
        replacements: replacements(prepared),
        feed_stdin: call.stdin.is_some(),
    }
}

/// Returns the outputs that the client removes before the compiler runs (RST-11).
///
/// An incremental compile keeps the dep-info of the last one. `edited_source` reads it at the next
/// call, also if this compile fails before it writes a new one. A dep-info with a second hard link
/// is removed, because the compiler would write through to the other link.
fn outputs_to_unlink(task: &Task, is_incremental: bool) -> Vec<PathBuf> {
    let is_kept = |output: &&Output| {
        let has_one_link = || {
            fs::symlink_metadata(&output.path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
        };
        is_incremental && output.kind == OutputKind::DepInfo && has_one_link()
    };
    task.outputs.iter().filter(|output| !is_kept(output)).map(|output| output.path.clone()).collect()
}

/// Returns the replacements that turn remapped paths in messages back into real ones. Paths of the
/// workspace need none: their remapped form is relative to the workspace.
fn replacements(prepared: &Prepared) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_outside = |role| matches!(role, Role::Cargo | Role::Base(_));
    let outside = prepared.remaps.iter().filter(|remap| is_outside(remap.role));
    let with_slash = |mut path: Vec<u8>| {
        path.push(b'/');
        path
    };
    let pair = |from: PathBuf, to: &str| {
        (with_slash(to.as_bytes().to_vec()), with_slash(from.as_os_str().as_bytes().to_vec()))
    };
    outside.map(|remap| pair(remap.from.clone(), &remap.to)).collect()
}
