//! The command line of rustc as one value, with kache's own remaps, and the way back from a stored action.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::call::RustcCall;
use super::inputs::RustcToolchain;
use crate::action::{PathTreatment, StoredCommand};
use crate::compiler::ArgumentStyle;
use crate::invocation::{Call, CommandLine, KeyedArgument};
use crate::roles::{Remap, Role, Roots};

/// How rustc's options are compared.
pub const ARGUMENT_STYLE: &ArgumentStyle = &ArgumentStyle {
    keyed: &["-C", "--codegen", "-Z", "--extern"],
    consequences: &["--out-dir", "-L", "-C metadata", "-C extra-filename"],
};

/// The directory of the standard library's sources in a toolchain.
const SOURCES: &str = "lib/rustlib/src/rust";

/// The beginning of the option that remaps a directory.
const REMAP: &str = "--remap-path-prefix=";

/// Returns the command line of a call. `remaps` are kache's own remaps; they come before the call's options,
/// because the last option that matches wins, so that the user's options keep their meaning (KEY-19).
///
/// The options contain the workspace's path, and rustc discards incremental state that was made under other
/// options. So two checkouts that use one target directory never reuse each other's incremental state.
pub(super) fn command_line(
    rustc_call: &RustcCall,
    call: &Call,
    roots: &Roots,
    commit_hash: &str,
    paths: PathTreatment,
    remaps: &[Remap],
) -> CommandLine {
    let rustc = &rustc_call.rustc;
    let hashed = rustc.presentation.hashed();
    let only_in_key = match hashed.is_empty() {
        true => Vec::new(),
        // rustc refuses `--json` without `--error-format=json`.
        false => vec!["--error-format=json".to_owned(), format!("--json={}", hashed.join(","))],
    };
    let names_compiler = rustc.driver != rustc.rustc
        && rustc.words.first().is_some_and(|word| word.argument() == *rustc.rustc.as_os_str());
    CommandLine {
        program: rustc.driver.clone(),
        leading_words: usize::from(names_compiler),
        added: remaps.iter().map(Remap::argument).collect(),
        added_in_key: match paths {
            PathTreatment::Remapped => keyed_remaps(call, roots, commit_hash),
            PathTreatment::Kept => Vec::new(),
        },
        words: rustc.words.clone(),
        only_in_key,
        random_name: rustc_call.random_name.clone(),
    }
}

/// Returns the remaps of a compile whose paths are kept out of its outputs.
pub(super) fn remaps(roots: &Roots, toolchain: &RustcToolchain) -> Vec<Remap> {
    let sources: PathBuf = toolchain.common.sysroot.join(SOURCES);
    // The paths of the standard library's sources are remapped only if the sources are installed:
    // rustc then writes their real paths instead of `/rustc/<commit>`.
    let has_sources = !toolchain.commit_hash.is_empty() && sources.join("library/std/src/lib.rs").exists();
    roots.remaps(has_sources.then_some((&*sources, &*toolchain.commit_hash)))
}

/// Returns kache's own remaps as they are in the key, by role. The real options depend on where the roots
/// lie, but their effect on outputs does not; therefore each role counts once and its path does not count.
/// The workspace counts for its own packages only: a package of the registry is the same for every workspace.
fn keyed_remaps(call: &Call, roots: &Roots, commit_hash: &str) -> Vec<KeyedArgument> {
    let is_of_workspace = roots.role_path(&call.cwd, Path::new("")).role() == Role::Workspace;
    let mut roles: Vec<Role> = roots.iter().map(|root| root.role).collect();
    roles.retain(|role| *role != Role::Workspace || is_of_workspace);
    roles.sort();
    let remap = |path: String, to: String| KeyedArgument { before: REMAP, path, after: format!("={to}") };
    let of_role = |role: Role| Some(remap(role.dir_name(), role.remapped_to()?));
    let mut remaps: Vec<KeyedArgument> = roles.into_iter().filter_map(of_role).collect();
    if !commit_hash.is_empty() {
        remaps.push(remap(format!("sysroot/{SOURCES}"), format!("/rustc/{commit_hash}")));
    }
    remaps
}

/// Returns the arguments of the call whose action this is, with the program first: the reverse of what
/// [`command_line`] and the key do to them. `None` if the checkout lacks a root that they name.
pub fn recalled_arguments(command: &StoredCommand<'_>) -> Option<Vec<OsString>> {
    let (program, rest) = command.arguments.split_first()?;
    // The key always holds those parts of `--json` that rustc hashes. If the compiler printed
    // messages, the presentation holds all options, and these replace the part.
    let (rest, presented) = match (rest, &command.presentation) {
        (rest, None) => (rest, Vec::new()),
        ([rest @ .., "--error-format=json", json], Some(framed)) => (rest, presentation(framed, json)?),
        (rest, Some(framed)) => (rest, presentation(framed, "")?),
    };
    let mut argv = vec![command.argument(program)?];
    for argument in rest {
        argv.push(command.argument(argument)?);
    }
    argv.extend(presented);
    Some(argv)
}

/// Decodes the options that decide how messages look, as they were given (`task` has framed them). The value of `--json` is stored without the name of the option and without `artifacts`;
/// whether the call had `artifacts` is taken from `keyed`, the `--json` argument in the key.
fn presentation(framed: &[u8], keyed: &str) -> Option<Vec<OsString>> {
    let announces = keyed.contains("artifacts");
    let mut rest = framed;
    let mut options = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (option, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let given = match (option, announces) {
            ([b'-', ..], _) => option.to_vec(),
            ([], true) => b"--json=artifacts".to_vec(),
            (words, true) => [b"--json=artifacts,", words].concat(),
            (words, false) => [b"--json=", words].concat(),
        };
        options.push(OsString::from_vec(given));
        rest = behind;
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::testing::{call, fake_toolchain};
    use crate::roles::Root;

    /// Returns the arguments of a run of this command line, in a workspace `/a`.
    fn run(line: &str, is_stored: bool) -> String {
        let argv = line.split_whitespace().map(OsString::from).collect();
        let call = Call { argv, ..call(Path::new("/a")) };
        let rustc_call = RustcCall::parse(&call, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        let roots = Roots::new([Root { role: Role::Workspace, dir: "/a".into() }]);
        let toolchain = RustcToolchain { common: fake_toolchain(), commit_hash: String::new() };
        let remaps = remaps(&roots, &toolchain);
        let subject = rustc_call.subject(&call, &roots, &toolchain, PathTreatment::Remapped, &remaps);
        let argv: Vec<String> =
            subject.command.for_run(is_stored).into_iter().map(|one| one.into_string().unwrap()).collect();
        argv.join(" ")
    }

    #[test]
    fn key_19_remaps_of_kache_come_before_the_options_of_the_call() {
        let (remap, options) = ("--remap-path-prefix=/a=.", "--crate-name x --crate-type lib src/lib.rs");
        let line = format!("rustc {options} --remap-path-prefix=/a=/b");
        assert_eq!(run(&line, true), format!("rustc {remap} {options} --remap-path-prefix=/a=/b"));
        assert_eq!(
            run(&format!("/t/clippy-driver /t/rustc {options}"), true),
            format!("/t/clippy-driver /t/rustc {remap} {options}")
        );
    }

    #[test]
    fn only_incremental_is_removed_from_the_arguments() {
        let (before, after) =
            ("--crate-name x --crate-type lib", "--error-format=json --cap-lints allow src/lib.rs");
        let line = format!("rustc {before} -C incremental=/a/target/debug/incremental {after}");
        assert_eq!(run(&line, true), format!("rustc --remap-path-prefix=/a=. {before} {after}"));
        assert_eq!(run(&line, false), line.replacen("rustc", "rustc --remap-path-prefix=/a=.", 1));
    }
}
