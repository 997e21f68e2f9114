//! Notes as an observer leaves them, and what remains of them.

use std::path::{Path, PathBuf};

use super::asked::{Asked, Known, LEFT_OUT, asked};
use super::refusal::Refusal;
use crate::observer::{Kind, Note, Outcome};
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
    let mark = kind.ends_with('*');
    let kind = match kind.trim_end_matches('*') {
        "dir" => Kind::Directory,
        "environ" => Kind::Environment,
        "start" => Kind::Started,
        "load" => Kind::Loaded,
        "read" => Kind::Read,
        "write" => Kind::Written,
        "look" => Kind::Looked,
        "list" => Kind::Listed,
        "env" => Kind::Variable,
        "update" => Kind::Updated,
        "link" => Kind::Link,
        "add" => Kind::Added,
        "hidden" => Kind::Hidden,
        "exec" => Kind::Executed,
        other => panic!("{other}"),
    };
    let outcome = match word() {
        "+" => Outcome::There,
        "-" => Outcome::Absent,
        _ => Outcome::Failed,
    };
    let (name, value) = word().split_once('=').unwrap_or((text.rsplit(' ').next().unwrap(), ""));
    Note { process, kind, outcome, name: name.into(), value: value.into(), mark }
}

fn all(notes: &[&str]) -> Result<Option<Vec<Asked>>, Refusal> {
    let notes: Vec<Note> = notes.iter().map(|text| note(text)).collect();
    let known = Known {
        compiler: Path::new(COMPILER),
        sysroot: Path::new("/sysroot"),
        crate_dirs: &[PathBuf::from("/ws/target/deps")],
        observer: &[PathBuf::from("/cache/observer")],
        temp_dir: Path::new("/tmp"),
        is_temporary: &|path| path.starts_with("/tmp"),
        outputs: &[PathBuf::from("/ws/target/deps/libx-1.rlib"), PathBuf::from("/ws/target/deps/x-1.d")],
        is_input: &|path| [Path::new("/ws/src/lib.rs"), Path::new("/usr/lib/crt1.o")].contains(&path),
        is_linker: &|path| path == Path::new(CC),
        plain: &|path| (normalise(path), Vec::new()),
        is_kernels: &|path| path.starts_with("/proc"),
        is_sealed_script: &|path| path == Path::new("/nix/store/cc"),
        may_read_all: &|path| path == Path::new("/ws/target/deps/libwalks.so"),
        is_keyed: &|name| name.starts_with("CARGO_PKG_"),
        variable: &|name| (name == "SET").then(|| b"value".to_vec()),
    };
    asked(&notes, &known).map(|asked| asked.map(|asked| asked.into_iter().collect()))
}

/// What remains of these notes of a compiler.
#[track_caller]
fn check(notes: &[&str], expected: &[Asked]) {
    let start = format!("start + {COMPILER}");
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(all(&[&[&*start], notes].concat()).unwrap().unwrap(), expected, "{notes:?}");
}

fn place(path: &str) -> Asked {
    Asked::Place(path.into())
}

fn absence(path: &str) -> Asked {
    Asked::Absence(path.into())
}

fn variable(name: &str, value: Option<&str>) -> Asked {
    Asked::Variable(name.to_owned(), value.map(Into::into))
}

#[test]
fn key_23_what_nothing_else_tells_of_remains() {
    check(&["read + /ws/secret.txt"], &[place("/ws/secret.txt")]);
    check(&["look + /ws/a/../secret.txt"], &[place("/ws/secret.txt")]);
    check(&["read - /ws/none"], &[absence("/ws/none")]);
    check(&["look - /ws/none", "read + /ws/some"], &[absence("/ws/none"), place("/ws/some")]);
    check(&["list + /ws/migrations"], &[Asked::Listing("/ws/migrations".into())]);
    check(&["list - /ws/migrations"], &[absence("/ws/migrations")]);
    // It may not be read, but it is there.
    check(&["read ! /ws/forbidden"], &[place("/ws/forbidden")]);
    check(&["env + SET=value", "env - UNSET"], &[variable("SET", Some("value")), variable("UNSET", None)]);
    check(&["write + /ws/log.txt"], &[Asked::Made("/ws/log.txt".into())]);
    // It could not be written, because of what is there or what is not.
    check(&["write ! /ws/log.txt"], &[Asked::Obstacle("/ws/log.txt".into())]);
    check(&["write - /none/log.txt"], &[absence("/none/log.txt")]);
    // It may have been read as well.
    check(&["update + /ws/db"], &[Asked::Updated("/ws/db".into())]);
    check(&["update - /ws/db"], &[absence("/ws/db")]);
    check(&["link + /ws/current"], &[Asked::Link("/ws/current".into())]);
    check(&["add + /usr/lib/libsqlite3.so.0"], &[Asked::Library("/usr/lib/libsqlite3.so.0".into())]);
    // A place where it looked in vain, and made something afterwards.
    check(
        &["look - /ws/x", "write + /ws/x", "read + /ws/x", "look - /ws/x"],
        &[absence("/ws/x"), Asked::Made("/ws/x".into())],
    );
    // Once, however often it was asked for.
    check(&["read + /ws/secret.txt", "look + /ws/secret.txt"], &[place("/ws/secret.txt")]);
}

#[test]
fn key_23_what_is_known_anyway_is_left_out() {
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
            // It makes sure that the directory is there.
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
        // Set by the program itself, or taken away.
        &["env + OWN=1", "env + SET=other", "env - SET"],
    ];
    for notes in cases {
        check(notes, &[]);
    }
    // Whether that is still there is for others to see.
    let own = "/ws/target/deps/rmetaX";
    let notes = [format!("write + {own}"), format!("read + {own}/lib.rmeta"), format!("list + {own}")];
    check(&notes.each_ref().map(|note| &**note), &[Asked::Made(own.into())]);
    assert!(LEFT_OUT.iter().all(|rule| !rule.what.is_empty() && !rule.why.is_empty()));
}

#[test]
fn key_23_names_that_only_look_known_remain() {
    check(&["read + /sysroot2/x"], &[place("/sysroot2/x")]);
    check(&["read + /ws/target/deps/data.json"], &[place("/ws/target/deps/data.json")]);
    check(&["read + /ws/target/deps/sub/liby.rlib"], &[place("/ws/target/deps/sub/liby.rlib")]);
    check(&["read + /tmp/left.by.others"], &[place("/tmp/left.by.others")]);
    check(&["write + /ws/target/deps/x-1.log"], &[Asked::Made("/ws/target/deps/x-1.log".into())]);
    check(&["read + /dev/shm/x", "read - /rustc/ws/x"], &[absence("/rustc/ws/x"), place("/dev/shm/x")]);
    check(
        &["read + /rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/x"],
        &[place("/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/x")],
    );
    check(&["env - CARGO_PKGX"], &[variable("CARGO_PKGX", None)]);
    check(&["read + /ws/src/lib.rs.orig"], &[place("/ws/src/lib.rs.orig")]);
}

#[test]
fn key_12_a_toolchain_in_usr_does_not_hide_the_rest_of_it() {
    let of_usr = |path: &str| {
        let known = Known {
            compiler: Path::new("/usr/bin/rustc"),
            sysroot: Path::new("/usr"),
            crate_dirs: &[],
            observer: &[PathBuf::from("/cache/observer")],
            temp_dir: Path::new("/tmp"),
            is_temporary: &|_| false,
            outputs: &[],
            is_input: &|_| false,
            is_linker: &|_| false,
            plain: &|path| (normalise(path), Vec::new()),
            is_kernels: &|_| false,
            is_sealed_script: &|_| false,
            may_read_all: &|_| false,
            is_keyed: &|_| false,
            variable: &|_| None,
        };
        let notes = [note("start + /usr/bin/rustc"), note(&format!("read + {path}"))];
        asked(&notes, &known).unwrap().unwrap().len()
    };
    assert_eq!(of_usr("/usr/lib/rustlib/x/lib/libstd.rlib"), 0);
    assert_eq!(of_usr("/usr/share/dict/words"), 1);
}

#[test]
fn key_04_without_the_compilers_own_notes_nothing_is_known() {
    assert_eq!(all(&[]), Ok(None));
    assert_eq!(all(&["start + /home/.cargo/bin/rustup", "read + /home/.rustup/settings.toml"]), Ok(None));
    // A proxy that becomes the compiler.
    let start = format!("start + {COMPILER}");
    let notes =
        ["start + /home/.cargo/bin/rustup", "read + /home/.rustup/settings.toml", &start, "read + /ws/a"];
    assert_eq!(all(&notes), Ok(Some(vec![place("/ws/a")])));
    assert!(all(&[&*start, "env - \u{e9}"]).is_ok());
}

#[test]
fn key_23_where_a_program_is_looked_for_counts() {
    check(&["exec + git", "exec ! none"], &[Asked::Program("git".into()), Asked::Program("none".into())]);
    check(&["exec + /usr/bin/git"], &[]);
    check(&["exec + /ws/tool", "exec ! /ws/tool"], &[Asked::Obstacle("/ws/tool".into())]);
}

#[test]
fn key_04_what_reads_by_itself_is_refused() {
    let start = format!("start + {COMPILER}");
    let refused = all(&[&*start, "hidden + nftw"]);
    assert!(matches!(&refused, Err(Refusal::UnknownInputs(why)) if why.contains("`nftw`")), "{refused:?}");
}

#[test]
fn key_23_what_a_macro_starts_counts_and_is_observed() {
    check(
        &[
            "2 start + /usr/bin/git=/ws",
            "2 load + /lib/libc.so.6",
            "2 read + /ws/.git/HEAD",
            "2 env - GIT_DIR",
        ],
        &[
            place("/usr/bin/git"),
            place("/lib/libc.so.6"),
            place("/ws/.git/HEAD"),
            variable("GIT_DIR", None),
            Asked::Environment,
            Asked::Stand("/ws".into()),
        ],
    );
}

#[test]
fn key_14_key_15_of_a_linker_what_it_reads_counts() {
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
        &[place(CC), place("/usr/lib/libbfd.so"), variable("LPATH", None)],
    );
    // The toolchain's own.
    check(
        &["2 start + /sysroot/lib/rustlib/bin/rust-lld", "2 look - /usr/lib/x", "2 env - LLD_VERSION"],
        &[variable("LLD_VERSION", None)],
    );
    // Where a library that it found unexpectedly might have been instead.
    check(
        &[
            "2 start + /sysroot/lib/rustlib/bin/rust-lld",
            "2 look - /one/libz.so",
            "2 read - /one/libz.a",
            "2 look - /one/libc.so",
            "2 read + /two/libz.so.1",
        ],
        &[absence("/one/libz.so"), absence("/one/libz.a"), place("/two/libz.so.1")],
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
            place("/ws/cc"),
            absence("/ws/flags"),
            variable("FLAGS", None),
            Asked::Environment,
            Asked::Stand("/ws".into()),
            place(CC),
        ],
    );
    // A linker's script in a store whose paths say what is in them does nothing with the name of
    // its directory.
    check(
        &["2 start + /bin/bash=/ws", "2 read + /nix/store/cc", "2 env - NIX_LDFLAGS"],
        &[place("/bin/bash"), place("/nix/store/cc"), variable("NIX_LDFLAGS", None), Asked::Environment],
    );
}

#[test]
fn key_07_a_directory_that_a_macro_asks_for_is_told_from_the_compilers() {
    check(&["dir + /ws"], &[]);
    check(&["dir* + /ws"], &[Asked::Stand("/ws".into())]);
}

#[test]
fn key_23_variables_that_a_macro_asks_for_are_told_from_the_compilers() {
    check(&["env - CI", "env - RUST_BACKTRACE"], &[]);
    check(&["env* - CI", "env* - PATH", "env* - CARGO_MAKEFLAGS"], &[variable("CI", None)]);
}

#[test]
fn key_23_what_may_walk_through_all_variables_reads_all_of_them() {
    check(&["add + /ws/target/deps/libquiet.so"], &[]);
    check(&["add + /ws/target/deps/libwalks.so"], &[Asked::Environment]);
    check(&["environ + "], &[Asked::Environment]);
}
