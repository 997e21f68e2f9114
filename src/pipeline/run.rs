//! What is run on a miss.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::answer::Run;
use super::prepare::Prepared;
use crate::action::{Output, OutputKind, Task};
use crate::invocation::Call;
use crate::restore::dates::place_of;
use crate::roles::Role;

/// The compiler with our remapping options in front of the call's own: the last one that
/// matches wins, so the user's keep their meaning (KEY-19). They hold the workspace's path, and
/// rustc takes no incremental state that was made under other ones: where two checkouts have
/// one target directory, neither gets the other's.
pub(super) fn on_a_miss(call: &Call, prepared: &Prepared, is_incremental: bool) -> Run {
    if prepared.is_question {
        // Exactly as it was asked: `clippy-driver rustc -vV` is answered as rustc, and
        // `clippy-driver rustc -v -V`, which means the same, as clippy.
        return Run { argv: call.argv.clone(), feed_stdin: call.stdin.is_some(), ..Run::default() };
    }
    let remaps = prepared.remaps.iter().map(|remap| remap.argument());
    let mut argv: Vec<OsString> = vec![prepared.rustc.driver.clone().into_os_string()];
    let arguments: Vec<OsString> = match is_incremental {
        true => prepared.rustc.all_arguments().collect(),
        false => prepared.rustc.arguments().collect(),
    };
    let mut arguments = arguments.into_iter().peekable();
    // `clippy-driver rustc …`: what it stands for comes first.
    if prepared.rustc.driver != prepared.rustc.rustc
        && arguments.peek().is_some_and(|first| *first == *prepared.rustc.rustc.as_os_str())
    {
        argv.extend(arguments.next());
    }
    argv.extend(remaps);
    argv.extend(arguments);
    let task = &prepared.task;
    Run {
        argv,
        variables: Vec::new(),
        unlink: unlinked(task, is_incremental),
        replacements: replacements(prepared),
        feed_stdin: call.stdin.is_some(),
    }
}

/// The outputs that are removed first (RST-11). By the dep-info of its last compile it is known
/// that a crate is being edited, also where the next one fails before it writes another; it is
/// only kept where no other name leads to it.
fn unlinked(task: &Task, is_incremental: bool) -> Vec<PathBuf> {
    let is_kept = |output: &Output, place: &Path| {
        let is_alone =
            || fs::symlink_metadata(place).is_ok_and(|found| found.is_file() && found.nlink() == 1);
        is_incremental && output.kind == OutputKind::DepInfo && is_alone()
    };
    let places = task.outputs.iter().map(|output| (output, place_of(task, output)));
    places.filter(|(output, place)| !is_kept(output, place)).map(|(_, place)| place).collect()
}

/// Remapped paths that lead nowhere are named as they are in what people read. What is
/// relative to the workspace is right as it is.
fn replacements(prepared: &Prepared) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_foreign = |role| matches!(role, Role::Cargo | Role::Base(_));
    let foreign = prepared.remaps.iter().filter(|remap| is_foreign(remap.role));
    let slashed = |mut path: Vec<u8>| {
        path.push(b'/');
        path
    };
    let pair = |from: PathBuf, to: &str| {
        (slashed(to.as_bytes().to_vec()), slashed(from.as_os_str().as_bytes().to_vec()))
    };
    foreign.map(|remap| pair(remap.from.clone(), &remap.to)).collect()
}

/// A command line without `-C incremental`, in every way of writing it. The client does the
/// same where it has nobody to ask.
pub(super) fn without_incremental(argv: &[OsString]) -> Vec<OsString> {
    let is_incremental = |value: &OsStr| value.as_bytes().starts_with(b"incremental=");
    let is_joined = |word: &OsStr| {
        let bytes = word.as_bytes();
        let value = bytes.strip_prefix(b"-C").or_else(|| bytes.strip_prefix(b"--codegen="));
        value.is_some_and(|value| is_incremental(OsStr::from_bytes(value)))
    };
    let mut kept = Vec::with_capacity(argv.len());
    let mut words = argv.iter().peekable();
    while let Some(word) = words.next() {
        let takes_next = matches!(word.as_bytes(), b"-C" | b"--codegen");
        if takes_next && words.peek().is_some_and(|next| is_incremental(next)) {
            words.next();
        } else if !is_joined(word) {
            kept.push(word.clone());
        }
    }
    kept
}
