//! Notes as the observer writes them, and the accesses that remain of them.

use std::path::{Path, PathBuf};

use super::accesses::{CompileContext, EXCLUDED_ACCESSES, ObservedAccess, remaining_accesses};
use super::refusal::Refusal;
use crate::compiler::rustc::ACCESS_RULES;
use crate::observer::{Note, NoteKind, NoteOutcome};
use crate::roles::normalise;

const COMPILER: &str = "/sysroot/bin/rustc";
const CC: &str = "/usr/bin/gcc";

/// A note, as `kind outcome name=value`, with the process in front if it is not the compiler's, and a star
/// behind the kind if a proc macro asked.
fn note(text: &str) -> Note {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{text}"));
    let mut kind = word();
    let mut process = 1;
    if let Ok(number) = kind.parse() {
        (process, kind) = (number, word());
    }
    let is_from_late_library = kind.ends_with('*');
    let kind = match kind.trim_end_matches('*') {
        "dir" => NoteKind::Directory,
        "environ" => NoteKind::Environment,
        "start" => NoteKind::Started,
        "load" => NoteKind::Loaded,
        "read" => NoteKind::Read,
        "write" => NoteKind::Written,
        "look" => NoteKind::Looked,
        "list" => NoteKind::Listed,
        "env" => NoteKind::Variable,
        "update" => NoteKind::Updated,
        "link" => NoteKind::Link,
        "add" => NoteKind::Added,
        "unfollowed" => NoteKind::Unfollowed,
        "resolved" => NoteKind::Resolved,
        "hidden" => NoteKind::Hidden,
        "exec" => NoteKind::Executed,
        other => panic!("{other}"),
    };
    let outcome = match word() {
        "+" => NoteOutcome::There,
        "-" => NoteOutcome::Absent,
        _ => NoteOutcome::Failed,
    };
    let (name, value) = word().split_once('=').unwrap_or((text.rsplit(' ').next().unwrap(), ""));
    let (name, value) = (name.into(), value.into());
    Note { process, kind, outcome, name, value, has_dispatch: true, is_from_late_library }
}

fn accesses(notes: &[&str]) -> Result<Option<Vec<ObservedAccess>>, Refusal> {
    let notes: Vec<Note> = notes.iter().map(|text| note(text)).collect();
    let compile = CompileContext {
        rules: ACCESS_RULES,
        compiler: Path::new(COMPILER),
        sysroot: Path::new("/sysroot"),
        library_dirs: &[PathBuf::from("/ws/target/deps")],
        observer: &[PathBuf::from("/cache/observer")],
        temp_dir: Path::new("/tmp"),
        is_temporary: &|path| path.starts_with("/tmp"),
        outputs: &[PathBuf::from("/ws/target/deps/libx-1.rlib"), PathBuf::from("/ws/target/deps/x-1.d")],
        is_input: &|path| [Path::new("/ws/src/lib.rs"), Path::new("/usr/lib/crt1.o")].contains(&path),
        is_linker: &|path| path == Path::new(CC),
        normal_form: &|path| (normalise(path), Vec::new()),
        is_made_by_kernel: &|path| path.starts_with("/proc"),
        is_sealed_script: &|path| path == Path::new("/nix/store/cc"),
        may_read_environment: &|path| path == Path::new("/ws/target/deps/libwalks.so"),
        is_keyed: &|name| name.starts_with("CARGO_PKG_"),
        env_value: &|name| (name == "SET").then(|| b"value".to_vec()),
    };
    remaining_accesses(&notes, &compile).map(|accesses| accesses.map(|all| all.into_iter().collect()))
}

/// Checks which accesses remain of these notes of a compiler.
#[track_caller]
fn check(notes: &[&str], expected: &[ObservedAccess]) {
    let start = format!("start + {COMPILER}");
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(accesses(&[&[&*start], notes].concat()).unwrap().unwrap(), expected, "{notes:?}");
}

fn present(path: &str) -> ObservedAccess {
    ObservedAccess::Present(path.into())
}

fn absent(path: &str) -> ObservedAccess {
    ObservedAccess::Absent(path.into())
}

fn variable(name: &str, value: Option<&str>) -> ObservedAccess {
    ObservedAccess::Variable(name.to_owned(), value.map(Into::into))
}

#[test]
fn key_23_an_access_that_neither_the_key_nor_the_dep_info_has_remains() {
    check(&["read + /ws/secret.txt"], &[present("/ws/secret.txt")]);
    check(&["look + /ws/a/../secret.txt"], &[present("/ws/secret.txt")]);
    check(&["read - /ws/none"], &[absent("/ws/none")]);
    check(&["look - /ws/none", "read + /ws/some"], &[absent("/ws/none"), present("/ws/some")]);
    check(&["list + /ws/migrations"], &[ObservedAccess::Listing("/ws/migrations".into())]);
    check(&["list - /ws/migrations"], &[absent("/ws/migrations")]);
    // A file that may not be read is still present.
    check(&["read ! /ws/forbidden"], &[present("/ws/forbidden")]);
    check(&["env + SET=value", "env - UNSET"], &[variable("SET", Some("value")), variable("UNSET", None)]);
    check(&["write + /ws/log.txt"], &[ObservedAccess::Created("/ws/log.txt".into())]);
    // The file could not be written: something is in the way, or its directory is missing.
    check(&["write ! /ws/log.txt"], &[ObservedAccess::Obstacle("/ws/log.txt".into())]);
    check(&["write - /none/log.txt"], &[absent("/none/log.txt")]);
    // A file that was opened for writing and kept its content may have been read.
    check(&["update + /ws/db"], &[ObservedAccess::Updated("/ws/db".into())]);
    check(&["update - /ws/db"], &[absent("/ws/db")]);
    check(&["link + /ws/current"], &[ObservedAccess::Link("/ws/current".into())]);
    let link = |path: &str| ObservedAccess::Link(path.into());
    check(&["unfollowed + /ws/x"], &[present("/ws/x"), link("/ws/x")]);
    check(&["unfollowed ! /ws/x"], &[present("/ws/x"), link("/ws/x")]);
    check(&["unfollowed - /ws/x"], &[absent("/ws/x")]);
    // That a source is no link counts, although the source counts already.
    for kind in ["link", "unfollowed"] {
        check(&[&format!("{kind} + /ws/src/lib.rs")], &[link("/ws/src/lib.rs")]);
    }
    check(&["add + /usr/lib/libsqlite3.so.0"], &[ObservedAccess::Library("/usr/lib/libsqlite3.so.0".into())]);
    // The absence of a file counts if the compile looked for it before it created the file.
    check(
        &["look - /ws/x", "write + /ws/x", "read + /ws/x", "look - /ws/x"],
        &[absent("/ws/x"), ObservedAccess::Created("/ws/x".into())],
    );
    // An access counts once, however often it happened.
    check(&["read + /ws/secret.txt", "look + /ws/secret.txt"], &[present("/ws/secret.txt")]);
}

#[test]
fn key_23_accesses_that_the_key_covers_are_excluded() {
    let cases: &[&[&str]] = &[
        &["read + /sysroot/lib/rustlib/x/lib/libstd.rlib", "list + /sysroot/lib", "look - /sysroot/lib64"],
        &["read + /ws/src/lib.rs", "look + /ws/./src/lib.rs"],
        &[
            "list + /ws/target/deps",
            "read + /ws/target/deps/libother-2.rmeta",
            "look - /ws/target/deps/libother-2.so",
        ],
        &[
            "look + /ws/target/deps/libx-1.rmeta",
            "look - /ws/target/deps/x-1.d",
            "write + /ws/target/deps/libx-1.rlib",
            // rustc makes sure that the directory is there.
            "write ! /ws/target/deps",
        ],
        &["look + /tmp", "write + /tmp/x", "read + /tmp/x"],
        &["write + /ws/target/x.profraw"],
        &["read + /proc/cpuinfo"],
        &["read - /rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src/lib.rs"],
        &["load + /cache/observer/observer-0.so", "look + /cache/observer/observer-0.so"],
        &[
            "read + /usr/lib/locale/C/LC_ALL",
            "read + /usr/lib/x/gconv/gconv-modules",
            "look - /etc/malloc.conf",
        ],
        &["load + /lib/libc.so.6"],
        &["env + RUST_BACKTRACE=1", "env - RUSTC_LOG_LINES", "env - CI"],
        &["env - CARGO_PKG_NAME"],
        &["env - TERM", "env - KACHE_LOG", "env - LD_PRELOAD"],
        // The program itself set or removed the variable.
        &["env + OWN=1", "env + SET=other", "env - SET"],
    ];
    for notes in cases {
        check(notes, &[]);
    }
    // Only the creation remains: whether the file is still there is looked at later.
    let own = "/ws/target/deps/rmetaX";
    let notes = [format!("write + {own}"), format!("read + {own}/lib.rmeta"), format!("list + {own}")];
    check(&notes.each_ref().map(|note| &**note), &[ObservedAccess::Created(own.into())]);
    let mut rules = EXCLUDED_ACCESSES.iter().chain(ACCESS_RULES.excluded);
    assert!(rules.all(|rule| !rule.what.is_empty() && !rule.why.is_empty()));
}

#[test]
fn key_23_paths_that_only_look_like_excluded_ones_remain() {
    check(&["read + /sysroot2/x"], &[present("/sysroot2/x")]);
    check(&["read + /ws/target/deps/data.json"], &[present("/ws/target/deps/data.json")]);
    check(&["read + /ws/target/deps/sub/liby.rlib"], &[present("/ws/target/deps/sub/liby.rlib")]);
    check(&["read + /tmp/left.by.others"], &[present("/tmp/left.by.others")]);
    check(&["write + /ws/target/deps/x-1.log"], &[ObservedAccess::Created("/ws/target/deps/x-1.log".into())]);
    check(&["read + /dev/shm/x", "read - /rustc/ws/x"], &[absent("/rustc/ws/x"), present("/dev/shm/x")]);
    check(
        &["read + /rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/x"],
        &[present("/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/x")],
    );
    check(&["env - CARGO_PKGX"], &[variable("CARGO_PKGX", None)]);
    check(&["read + /ws/src/lib.rs.orig"], &[present("/ws/src/lib.rs.orig")]);
}

#[test]
fn key_12_a_toolchain_in_usr_does_not_hide_the_rest_of_it() {
    let of_usr = |path: &str| {
        let compile = CompileContext {
            rules: ACCESS_RULES,
            compiler: Path::new("/usr/bin/rustc"),
            sysroot: Path::new("/usr"),
            library_dirs: &[],
            observer: &[PathBuf::from("/cache/observer")],
            temp_dir: Path::new("/tmp"),
            is_temporary: &|_| false,
            outputs: &[],
            is_input: &|_| false,
            is_linker: &|_| false,
            normal_form: &|path| (normalise(path), Vec::new()),
            is_made_by_kernel: &|_| false,
            is_sealed_script: &|_| false,
            may_read_environment: &|_| false,
            is_keyed: &|_| false,
            env_value: &|_| None,
        };
        let notes = [note("start + /usr/bin/rustc"), note(&format!("read + {path}"))];
        remaining_accesses(&notes, &compile).unwrap().unwrap().len()
    };
    assert_eq!(of_usr("/usr/lib/rustlib/x/lib/libstd.rlib"), 0);
    assert_eq!(of_usr("/usr/share/dict/words"), 1);
}

#[test]
fn key_04_a_record_without_notes_of_the_compiler_is_no_observation() {
    assert_eq!(accesses(&[]), Ok(None));
    assert_eq!(
        accesses(&["start + /home/.cargo/bin/rustup", "read + /home/.rustup/settings.toml"]),
        Ok(None)
    );
    // A proxy that becomes the compiler.
    let start = format!("start + {COMPILER}");
    let notes =
        ["start + /home/.cargo/bin/rustup", "read + /home/.rustup/settings.toml", &start, "read + /ws/a"];
    assert_eq!(accesses(&notes), Ok(Some(vec![present("/ws/a")])));
    assert!(accesses(&[&*start, "env - \u{e9}"]).is_ok());
}

#[test]
fn key_23_the_search_for_a_program_counts() {
    check(
        &["exec + git", "exec ! none"],
        &[ObservedAccess::ProgramSearch("git".into()), ObservedAccess::ProgramSearch("none".into())],
    );
    check(&["exec + /usr/bin/git"], &[]);
    check(&["exec + /ws/tool", "exec ! /ws/tool"], &[ObservedAccess::Obstacle("/ws/tool".into())]);
}

#[test]
fn key_04_a_function_that_reads_past_the_observer_is_refused() {
    let start = format!("start + {COMPILER}");
    let refused = accesses(&[&*start, "hidden + nftw"]);
    assert!(matches!(&refused, Err(Refusal::UnknownInputs(why)) if why.contains("`nftw`")), "{refused:?}");
}

#[test]
fn key_23_a_program_that_a_macro_starts_counts_with_its_accesses() {
    check(
        &[
            "2 start + /usr/bin/git=/ws",
            "2 load + /lib/libc.so.6",
            "2 read + /ws/.git/HEAD",
            "2 env - GIT_DIR",
        ],
        &[
            present("/usr/bin/git"),
            present("/lib/libc.so.6"),
            present("/ws/.git/HEAD"),
            variable("GIT_DIR", None),
            ObservedAccess::Environment,
            ObservedAccess::WorkingDir("/ws".into()),
        ],
    );
}

#[test]
fn key_14_key_15_files_that_a_linker_reads_count() {
    let cc = format!("2 start + {CC}");
    check(
        &[
            &cc,
            "2 load + /usr/lib/libbfd.so",
            "2 read + /usr/lib/crt1.o",
            "2 look - /usr/lib/gcc/x",
            "2 env - PATH",
            "2 env - LPATH",
        ],
        &[present(CC), present("/usr/lib/libbfd.so"), variable("LPATH", None)],
    );
    // The toolchain's own linker.
    check(
        &["2 start + /sysroot/lib/rustlib/bin/rust-lld", "2 look - /usr/lib/x", "2 env - LLD_VERSION"],
        &[variable("LLD_VERSION", None)],
    );
    // An unexpected library counts with the paths at which the linker looked for it before.
    check(
        &[
            "2 start + /sysroot/lib/rustlib/bin/rust-lld",
            "2 look - /one/libz.so",
            "2 read - /one/libz.a",
            "2 look - /one/libc.so",
            "2 read + /two/libz.so.1",
        ],
        &[absent("/one/libz.so"), absent("/one/libz.a"), present("/two/libz.so.1")],
    );
}

#[test]
fn key_15_a_program_that_calls_the_linker_is_observed_like_any_other() {
    check(
        &[
            "2 start + /ws/cc=/ws",
            "2 look - /ws/flags",
            "2 env - FLAGS",
            &format!("2 start + {CC}=/ws"),
            "2 look - /x",
        ],
        &[
            present("/ws/cc"),
            absent("/ws/flags"),
            variable("FLAGS", None),
            ObservedAccess::Environment,
            ObservedAccess::WorkingDir("/ws".into()),
            present(CC),
        ],
    );
    // A script of the link toolchain in `/nix/store` does not use the name of its directory.
    check(
        &["2 start + /bin/bash=/ws", "2 read + /nix/store/cc", "2 env - NIX_LDFLAGS"],
        &[
            present("/bin/bash"),
            present("/nix/store/cc"),
            variable("NIX_LDFLAGS", None),
            ObservedAccess::Environment,
        ],
    );
}

#[test]
fn key_07_the_current_directory_counts_if_a_macro_reads_it() {
    check(&["dir + /ws"], &[]);
    check(&["dir* + /ws"], &[ObservedAccess::WorkingDir("/ws".into())]);
}

#[test]
fn key_23_variables_that_a_macro_reads_count_and_the_compilers_do_not() {
    check(&["env - CI", "env - RUST_BACKTRACE"], &[]);
    check(&["env* - CI", "env* - PATH", "env* - CARGO_MAKEFLAGS"], &[variable("CI", None)]);
}

#[test]
fn key_23_a_library_that_may_read_all_variables_makes_all_of_them_count() {
    check(&["add + /ws/target/deps/libquiet.so"], &[]);
    check(&["add + /ws/target/deps/libwalks.so"], &[ObservedAccess::Environment]);
    check(&["environ + "], &[ObservedAccess::Environment]);
}
