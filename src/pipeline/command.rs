//! The compiler's command line on a miss, and what the client does besides running it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::answer::CompilerCommand;
use super::prepare::Prepared;
use crate::action::{Output, OutputKind, Task};
use crate::invocation::Call;
use crate::roles::Role;

/// Returns the command that makes the outputs of a call.
///
/// kache's remapping options come before the call's own: the last option that matches wins, so the
/// user's options keep their meaning (KEY-19). The options contain the workspace's path, and rustc
/// discards incremental state that was made under other options. So two checkouts that use one
/// target directory never reuse each other's incremental state.
pub(super) fn compiler_command(call: &Call, prepared: &Prepared, is_incremental: bool) -> CompilerCommand {
    if prepared.is_question {
        // A question runs exactly as it was written: clippy-driver answers `rustc -vV` as rustc, but
        // `rustc -v -V`, which means the same, as clippy.
        let argv = call.argv.clone();
        return CompilerCommand { argv, feed_stdin: call.stdin.is_some(), ..CompilerCommand::default() };
    }
    let remaps = prepared.remaps.iter().map(|remap| remap.argument());
    let mut argv: Vec<OsString> = vec![prepared.rustc.driver.clone().into_os_string()];
    let arguments: Vec<OsString> = match is_incremental {
        true => prepared.rustc.all_arguments().collect(),
        false => prepared.rustc.arguments().collect(),
    };
    let mut arguments = arguments.into_iter().peekable();
    // In `clippy-driver rustc …` the compiler's name stays in front of all options.
    if prepared.rustc.driver != prepared.rustc.rustc
        && arguments.peek().is_some_and(|first| *first == *prepared.rustc.rustc.as_os_str())
    {
        argv.extend(arguments.next());
    }
    argv.extend(remaps);
    argv.extend(arguments);
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
